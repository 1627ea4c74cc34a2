"""Inspect: what does this request ask for?

Law: what was understood is what is sent. The flow's head and body become the gateway's own serialisation here, so
that what mitmweb shows, policy decides and the release digests is exactly what may leave.
"""

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.headers import forwarded, without
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected, peek_id
from coatcheck.proxy.answer import answer
from coatcheck.proxy.relay import Relay


class Inspect:
    """Third stage: the body as calls."""

    def __init__(self, exchanges: Exchanges, relay: Relay) -> None:
        self._exchanges = exchanges
        self._relay = relay

    def request(self, flow: http.HTTPFlow) -> None:
        """Reads the request; see `inspect_flow`."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.error or not flow.live:
            return
        if exchange.refusal is not None and exchange.is_mcp:
            # refused at its head: now that the body is here, the answer can name the caller's id
            exchange.request_id = peek_id(flow.request.raw_content or b"")
            flow.response = answer(exchange.refusal, exchange)
        if not flow.response:
            inspect_flow(flow, exchange, self._relay)


def inspect_flow(flow: http.HTTPFlow, exchange: Exchange, relay: Relay) -> None:
    """Parses the request as it is now, and rewrites it as it may leave. Raises `Refusal`.

    Called again after a hold, for a person may have edited the flow meanwhile.
    """
    request = flow.request
    body = request.raw_content or b""
    assert exchange.target is not None
    assert exchange.server is not None
    try:
        if exchange.is_mcp:
            relay.enter(exchange, request.headers, request.method)
        exchange.inspected = _inspect(exchange, request.method, request.path, body, relay)
    except Refusal:
        exchange.request_id = peek_id(body) if exchange.is_mcp else None
        raise
    if len(exchange.inspected.ids) == 1:
        exchange.request_id = exchange.inspected.ids[0]
    fields = request.headers.fields
    if exchange.server.credential is not None:
        fields = tuple(without(fields, "authorization"))
    body = exchange.inspected.body
    request.data.content = body
    request.data.http_version = b"HTTP/1.1"
    request.headers = http.Headers(
        forwarded(fields, authority=exchange.target.authority, body=body, method=request.method)
    )


def _inspect(exchange: Exchange, method: str, path: str, body: bytes, relay: Relay) -> Inspected:
    plain, _, query = path.partition("?")
    if not exchange.is_mcp:
        call = Call(kind="http", method=method, name=plain, params={"query": query, "path": plain})
        return Inspected(calls=(call,), body=body, kind="request", version=None, ids=())
    if method == "POST":
        return relay.read_post(exchange, body)
    if method not in ("GET", "DELETE"):
        raise Refusal("bad-method", f"an MCP endpoint does not know {method}", status=405)
    if body:
        raise Refusal("unexpected-body", f"{method} has no body here")
    call = Call(kind="mcp", method=method)
    return Inspected(calls=(call,), body=b"", kind="request", version=None, ids=())
