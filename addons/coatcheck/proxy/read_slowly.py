"""Read slowly: what comes from a server while a stream may begin or goes on is read in small pieces.

Law: between two pieces of a stream, everything else gets its turn: a server that sends very many small events holds
the event loop for no longer than one piece of them takes.
mitmproxy reads up to 64 KB at once, and goes on at once while there is more: thousands of events in one turn.
"""

import asyncio
from collections.abc import Callable, Mapping

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.server import ConnectionHandler

from coatcheck.exchange import Exchanges, Tunnel

PIECE = 16 * 1024
"""Bytes: as many as TLS may hold back until a record is whole (RFC 8446 section 5.1), so fewer would not help."""


class _Paced:
    """In place of a reader's `read`: in pieces until the head of an answer has come, and while a stream goes on."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._read = reader.read
        self.is_whole = False
        self.is_stream = False

    async def read(self, n: int = -1) -> bytes:
        """`StreamReader.read`."""
        if self.is_whole:
            return await self._read(n)
        if self.is_stream:
            await asyncio.sleep(0)
        return await self._read(PIECE)


class ReadSlowly:
    """Stands behind the stage that says which answers are streams. `handler_of` finds a client's connections."""

    def __init__(
        self,
        exchanges: Exchanges,
        tunnels: Mapping[object, Tunnel],
        handler_of: Callable[[Client], ConnectionHandler | None],
    ) -> None:
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._handler_of = handler_of

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Takes the reader's place, but in a tunnel that is not opened."""
        tunnel = self._tunnels.get(data.client)
        if tunnel is not None and tunnel.exchange is not None:
            return
        handler = self._handler_of(data.client)
        transport = handler.transports.get(data.server) if handler is not None else None
        if transport is not None and isinstance(transport.reader, asyncio.StreamReader):
            transport.reader.read = _Paced(transport.reader).read  # type: ignore[method-assign]

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The head has come: what follows is a stream, or may come as quickly as it likes."""
        exchange = self._exchanges.get(flow)
        is_stream = exchange is not None and exchange.streaming
        self._pace(flow, is_whole=not is_stream, is_stream=is_stream)

    def response(self, flow: http.HTTPFlow) -> None:
        """The next answer on this connection may be a stream."""
        self._pace(flow, is_whole=False, is_stream=False)

    def _pace(self, flow: http.HTTPFlow, *, is_whole: bool, is_stream: bool) -> None:
        handler = self._handler_of(flow.client_conn)
        transport = handler.transports.get(flow.server_conn) if handler is not None and flow.server_conn else None
        read = getattr(transport.reader, "read", None) if transport is not None else None
        paced = getattr(read, "__self__", None)
        if isinstance(paced, _Paced):
            paced.is_whole, paced.is_stream = is_whole, is_stream
