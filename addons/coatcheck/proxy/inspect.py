"""Inspect: what does this request ask for?

Law: what was understood is what is sent. The flow's head and body become the gateway's own serialisation here, so
that what mitmweb shows, policy decides and the release digests is exactly what may leave.
"""

import asyncio
import hashlib
from collections.abc import Awaitable

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.headers import forwarded, without
from coatcheck.mcp.call import Call, Json, RequestId
from coatcheck.mcp.inspect import Inspected, peek_id
from coatcheck.mcp.size import check_size
from coatcheck.proxy.answer import answer
from coatcheck.proxy.relay import Relay

LARGE = 16 * 1024
"""Bytes of a body above which it is worked on in a thread: the event loop is not to be held for long."""


class Inspect:
    """Reads the body as calls."""

    def __init__(self, exchanges: Exchanges, relay: Relay) -> None:
        self._exchanges = exchanges
        self._relay = relay

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Reads the request; see `inspect_flow`."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.error or not flow.live:
            return None
        if exchange.refusal is not None and exchange.is_mcp:
            # refused at its head: now that the body is here, the answer can name the caller's id
            if exchange.request_id is None:
                exchange.request_id = peek(flow.request.raw_content or b"")
            if exchange.endpoint is not None and exchange.caller is not None:
                self._relay.find_stream(exchange)
            flow.response = answer(exchange.refusal, exchange)
        return None if flow.response else inspect_flow(flow, exchange, self._relay)


def inspect_flow(flow: http.HTTPFlow, exchange: Exchange, relay: Relay) -> Awaitable[None] | None:
    """Parses the request as it is now, and rewrites it as it may leave; a large body in a thread. Raises `Refusal`.

    Called again after a hold, for a person may have edited the flow meanwhile.
    """
    request = flow.request
    body = request.raw_content or b""
    if exchange.is_mcp:
        try:
            relay.enter(exchange, request.headers, request.method)
        except Refusal:
            exchange.request_id = peek(body)
            raise
        if len(body) > LARGE:
            return _inspect_large(flow, exchange, body, relay)
    _rewrite(request, exchange, _read(exchange, request.method, request.path, body, relay))
    return None


async def _inspect_large(flow: http.HTTPFlow, exchange: Exchange, body: bytes, relay: Relay) -> None:
    request = flow.request
    before = (request.method, request.path)
    inspected = await asyncio.to_thread(_read, exchange, *before, body, relay)
    if (request.method, request.path) != before or request.raw_content is not body:
        raise Refusal("changed-while-read", "the request was changed while it was read", status=409)
    _rewrite(request, exchange, inspected)


def _read(exchange: Exchange, method: str, path: str, body: bytes, relay: Relay) -> Inspected:
    try:
        if exchange.is_mcp:
            check_size(body)
        inspected = _inspect(exchange, method, path, body, relay)
    except Refusal:
        exchange.request_id = peek(body) if exchange.is_mcp else None
        raise
    for call in inspected.calls:
        _ = call.digest  # worked out here, where it may take its time
    return inspected


def peek(body: bytes) -> RequestId | None:
    """The id to answer a refusal with; of a large body none is worth another reading."""
    return peek_id(body) if len(body) <= LARGE else None


def _rewrite(request: http.Request, exchange: Exchange, inspected: Inspected) -> None:
    assert exchange.target is not None
    assert exchange.server is not None
    exchange.inspected = inspected
    if len(inspected.ids) == 1:
        exchange.request_id = inspected.ids[0]
    fields = request.headers.fields
    if exchange.server.credential is not None:
        fields = tuple(without(fields, "authorization"))
    request.data.content = inspected.body
    request.data.http_version = b"HTTP/1.1"
    request.headers = http.Headers(
        forwarded(fields, authority=exchange.target.authority, body=inspected.body, method=request.method)
    )


def _content(exchange: Exchange, body: bytes) -> dict[str, Json]:
    """What a body makes of a call: an approval is for this one alone."""
    said = exchange.headers.get("content-type")
    return {"content_type": said, "body_sha256": hashlib.sha256(body).hexdigest()}


def _inspect(exchange: Exchange, method: str, path: str, body: bytes, relay: Relay) -> Inspected:
    plain, _, query = path.partition("?")
    if not exchange.is_mcp:
        content = _content(exchange, body) if body else {}
        call = Call(kind="http", method=method, name=plain, params={"query": query, "path": plain, **content})
        return Inspected(calls=(call,), body=body, kind="request", version=None, ids=())
    if method == "POST":
        return relay.read_post(exchange, body)
    if method not in ("GET", "DELETE"):
        raise Refusal("bad-method", f"an MCP endpoint does not know {method}", status=405)
    if body:
        raise Refusal("unexpected-body", f"{method} has no body here")
    call = Call(kind="mcp", method=method)
    return Inspected(calls=(call,), body=b"", kind="request", version=None, ids=())
