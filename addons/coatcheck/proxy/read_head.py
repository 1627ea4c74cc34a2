"""Read heads: each request's head is checked as bytes before mitmproxy parses it, and must come in time.

Law: a head that is not plain, too large or too slow ends its connection; no hook would ever see it.
mitmproxy's `Http1Server.read_headers` repairs bare line feeds and folds, keeps a head of any size, and waits for ever.
"""

import asyncio
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from mitmproxy import http, tls
from mitmproxy.connection import Client
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, _http1
from mitmproxy.proxy.layers.http._http1 import Http1Server

from coatcheck.errors import INVALID_REQUEST, SERVER_FAILED, Refusal
from coatcheck.http.head import Place, check_bytes, is_whole
from coatcheck.proxy.answer import answer
from coatcheck.proxy.read_body import drop_input

HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0

type Commands = Iterator[commands.Command]

_original_read_headers = Http1Server.read_headers


class ReadHead:
    """Before the first stage. `cut` ends a client's connection; `refused` writes what no exchange stands for."""

    def __init__(self, cut: Callable[[Client], None], refused: Callable[[Refusal], None]) -> None:
        self._cut = cut
        self._refused = refused
        self._due: WeakKeyDictionary[Client, float] = WeakKeyDictionary()
        self._clocks: WeakKeyDictionary[Client, asyncio.TimerHandle] = WeakKeyDictionary()

    def install(self) -> None:
        """Puts this check into mitmproxy's HTTP/1 server; a later one takes its place."""
        reader = self

        def read_headers(connection: Http1Server, event: events.ConnectionEvent) -> Commands:
            return reader._read(connection, event)

        Http1Server.read_headers = read_headers  # type: ignore[method-assign,assignment]
        _http1.make_error_response = _error_response  # type: ignore[assignment]

    # -- the clock ---------------------------------------------------------------------------------------------

    def client_connected(self, client: Client) -> None:
        """A new connection must bring a head soon."""
        self._start(client, HEAD_SECONDS)

    def client_disconnected(self, client: Client) -> None:
        """Nothing more is expected."""
        self._stop(client)
        if (clock := self._clocks.pop(client, None)) is not None:
            clock.cancel()

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """What comes in the tunnel must begin soon."""
        self._start(flow.client_conn, HEAD_SECONDS)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """It has begun, also where it is relayed unread."""
        self._stop(data.client)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The body must follow in time, however slowly it trickles."""
        if flow.live and not flow.is_replay:
            self._start(flow.client_conn, BODY_SECONDS)

    def request(self, flow: http.HTTPFlow) -> None:
        """The body is here."""
        self._stop(flow.client_conn)

    def tls_failed_client(self, _data: tls.TlsData) -> None:
        """What should have been TLS was none, or the client ended it."""
        self._refused(Refusal("tls-failed", "the TLS handshake with the client failed"))

    def _start(self, client: Client, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = self._due[client] = loop.time() + seconds
        clock = self._clocks.get(client)
        if clock is None or clock.when() > due:
            if clock is not None:
                clock.cancel()
            self._clocks[client] = loop.call_at(due, self._ring, client)

    def _stop(self, client: Client) -> None:
        """The clock goes on: most requests are over before it rings, and need none of their own."""
        self._due.pop(client, None)

    def _ring(self, client: Client) -> None:
        del self._clocks[client]
        due = self._due.get(client)
        if due is None:
            return
        loop = asyncio.get_running_loop()
        if due > loop.time():
            self._clocks[client] = loop.call_at(due, self._ring, client)
        else:
            self._refused(Refusal("too-slow", "what was due did not come in time", status=408))
            self._cut(client)

    # -- the bytes ---------------------------------------------------------------------------------------------

    def _read(self, connection: Http1Server, event: events.ConnectionEvent) -> Commands:
        if not isinstance(event, events.DataReceived):
            yield from _original_read_headers(connection, event)
            return
        buffered, place = bytes(connection.buf), _place(connection)
        try:
            if not is_whole(buffered, place):
                if buffered and connection.context.client not in self._due:
                    self._start(connection.context.client, HEAD_SECONDS)
                return
            check_bytes(buffered, place)
        except Refusal as refusal:
            self._refused(refusal)
            yield commands.SendData(connection.conn, _closing(refusal))
            yield commands.CloseConnection(connection.conn)
            drop_input(connection)
            return
        self._stop(connection.context.client)
        yield from _original_read_headers(connection, event)
        if connection.request is None and connection.state == connection.done:
            # no hook hears of what only mitmproxy's parser could not read
            self._refused(_unread(400))


def _closing(refusal: Refusal) -> bytes:
    """An answer that ends its connection."""
    response = answer(refusal)
    response.headers["connection"] = "close"
    raw: bytes = http1.assemble_response(response)
    return raw


def _unread(status: int) -> Refusal:
    code = SERVER_FAILED if status >= 500 else INVALID_REQUEST
    reason = "server-failed" if status >= 500 else "bad-request"
    return Refusal(reason, "the exchange could not go on", status=status, code=code)


def _error_response(status: int, _message: str = "") -> bytes:
    """In place of mitmproxy's HTML page, which quotes what it could not read."""
    return _closing(_unread(status))


def _place(connection: Http1Server) -> Place:
    """Whether this connection speaks to the proxy itself."""
    layers = [layer for layer in connection.context.layers if isinstance(layer, HttpLayer)]
    return "proxy" if layers and layers[-1].mode is HTTPMode.regular else "origin"
