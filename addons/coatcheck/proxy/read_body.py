"""Read bodies: where each ends is found by us, strictly, before mitmproxy takes any of it.

Law: a body that is not well-formed, or larger than a request may be, ends its exchange and its connection.
Law: what a client sends that nobody will read is dropped or, where it must be kept, bounded.
mitmproxy keeps lines of any length, crashes at trailers, and keeps whatever comes in while an answer is awaited.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NoReturn

import h11
from h11._readers import ChunkedReader, ContentLengthReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from coatcheck.errors import Refusal
from coatcheck.http.answer_head import bad_answer
from coatcheck.http.chunks import ChunkedBody
from coatcheck.http.headers import MAX_BODY_BYTES
from coatcheck.proxy.refused import AnswerRefused, RequestRefused

type Commands = Iterator[commands.Command]

MAX_WAITING_BYTES = 256 * 1024
"""Of what a client may send ahead while its request is being answered."""

_original_read_body = Http1Connection.read_body
_original_wait = Http1Connection.wait


class ReadBody:
    """`refused` writes a refusal that no exchange stands for."""

    def __init__(self, refused: Callable[[Refusal], None]) -> None:
        self._refused = refused

    def install(self) -> None:
        """Puts this into mitmproxy's HTTP/1; a later one takes its place."""
        reader = self

        def wait(connection: Http1Server, event: events.Event) -> Commands:
            return reader._wait(connection, event)

        Http1Server.read_body = _read_request_body  # type: ignore[method-assign,assignment]
        Http1Client.read_body = _read_answer_body  # type: ignore[method-assign,assignment]
        Http1Server.wait = wait  # type: ignore[method-assign,assignment]

    def _wait(self, connection: Http1Server, event: events.Event) -> Commands:
        if not isinstance(event, events.DataReceived) or len(connection.buf) <= MAX_WAITING_BYTES:
            yield from _original_wait(connection, event)
            return
        self._refused(Refusal("too-much-ahead", "the client sent too much before it was answered"))
        drop_input(connection)
        yield commands.CloseConnection(connection.conn)
        left = RequestProtocolError(connection.stream_id, "Client disconnected.", ErrorCode.CLIENT_DISCONNECTED)
        yield ReceiveHttp(left)


def drop_input(connection: Http1Connection) -> None:
    """From now on nothing that comes in is kept."""
    connection.buf = ReceiveBuffer()
    connection.state = partial(_dropping, connection)


def _dropping(connection: Http1Connection, event: events.Event) -> Commands:
    connection.buf = ReceiveBuffer()
    if isinstance(event, events.ConnectionClosed) and connection.conn.state is not ConnectionState.CLOSED:
        yield commands.CloseConnection(connection.conn)


def _read_request_body(connection: Http1Server, event: events.Event) -> Commands:
    reader = connection.body_reader
    if isinstance(reader, ChunkedReader):
        _replace_reader(connection, _Chunks(ChunkedBody(limit=MAX_BODY_BYTES, with_trailers=False)))
    elif isinstance(reader, ContentLengthReader) and reader._length > MAX_BODY_BYTES:  # noqa: SLF001 - no public way
        _replace_reader(connection, _Unread())
    try:
        yield from _original_read_body(connection, event)
    except Refusal as refusal:
        drop_input(connection)
        yield ReceiveHttp(RequestRefused(connection.stream_id, refusal))


def _read_answer_body(connection: Http1Client, event: events.Event) -> Commands:
    if isinstance(connection.body_reader, ChunkedReader):
        _replace_reader(connection, _Chunks(ChunkedBody(limit=None, with_trailers=True)))
    try:
        yield from _original_read_body(connection, event)
    except Refusal as refusal:
        assert connection.stream_id is not None
        drop_input(connection)
        yield commands.CloseConnection(connection.conn)
        yield ReceiveHttp(AnswerRefused(connection.stream_id, bad_answer(refusal.message)))


def _replace_reader(connection: Http1Connection, reader: "_Chunks | _Unread") -> None:
    connection.body_reader = reader  # type: ignore[assignment]


class _Chunks:
    """A body in chunks, in place of h11's reader. Its trailers, where it may have any, are dropped."""

    def __init__(self, body: ChunkedBody) -> None:
        self._body = body
        self._has_ended = False

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        if self._has_ended:
            return h11.EndOfMessage()
        data = self._body.feed(bytes(buffer.maybe_extract_at_most(len(buffer)) or b""))
        self._has_ended = self._body.is_whole
        if self._has_ended:
            buffer += self._body.rest
        if data:
            return h11.Data(data=data)
        return h11.EndOfMessage() if self._has_ended else None

    def read_eof(self) -> NoReturn:
        """Raises h11's error, as its own reader does."""
        raise h11.RemoteProtocolError("the connection ended within a chunked body")


class _Unread:
    """A body that was refused when its length was told: whatever comes of it is dropped."""

    def __call__(self, buffer: ReceiveBuffer) -> None:
        buffer.maybe_extract_at_most(len(buffer))

    def read_eof(self) -> NoReturn:
        """Raises h11's error, as its own reader does."""
        raise h11.RemoteProtocolError("the connection ended within the body")
