"""No socket outlives its connection."""

from types import SimpleNamespace

import pytest
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from coatcheck.proxy.hang_up import HangUp

CLIENT = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
SERVER = Server(address=("shop.test", 80))


def transport() -> SimpleNamespace:
    """A connection's ends, as mitmproxy keeps them."""
    closed = []
    return SimpleNamespace(writer=SimpleNamespace(close=lambda: closed.append(True)), closed=closed)


@pytest.fixture
def ends():
    return {CLIENT: transport(), SERVER: transport()}


def test_what_is_left_of_a_connection_is_closed_and_no_other(ends) -> None:
    hang_up = HangUp(lambda client: SimpleNamespace(transports=ends))
    hang_up.server_disconnected(ServerConnectionHookData(client=CLIENT, server=SERVER))
    assert ends[SERVER].closed
    assert not ends[CLIENT].closed
    hang_up.client_disconnected(CLIENT)
    assert ends[CLIENT].closed


def test_what_is_closed_already_needs_nothing(ends) -> None:
    data = ServerConnectionHookData(client=CLIENT, server=SERVER)
    for handler in (
        None,
        SimpleNamespace(transports={}),
        SimpleNamespace(transports={CLIENT: SimpleNamespace(writer=None)}),
    ):
        hang_up = HangUp(lambda client, handler=handler: handler)
        hang_up.client_disconnected(CLIENT)
        hang_up.server_disconnected(data)
        hang_up.cut(CLIENT) if handler is None else None
