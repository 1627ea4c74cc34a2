"""Hang up: a connection that has ended is closed, and one that takes too long is ended.

Law: no socket outlives its connection, but while the other side still takes what was written to it. mitmproxy ends one
by cancelling its task; where a hook is being waited for at that moment, the cancellation comes at a point that leaves
the socket open, for ever, at no cost to who made it so. And a socket that is closed stays until all is taken: who stops
reading would keep it, and what waits for them in memory, for ever.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.connection import Client, Connection
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils

LINGER_SECONDS = 30.0
"""How long the other side may take nothing of what was written to a connection that has ended."""
TIMED_OUT = "nothing was said for too long"


class HangUp:
    """`handler_of` finds what mitmproxy handles a client's connection with, and those to servers on its behalf."""

    def __init__(self, handler_of: Callable[[Client], ConnectionHandler | None]) -> None:
        self._handler_of = handler_of
        self._writers: WeakKeyDictionary[Connection, asyncio.StreamWriter] = WeakKeyDictionary()

    def cut(self, client: Client) -> None:
        """Ends a client's connection, as mitmproxy does where one is idle too long."""
        if (handler := self._handler_of(client)) is not None:
            asyncio_utils.create_task(handler.on_timeout(), name="too slow", keep_ref=True, client=client.peername)

    def client_connected(self, client: Client) -> None:
        """Remembers the client's socket, which mitmproxy forgets before it says that the connection has ended."""
        self._remember(client, client)
        if (handler := self._handler_of(client)) is not None:
            handler.timeout_watchdog.callback = partial(self._time_out, handler, client)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """The same of a server's."""
        self._remember(data.client, data.server)

    def client_disconnected(self, client: Client) -> None:
        """Closes what is left of the client's connection; what was written to it is still sent."""
        self._close(client)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Closes what is left of a server's."""
        self._close(data.server)

    @staticmethod
    async def _time_out(handler: ConnectionHandler, client: Client) -> None:
        """Nothing was said for too long: to what is under way it looks as if the client had left, so it is noted."""
        client.error = TIMED_OUT
        await handler.on_timeout()

    def _remember(self, client: Client, connection: Connection) -> None:
        handler = self._handler_of(client)
        transport = handler.transports.get(connection) if handler is not None else None
        if transport is not None and isinstance(transport.writer, asyncio.StreamWriter):
            self._writers[connection] = transport.writer

    def _close(self, connection: Connection) -> None:
        writer = self._writers.pop(connection, None)
        if writer is None:
            return
        writer.close()
        if writer.transport.get_write_buffer_size():
            _linger(writer.transport)


def _linger(transport: asyncio.WriteTransport, before: int | None = None) -> None:
    """Looks at a closed socket until it is empty, or not emptier than at the last look."""
    waiting = transport.get_write_buffer_size()
    if before is not None and waiting >= before:
        transport.abort()
    elif waiting:
        asyncio.get_running_loop().call_later(LINGER_SECONDS, _linger, transport, waiting)


def handler_of(client: Client) -> ConnectionHandler | None:
    """What mitmproxy handles a client's connection with, while there is one."""
    handler: ConnectionHandler | None = ctx.master.addons.get("proxyserver").connections.get(client.id)
    return handler


def handlers() -> list[ConnectionHandler]:
    """What mitmproxy handles all clients' connections with."""
    return list(ctx.master.addons.get("proxyserver").connections.values())
