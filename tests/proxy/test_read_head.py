"""A head is checked as bytes before mitmproxy parses it, and it must come in time."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.http.headers import MAX_HEAD_BYTES
from coatcheck.proxy import read_head
from coatcheck.proxy.read_head import ReadHead

GOOD = b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\n{}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def told() -> SimpleNamespace:
    """What the reader told: clients it cut, refusals it wrote."""
    return SimpleNamespace(cut=[], refused=[], event=asyncio.Event())


@pytest.fixture
def reader(told) -> ReadHead:
    def cut(client: Client) -> None:
        told.cut.append(client)
        told.event.set()

    reader = ReadHead(cut, told.refused.append)
    reader.install()
    return reader


@pytest.fixture
def line(reader, wire):
    """A connection on which heads are read so, with the clock's hooks in it."""
    line = wire()
    line.on["requestheaders"] = reader.requestheaders
    line.on["request"] = lambda flow: (reader.request(flow), line.release(flow))
    return line


async def test_a_good_head_reaches_the_stages(line, told) -> None:
    line.ask(GOOD)
    assert [flow.request.path for flow in line.flows] == ["/mcp"]
    assert line.sent.startswith(b"POST /mcp HTTP/1.1\r\n")
    assert not told.refused


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        pytest.param(GOOD.replace(b"\r\n", b"\n"), 400, None, id="bare line feeds"),
        pytest.param(GOOD.replace(b"Host", b" Host"), 400, "folded-header", id="folded"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 505, "bad-version", id="old version"),
        pytest.param(GOOD.replace(b"/mcp", b"http://shop.test/mcp"), 400, "bad-request-target", id="a URL"),
        pytest.param(b"\x16\x03\x01\x00\x05hello", 400, "not-http", id="not HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES, 431, "head-too-large", id="without end"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431, "head-too-large", id="many headers"),
    ],
)
async def test_a_bad_head_ends_its_connection_and_no_hook_sees_it(line, told, head, status, reason) -> None:
    line.ask(head)
    start, _, body = line.received.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in start
    assert json.loads(body)["id"] is None
    (refusal,) = told.refused
    assert json.loads(body)["error"]["data"]["reason"] == refusal.reason == (reason or refusal.reason)
    assert line.client.state is ConnectionState.CLOSED
    assert not line.flows
    assert line.sent == b""


async def test_nothing_that_follows_a_refused_head_is_read(line, told) -> None:
    line.ask(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"))
    line.ask(GOOD)
    assert not line.flows
    assert line.sent == b""
    assert len(told.refused) == 1


async def test_each_head_of_a_connection_is_checked(line, told) -> None:
    line.ask(GOOD)
    line.answer(ANSWER)
    line.ask(GOOD)
    line.answer(ANSWER)
    line.ask(GOOD.replace(b"Host", b" Host"))
    assert len(line.flows) == 2
    assert line.sent.count(b"POST") == 2
    assert [refusal.reason for refusal in told.refused] == ["folded-header"]


async def test_a_head_that_came_with_the_one_before_is_checked_too(line, told) -> None:
    line.ask(GOOD + GOOD.replace(b"Host", b" Host"))
    line.answer(ANSWER)
    assert len(line.flows) == 1
    assert [refusal.reason for refusal in told.refused] == ["folded-header"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=6).map(sorted))
def test_what_is_read_does_not_depend_on_how_the_network_split_it(reader, wire, cuts) -> None:
    async def ask() -> None:
        line = wire()
        line.on["request"] = lambda flow: (reader.request(flow), line.release(flow))
        for start, end in zip([0, *cuts], [*cuts, len(GOOD)], strict=True):
            if start != end:
                line.ask(GOOD[start:end])
        assert line.sent.endswith(b"\r\n\r\n{}")
        assert len(line.flows) == 1
        assert not reader._due

    asyncio.run(ask())


def test_a_head_at_the_proxy_has_another_form(reader, wire, told) -> None:
    async def ask(mode: HTTPMode, target: bytes) -> int:
        line = wire()
        line.layer.mode = mode
        line.ask(b"GET %s HTTP/1.1\r\nHost: shop.test\r\n\r\n" % target)
        return len(line.flows)

    url = b"http://shop.test/mcp"
    asked = [(HTTPMode.regular, url), (HTTPMode.regular, b"/mcp"), (HTTPMode.transparent, b"/mcp")]
    assert [asyncio.run(ask(*one)) for one in [*asked, (HTTPMode.transparent, url)]] == [1, 0, 1, 0]
    assert {refusal.reason for refusal in told.refused} == {"bad-request-target"}


# -- the clock --------------------------------------------------------------------------------------------------------


async def test_a_client_that_brings_no_head_is_cut(reader, told, monkeypatch) -> None:
    monkeypatch.setattr(read_head, "HEAD_SECONDS", 0.01)
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    reader.client_connected(client)
    await asyncio.wait_for(told.event.wait(), 5)
    assert told.cut == [client]


async def test_a_head_that_trickles_is_cut_however_often_a_byte_comes(line, reader, told, monkeypatch) -> None:
    monkeypatch.setattr(read_head, "HEAD_SECONDS", 0.05)
    reader.client_connected(line.client)
    for byte in GOOD[:30]:
        line.ask(bytes([byte]))
        await asyncio.sleep(0)
    clock = reader._clocks[line.client]
    assert clock.when() - asyncio.get_running_loop().time() <= 0.05
    await asyncio.wait_for(told.event.wait(), 5)
    assert told.cut == [line.client]


async def test_a_head_that_came_stops_the_clock_and_the_next_one_starts_it(line, reader, told) -> None:
    reader.client_connected(line.client)
    assert line.client in reader._due
    line.ask(GOOD)
    assert line.client not in reader._due
    line.answer(ANSWER)
    assert line.client not in reader._due
    line.ask(GOOD[:5])
    assert line.client in reader._due
    line.ask(GOOD[5:])
    assert line.client not in reader._due
    assert not told.cut


async def test_a_body_has_its_own_time(line, reader, told, monkeypatch) -> None:
    monkeypatch.setattr(read_head, "BODY_SECONDS", 0.01)
    line.ask(GOOD[:-1])
    assert line.client in reader._due
    await asyncio.wait_for(told.event.wait(), 5)
    assert told.cut == [line.client]


async def test_a_body_that_came_stops_the_clock(line, reader) -> None:
    line.ask(GOOD[:-1])
    line.ask(GOOD[-1:])
    assert line.client not in reader._due


async def test_a_clock_that_goes_on_cuts_only_who_is_late(reader, told, monkeypatch) -> None:
    monkeypatch.setattr(read_head, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(read_head, "BODY_SECONDS", 0.02)
    punctual, late = tflow.tflow(), tflow.tflow()
    punctual.live = late.live = True
    reader.client_connected(punctual.client_conn)
    reader.request(punctual)  # in time: its clock is left to ring
    reader.client_connected(late.client_conn)
    reader.requestheaders(late)  # the body's time is longer than what the clock was set to
    reader.requestheaders(punctual)
    reader.request(punctual)
    await asyncio.wait_for(told.event.wait(), 5)
    assert told.cut == [late.client_conn]


async def test_a_shorter_time_does_not_wait_for_a_clock_that_was_set_longer(reader, told, monkeypatch) -> None:
    monkeypatch.setattr(read_head, "BODY_SECONDS", 3600)
    monkeypatch.setattr(read_head, "HEAD_SECONDS", 0.01)
    flow = tflow.tflow()
    flow.live = True
    reader.requestheaders(flow)
    reader.request(flow)
    reader.client_connected(flow.client_conn)
    await asyncio.wait_for(told.event.wait(), 5)
    assert told.cut == [flow.client_conn]


async def test_a_client_that_left_is_not_waited_for(line, reader, told) -> None:
    reader.client_connected(line.client)
    reader.client_disconnected(line.client)
    assert not reader._clocks


async def test_a_refused_head_leaves_no_clock_behind(line, reader) -> None:
    reader.client_connected(line.client)
    line.ask(b"nonsense\r\n\r\n")
    reader.client_disconnected(line.client)
    assert not reader._clocks


async def test_a_loaded_or_replayed_flow_has_no_clock(reader, flow) -> None:
    flow.is_replay = "request"
    reader.requestheaders(flow)
    flow.is_replay, flow.live = None, False
    reader.requestheaders(flow)
    assert not reader._clocks
    flow.live = True
    reader.requestheaders(flow)
    assert flow.client_conn in reader._due


def test_a_refusal_is_written_without_what_was_read(told) -> None:
    assert "sk-live" not in str(Refusal("not-http", "this is not a request of HTTP/1.1"))
