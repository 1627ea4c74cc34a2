"""A server's stream is read in pieces, between which others get their turn; all else as quickly as it comes."""

import asyncio
from types import SimpleNamespace

import pytest
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.test import tflow

from coatcheck.exchange import Tunnel
from coatcheck.proxy.read_slowly import PIECE, ReadSlowly

FLOOD = b"id:1\n\n" * 60_000


class Scene:
    """One connection to a server, on which there is much to read."""

    def __init__(self, exchanges, exchange_of, *, tunnel: Tunnel | None = None) -> None:
        self.flow = tflow.tflow(resp=True)
        self.exchange = exchange_of(self.flow)
        self.reader = asyncio.StreamReader(limit=2**20)
        self.reader.feed_data(FLOOD)
        handler = SimpleNamespace(transports={self.flow.server_conn: ConnectionIO(reader=self.reader)})
        tunnels = {} if tunnel is None else {self.flow.client_conn: tunnel}
        self.stage = ReadSlowly(exchanges, tunnels, lambda _client: handler)
        self.stage.server_connected(SimpleNamespace(client=self.flow.client_conn, server=self.flow.server_conn))

    async def turns_while_reading(self, size: int) -> int:
        """How often something else had its turn until so much was read as mitmproxy reads."""
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        read = 0
        while read < size:
            read += len(await self.reader.read(65535))
        task.cancel()
        return turns


@pytest.fixture
def scene(exchanges, exchange_of):
    return lambda **more: Scene(exchanges, exchange_of, **more)


async def test_others_have_their_turn_between_two_pieces_of_a_stream(scene) -> None:
    one = scene()
    one.exchange.streaming = True
    one.stage.responseheaders(one.flow)
    assert await one.turns_while_reading(16 * PIECE) >= 15


async def test_before_the_head_of_an_answer_no_more_is_read_than_a_piece(scene) -> None:
    one = scene()
    assert len(await one.reader.read(65535)) == PIECE
    one.stage.responseheaders(one.flow)
    assert len(await one.reader.read(65535)) == 65535
    one.stage.response(one.flow)
    assert len(await one.reader.read(65535)) == PIECE


async def test_what_is_in_a_tunnel_that_is_not_opened_is_read_as_it_comes(scene) -> None:
    closed = scene(tunnel=Tunnel("shop.example", 443, exchange=scene().exchange))
    assert len(await closed.reader.read(65535)) == 65535
    opened = scene(tunnel=Tunnel("shop.example", 443))
    assert len(await opened.reader.read(65535)) == PIECE


async def test_a_connection_that_is_gone_is_let_be(scene) -> None:
    one = scene()
    one.stage._handler_of = lambda _client: None
    one.stage.responseheaders(one.flow)
    one.stage.response(one.flow)
