"""A fault to be found: the swap changes the flow's own request, not a copy of it."""

from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.layers.http import RequestHeaders

from coatcheck.proxy.wire import WireGate

depart = WireGate._depart


def depart_in_place(gate: WireGate, flow: HTTPFlow, event: RequestHeaders) -> RequestHeaders | None:
    sent = depart(gate, flow, event)
    if sent is not None:
        flow.request.headers = sent.request.headers.copy()
    return sent


WireGate._depart = depart_in_place  # type: ignore[method-assign]
