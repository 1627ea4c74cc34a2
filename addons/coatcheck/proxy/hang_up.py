"""Hang up: a connection that has ended is closed, and one that takes too long is ended.

Law: no socket outlives its connection. mitmproxy ends one by cancelling its task; where a hook is being waited for at
that moment, the cancellation comes at a point that leaves the socket open, for ever, at no cost to who made it so.
"""

from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.connection import Client, Connection
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils


class HangUp:
    """`handler_of` finds what mitmproxy handles a client's connection with, and those to servers on its behalf."""

    def __init__(self, handler_of: Callable[[Client], ConnectionHandler | None]) -> None:
        self._handler_of = handler_of

    def cut(self, client: Client) -> None:
        """Ends a client's connection, as mitmproxy does where one is idle too long."""
        if (handler := self._handler_of(client)) is not None:
            asyncio_utils.create_task(handler.on_timeout(), name="too slow", keep_ref=True, client=client.peername)

    def client_disconnected(self, client: Client) -> None:
        """Closes what is left of the client's connection; what was written to it is still sent."""
        self._close(client, client)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Closes what is left of a server's."""
        self._close(data.client, data.server)

    def _close(self, client: Client, connection: Connection) -> None:
        handler = self._handler_of(client)
        transport = handler.transports.get(connection) if handler is not None else None
        if transport is not None and transport.writer is not None:
            transport.writer.close()


def handler_of(client: Client) -> ConnectionHandler | None:
    """What mitmproxy handles a client's connection with, while there is one."""
    handler: ConnectionHandler | None = ctx.master.addons.get("proxyserver").connections.get(client.id)
    return handler


def handlers() -> list[ConnectionHandler]:
    """What mitmproxy handles all clients' connections with."""
    return list(ctx.master.addons.get("proxyserver").connections.values())
