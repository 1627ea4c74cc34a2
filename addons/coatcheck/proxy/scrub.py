"""Scrub: what comes from a server, before the flow sees it.

Law: no event of an answer enters a flow with a secret of its request in it, however encoded; what cannot be read is
refused. A head is held back until its encoded body was decoded whole.
"""

from mitmproxy.http import Headers, Response
from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._base import HttpEvent

from coatcheck.errors import SERVER_FAILED, Refusal
from coatcheck.exchange import EncodedAnswer, Exchange
from coatcheck.http.decode import ENCODINGS, UndecodableBody, decode
from coatcheck.http.headers import without

DECODE_LIMIT = 2 * 1024 * 1024
"""Bytes of an encoded answer, before and after decoding: more would hold the event loop too long."""

_ONE_CONNECTION = frozenset(
    {b"alt-svc", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"trailer", b"upgrade"}
    | {b"proxy-authentication-info"}
)
_READS_BODY = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})


def scrub_event(exchange: Exchange, event: HttpEvent) -> list[HttpEvent]:
    """The events that may enter the flow. Raises `Refusal` where the answer must not."""
    match event:
        case http.ResponseHeaders():
            if event.response.status_code < 200:
                message = "the server sent an informational response"
                raise Refusal("server-failed", message, status=502, code=SERVER_FAILED)
            if event.response.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
                raise _unscannable()
            _scrub_head(exchange, event.response)
            encoding = content_encoding(event.response)
            if encoding == "identity" or event.end_stream:
                return [event]
            if encoding not in ENCODINGS or "event-stream" in event.response.headers.get("content-type", "").lower():
                raise _unscannable()
            exchange.encoded = EncodedAnswer(event, encoding)
            return []
        case http.ResponseData() if exchange.encoded is not None:
            exchange.encoded.body += event.data
            if len(exchange.encoded.body) > DECODE_LIMIT:
                raise _unscannable()
            return []
        case http.ResponseData():
            data = exchange.scrubbing.feed(event.data) if exchange.scrubbing else event.data
            return [http.ResponseData(event.stream_id, data)] if data else []
        case http.ResponseEndOfMessage() if exchange.encoded is not None:
            return _decoded(exchange, exchange.encoded, event)
        case http.ResponseEndOfMessage():
            tail = exchange.scrubbing.finish() if exchange.scrubbing else b""
            return [http.ResponseData(event.stream_id, tail), event] if tail else [event]
        case _:
            return []  # trailers are dropped


def _decoded(exchange: Exchange, encoded: EncodedAnswer, end: HttpEvent) -> list[HttpEvent]:
    """A whole encoded answer as identity: what is encoded can be neither scrubbed nor masked."""
    head = encoded.head
    assert isinstance(head, http.ResponseHeaders)
    try:
        body = decode(bytes(encoded.body), encoded.encoding, limit=DECODE_LIMIT)
    except UndecodableBody:
        raise _unscannable() from None
    if exchange.scrubber is not None:
        body = exchange.scrubber.whole(body, exchange.scrubbed)
    kept = without(head.response.headers.fields, "content-encoding", "content-length", "transfer-encoding")
    head.response.headers = Headers([*kept, (b"content-length", b"%d" % len(body))])
    return [head, http.ResponseData(end.stream_id, body), end] if body else [head, end]


def _unscannable() -> Refusal:
    message = "the server encoded its answer in a way that cannot be read"
    return Refusal("unscannable-response", message, status=502, code=SERVER_FAILED)


def _end_to_end(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """The same object, or the fields without what is meant for the connection they came over (RFC 9110 7.6.1) and
    without `alt-svc`, which would lead around the gateway. What says how the body is read stays, also where it is
    listed in `connection`; so does `close`.
    """
    if not _ONE_CONNECTION & {name.lower() for name, _ in fields}:
        return fields
    listed = {
        token.strip().lower() for name, value in fields if name.lower() == b"connection" for token in value.split(b",")
    }
    gone = _ONE_CONNECTION | (listed - _READS_BODY)
    kept = tuple(field for field in fields if field[0].lower() not in gone)
    return (*kept, (b"connection", b"close")) if b"close" in listed else kept


def _scrub_head(exchange: Exchange, response: Response) -> None:
    fields = response.headers.fields
    if (kept := _end_to_end(fields)) is not fields:
        response.headers = Headers(kept)
    scrubber = exchange.scrubber
    if scrubber is None:
        return
    exchange.scrubbing = scrubber.stream(exchange.scrubbed)
    together = b"\n".join([response.data.reason, *(part for field in kept for part in field)])
    if scrubber.whole(together, exchange.scrubbed) == together:
        return
    response.data.reason = scrubber.whole(response.data.reason, exchange.scrubbed)
    response.headers = Headers(
        [(scrubber.whole(name, exchange.scrubbed), scrubber.whole(value, exchange.scrubbed)) for name, value in kept]
    )


def content_encoding(response: Response) -> str:
    """The one content encoding of a response, lower case; several make one that nothing decodes."""
    values = [value for name, value in response.headers.fields if name.lower() == b"content-encoding"]
    return b",".join(values).decode("latin-1").strip().lower() or "identity"
