"""Read answers: each answer's head is checked as bytes before mitmproxy parses it.

Law: a head that is not plain or too large is withheld whole, and its server connection ends with it.
mitmproxy's `Http1Client.read_headers` takes any number for a status, control characters in headers, and a head of any
size.
"""

from collections.abc import Iterator

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Client

from coatcheck.errors import Refusal
from coatcheck.http.answer_head import check_bytes, is_whole
from coatcheck.proxy.read_body import drop_input
from coatcheck.proxy.refused import AnswerRefused

type Commands = Iterator[commands.Command]

_original_read_headers = Http1Client.read_headers


def install() -> None:
    """Puts the check into mitmproxy's HTTP/1 client."""
    Http1Client.read_headers = _read_headers  # type: ignore[method-assign,assignment]


def _read_headers(connection: Http1Client, event: events.ConnectionEvent) -> Commands:
    if connection.stream_id is not None and isinstance(event, events.DataReceived) and connection.buf:
        buffered = bytes(connection.buf)
        try:
            if not is_whole(buffered):
                return
            check_bytes(buffered)
        except Refusal as refusal:
            drop_input(connection)
            yield commands.CloseConnection(connection.conn)
            yield ReceiveHttp(AnswerRefused(connection.stream_id, refusal))
            return
    yield from _original_read_headers(connection, event)
