"""No socket outlives its connection."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from coatcheck.proxy import hang_up
from coatcheck.proxy.hang_up import HangUp

CLIENT = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
SERVER = Server(address=("shop.test", 80))
DATA = ServerConnectionHookData(client=CLIENT, server=SERVER)


class End:
    """A real connection: this side's writer as mitmproxy keeps it, and the other side's socket."""

    def __init__(self, writer: asyncio.StreamWriter, other: socket.socket) -> None:
        self.writer = writer
        self.other = other

    @property
    def is_open(self) -> bool:
        return not self.writer.is_closing()

    async def ends(self) -> None:
        """Once the socket is gone, whatever became of what was written."""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                await self.writer.wait_closed()


@pytest.fixture
async def ends() -> AsyncIterator[dict[object, End]]:
    made = {}
    for connection in (CLIENT, SERVER):
        mine, other = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=mine)
        made[connection] = End(writer, other)
    yield made
    for end in made.values():
        end.other.close()
        end.writer.close()


@pytest.fixture
def hanging(ends) -> HangUp:
    """Knows both connections; mitmproxy has forgotten them by the time that they end."""
    transports = dict(ends)
    watchdog = SimpleNamespace(callback=None)
    made = HangUp(lambda client: SimpleNamespace(transports=transports, timeout_watchdog=watchdog))
    made.client_connected(CLIENT)
    made.server_connected(DATA)
    transports.clear()
    return made


async def test_what_is_left_of_a_connection_is_closed_and_no_other(ends, hanging: HangUp) -> None:
    hanging.server_disconnected(DATA)
    assert not ends[SERVER].is_open
    assert ends[CLIENT].is_open
    hanging.client_disconnected(CLIENT)
    await ends[CLIENT].ends()
    hanging.client_disconnected(CLIENT)


@pytest.mark.parametrize("takes", [0, 50_000])
async def test_who_stops_taking_what_was_written_keeps_no_socket(ends, hanging: HangUp, monkeypatch, takes) -> None:
    monkeypatch.setattr(hang_up, "LINGER_SECONDS", 0.05)
    end = ends[CLIENT]
    end.writer.write(b"a" * 5_000_000)
    hanging.client_disconnected(CLIENT)
    left = takes
    while left > 0:  # all of it is there already
        left -= len(end.other.recv(65536))
    await end.ends()


async def test_who_takes_it_slowly_gets_all_of_it(ends, hanging: HangUp, monkeypatch) -> None:
    looks = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *args: looks.append(args))
    end = ends[CLIENT]
    end.other.setblocking(False)
    end.writer.write(b"a" * 5_000_000)
    hanging.client_disconnected(CLIENT)
    taken = 0
    while looks:
        _, look, *args = looks.pop()
        for _ in range(4):
            with suppress(BlockingIOError):
                taken += len(end.other.recv(1_000_000))
            await asyncio.sleep(0)
        look(*args)
    while data := await asyncio.get_running_loop().sock_recv(end.other, 1_000_000):
        taken += len(data)
    assert taken == 5_000_000


def test_what_is_closed_already_needs_nothing() -> None:
    for handler in (
        None,
        SimpleNamespace(transports={}, timeout_watchdog=SimpleNamespace()),
        SimpleNamespace(transports={CLIENT: SimpleNamespace(writer=None)}, timeout_watchdog=SimpleNamespace()),
    ):
        hanging = HangUp(lambda client, handler=handler: handler)
        hanging.client_connected(CLIENT)
        hanging.server_connected(DATA)
        hanging.client_disconnected(CLIENT)
        hanging.server_disconnected(DATA)
        hanging.cut(CLIENT) if handler is None else None


async def test_it_is_noted_when_nothing_was_said_for_too_long() -> None:
    ended = asyncio.Event()

    async def on_timeout() -> None:
        ended.set()

    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    handler = SimpleNamespace(transports={}, timeout_watchdog=SimpleNamespace(callback=None), on_timeout=on_timeout)
    HangUp(lambda client: handler).client_connected(client)
    assert client.error is None
    await handler.timeout_watchdog.callback()
    assert ended.is_set()
    assert client.error == hang_up.TIMED_OUT
