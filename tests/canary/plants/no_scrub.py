"""A fault to be found: what comes back is not scrubbed below the flow."""

from collections.abc import Sequence

from mitmproxy.proxy.layers.http._base import HttpEvent

from coatcheck.exchange import Exchange
from coatcheck.proxy import wire


def pass_on(_exchange: Exchange, event: HttpEvent) -> Sequence[HttpEvent]:
    return [event]


wire.scrub_event = pass_on  # type: ignore[assignment]
