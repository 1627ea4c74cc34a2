"""Where a request says it comes from: `Origin` (RFC 6454), and `Host` at a gateway URL on this machine.

Law: a web page may not use the gateway in the name of who opened it: a request from another origin is refused, and
one that reached loopback by a foreign name (DNS rebinding) too. MCP demands it (basic/transports, "Security Warning").
"""

from urllib.parse import urlsplit

from coatcheck.errors import Refusal
from coatcheck.http.addresses import is_loopback
from coatcheck.http.target import parse_authority

_PORTS = {"http": 80, "https": 443}


def check_origin(origin: str | None, host: str | None) -> None:
    """Refuses (403, `origin-refused`) an `Origin` header that is not that of the `Host` header, `null` among them."""
    if origin is None:
        return
    try:
        parts = urlsplit(origin)
        port = _PORTS[parts.scheme]
        is_same = parse_authority(parts.netloc, default_port=port) == parse_authority(host or "", default_port=port)
    except (Refusal, ValueError, KeyError):
        is_same = False
    if not is_same:
        raise Refusal("origin-refused", "requests from another origin are not served", status=403)


def check_loopback_host(listener: str, host: str | None, *, audience: str = "") -> None:
    """At a listener on loopback, refuses (421, `misdirected`) a `Host` that is neither a name of loopback nor the
    host of the URL `audience`, by which a reverse proxy before the gateway may call it.

    `listener` is the host it was opened on. Elsewhere every name is taken: which ones lead there is not known here.
    """
    if not is_loopback(listener):
        return
    name, _ = parse_authority(host or "", default_port=80)
    if name not in (listener, urlsplit(audience).hostname) and not is_loopback(name):
        raise Refusal("misdirected", "the Host header is not a name of this machine", status=421)
