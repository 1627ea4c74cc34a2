"""Withhold: the head of a stream, until its first event shows what it is.

Law: where a server speaks the HTTP+SSE transport (MCP 2024-11-05) and its policy does not say that it may, its callers
are told so by a status, and get none of its stream. A client of that transport waits for its endpoint for ever.
"""

from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._base import HttpEvent

from coatcheck.exchange import Exchange, WithheldHead
from coatcheck.mcp.legacy_sse import FirstEvent, legacy_refused
from coatcheck.mcp.sse import SseError


def withhold(exchange: Exchange, events: list[HttpEvent]) -> list[HttpEvent]:
    """Those of an answer's events that may go on now, in their order. Raises `Refusal` for such a stream."""
    if exchange.withheld is None and not (events and _may_be_legacy(exchange, events[0])):
        return events
    out: list[HttpEvent] = []
    for event in events:
        out += _after(exchange, event)
    return out


def _after(exchange: Exchange, event: HttpEvent) -> list[HttpEvent]:
    withheld = exchange.withheld
    match event:
        case http.ResponseHeaders() if withheld is None:
            exchange.withheld = WithheldHead(event, FirstEvent(), bytearray())
            return []
        case http.ResponseData() if withheld is not None:
            return _after_data(exchange, withheld, event)
        case http.ResponseEndOfMessage() if withheld is not None:
            return [*_let_go(exchange, withheld, event.stream_id), event]
        case _:
            return [event]


def _may_be_legacy(exchange: Exchange, head: HttpEvent) -> bool:
    """Whether this may be a stream of the HTTP+SSE transport (MCP 2024-11-05) at a server that must not speak it.

    Its clients send neither a session nor a version; they can be told why they are refused before the head only.
    """
    if not isinstance(head, http.ResponseHeaders) or exchange.server is None or exchange.server.legacy_sse:
        return False
    is_get = exchange.is_mcp and [call.method for call in exchange.calls] == ["GET"]
    is_stream = head.response.headers.get("content-type", "").lower().startswith("text/event-stream")
    is_plain = not {"mcp-session-id", "mcp-protocol-version"} & exchange.headers.keys()
    return is_get and is_plain and is_stream and head.response.status_code == 200 and not head.end_stream


def _after_data(exchange: Exchange, withheld: WithheldHead, event: http.ResponseData) -> list[HttpEvent]:
    """The head and what came, once it is known not to be such a stream. Raises `Refusal` where it is one."""
    withheld.before.extend(event.data)
    try:
        is_legacy = withheld.first.is_endpoint(event.data)
    except SseError:
        is_legacy = False  # to be found out again where the stream is read
    if is_legacy:
        raise legacy_refused()
    return [] if is_legacy is None else _let_go(exchange, withheld, event.stream_id)


def _let_go(exchange: Exchange, withheld: WithheldHead, stream_id: int) -> list[HttpEvent]:
    assert isinstance(withheld.head, http.ResponseHeaders)
    exchange.withheld = None
    before = bytes(withheld.before)
    return [withheld.head, http.ResponseData(stream_id, before)] if before else [withheld.head]
