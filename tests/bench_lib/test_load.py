"""Tests of bench_lib/load.py, measure.py and upstream.py: the real server and the real load, without a proxy."""

import asyncio
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_lib.load import BenchError, Way, dechunk
from bench_lib.measure import cpu_seconds, measure
from bench_lib.upstream import EVENTS, Upstream, answer_template, read_stamp, stamp

CREDENTIAL = "sk-bench-0123456789"


async def serve_upstream() -> tuple[asyncio.Server, Way]:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(CREDENTIAL.encode()), "127.0.0.1", 0)
    return server, Way(server.sockets[0].getsockname()[1], authorization=f"Bearer {CREDENTIAL}")


@pytest.mark.parametrize("connections", [1, 4])
async def test_a_window_counts_checked_answers(connections: int):
    server, way = await serve_upstream()
    async with server:
        measured = await measure(way, "lookup", connections=connections, seconds=0.1, pid=os.getpid())
    assert len(measured.window.latencies) > 10
    assert min(measured.window.latencies) > 0
    assert measured.cpu_seconds is not None
    assert measured.cpu_seconds >= 0


async def test_a_stream_gives_the_delay_of_each_event():
    server, way = await serve_upstream()
    async with server:
        measured = await measure(way, "follow", connections=1, seconds=0.3, pid=None)
    window = measured.window
    assert len(window.event_delays) == EVENTS * len(window.first_event_delays) > 0
    assert all(0 < delay < 1_000_000_000 for delay in window.event_delays)
    assert measured.cpu_seconds is None


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"authorization": "Bearer coat_bench_key"}, "401"),
        ({"authorization": None}, "401"),
        ({"masked": True}, "personal data came through"),
        ({"port": 9}, "did not open"),
    ],
    ids=["placeholder not swapped", "no credential", "not masked", "nobody listens"],
)
async def test_a_wrong_answer_ends_the_run(wrong: dict, what: str):
    server, way = await serve_upstream()
    async with server:
        with pytest.raises(BenchError, match=what):
            await measure(replace(way, **wrong), "lookup", connections=1, seconds=0.1, pid=None)


class Broken(asyncio.Protocol):
    """Answers each request with the next of `answers`, whatever was asked."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        body = self.answers.pop(0)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def good(request_id: int, more: bytes = b"") -> bytes:
    before, after = answer_template()
    return before + str(request_id).encode() + after + more


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        ([good(1_000_001), good(1_000_001)], "another request"),
        ([good(1_000_001), good(1_000_002, b" ")], "bytes after one of"),
        ([good(1_000_001).replace(b"every-order-ends-here", b"every-order-ends-somewhere")], "without its end"),
        ([good(1_000_001).replace(b"buyer-01", b"b*******").replace(b"4000000042420010", b"*")], "data is missing"),
    ],
    ids=["another id", "another length", "cut short", "masked without being asked"],
)
async def test_an_answer_that_only_looks_right_ends_the_run(answers: list[bytes], what: str):
    server = await asyncio.get_running_loop().create_server(lambda: Broken(answers), "127.0.0.1", 0)
    async with server:
        way = Way(server.sockets[0].getsockname()[1])
        with pytest.raises(BenchError, match=what):
            await measure(way, "lookup", connections=1, seconds=0.1, pid=None)


def test_the_answer_is_about_a_kilobyte_of_json():
    assert 900 <= len(good(1_000_000)) <= 1300
    assert json.loads(good(7))["id"] == 7


@given(st.integers(0, 1 << 63))
def test_a_stamp_has_no_digits_and_reads_back(moment: int):
    assert not any(character.isdigit() for character in stamp(moment))
    assert read_stamp(stamp(moment)) == moment


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_chunks_read_back_however_they_were_cut(pieces: list[bytes]):
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    assert dechunk(chunked + b"0\r\n\r\n") == b"".join(pieces)


def test_garbage_is_not_chunks():
    with pytest.raises(BenchError):
        dechunk(b"zz\r\n\r\n")


def test_cpu_time_grows_with_work():
    before = cpu_seconds(os.getpid())
    while (after := cpu_seconds(os.getpid())) == before:
        sum(range(10_000))
    assert after > before
