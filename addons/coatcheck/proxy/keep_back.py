"""Keep back: the caller's token, where it stands in what the caller sends.

Law: no request goes on that holds the token it was shown with, or that its tunnel was opened with, in any form that
`identity/trace.py` knows; what holds it is taken out of the flow, also where the request is refused for another reason.
Any other token is an argument like any other.
"""

import asyncio
from collections.abc import Awaitable

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.proxy.inspect import LARGE, peek


class KeepBack:
    """Looks through the body, which nothing has read yet."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Raises `Refusal` (401, `token-astray`) where the request is not refused already; a large body in a thread."""
        exchange, body = self._exchanges.get(flow), flow.request.raw_content
        if exchange is None or not exchange.traces or not body:
            return None
        if len(body) > LARGE:
            return self._keep_large(flow, exchange, body)
        self._keep(flow, exchange, body, is_in=_is_in(exchange, body))
        return None

    async def _keep_large(self, flow: http.HTTPFlow, exchange: Exchange, body: bytes) -> None:
        self._keep(flow, exchange, body, is_in=await asyncio.to_thread(_is_in, exchange, body))

    @staticmethod
    def _keep(flow: http.HTTPFlow, exchange: Exchange, body: bytes, *, is_in: bool) -> None:
        if not is_in:
            return
        if exchange.is_mcp:
            exchange.request_id = peek(body)
        flow.request.content = b""
        if not flow.response:
            raise astray()


def keep_back_head(flow: http.HTTPFlow, exchange: Exchange) -> bool:
    """Whether the token stands in the head, elsewhere than where it was found and taken; it is removed from there."""
    request, traces = flow.request, exchange.traces
    whole = b"\n".join([request.data.path, *(part for pair in request.headers.fields for part in pair)])
    if not any(trace.is_in(whole) for trace in traces):
        return False
    kept = [each for each in request.headers.fields if not any(trace.is_in(b": ".join(each)) for trace in traces)]
    for name, _ in set(request.headers.fields) - set(kept):
        exchange.headers.pop(name.decode("latin-1").lower(), None)
    request.headers.fields = tuple(kept)
    if any(trace.is_in(request.data.path) for trace in traces):
        request.path = "/***"
    return True


def astray() -> Refusal:
    """What is said of a token for this gateway in another place than its own."""
    message = "a token for this gateway stands elsewhere than in Proxy-Authorization or as Authorization's bearer token"
    return Refusal.unauthenticated("token-astray", message)


def _is_in(exchange: Exchange, body: bytes) -> bool:
    return any(trace.is_in(body) for trace in exchange.traces)
