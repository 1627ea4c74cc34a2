"""Streams as mitmproxy takes them: whole events, and never an empty chunk."""

import asyncio
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.policy.model import Policy
from coatcheck.proxy.stream_answer import StreamedAnswer, read_event

EVENTS = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\n\n: ping\n\n'


def stream(rewrite=lambda event: event) -> tuple[Exchange, StreamedAnswer]:
    exchange = Exchange(ExchangeId("t"), Policy(audience="urn:test", sha256="", files=()), time.monotonic())
    return exchange, StreamedAnswer(exchange, rewrite)


@given(st.lists(st.integers(0, len(EVENTS)), max_size=8))
def test_a_stream_cut_anywhere_gives_no_empty_chunk_and_loses_nothing(cuts: list[int]) -> None:
    """An empty chunk is how HTTP/1 ends a chunked body: one for a half event would end the caller's stream."""
    _, whole = stream()
    wanted = b"".join(whole.feed(EVENTS))
    _, cut = stream()
    edges = [0, *sorted(set(cuts) - {0, len(EVENTS)}), len(EVENTS)]
    chunks = [chunk for a, b in itertools.pairwise(edges) for chunk in cut.feed(EVENTS[a:b])]
    assert b"" not in chunks
    assert b"".join(chunks) == wanted
    assert cut.feed(b"") == []


def test_a_stream_that_fails_says_so_once_and_gives_nothing_more() -> None:
    def broken(_event: object) -> None:
        raise RuntimeError("spoilt")

    exchange, one = stream(broken)
    (last,) = one.feed(EVENTS)
    assert b'"server-failed"' in last
    assert b"notifications" not in last
    assert exchange.fault is not None
    assert one.feed(EVENTS) == []


@pytest.mark.parametrize("error", [asyncio.CancelledError, MemoryError, RecursionError, GeneratorExit])
def test_whatever_a_stream_fails_of_nothing_more_passes(error) -> None:
    def broken(_event: object) -> None:
        raise error

    exchange, one = stream(broken)
    assert b"notifications" not in b"".join(one.feed(EVENTS))
    assert exchange.fault is not None
    assert one.feed(EVENTS) == one.feed(b"") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_goes_on_and_nothing_more_passes(error) -> None:
    def broken(_event: object) -> None:
        raise error

    _, one = stream(broken)
    with pytest.raises(error):
        one.feed(EVENTS)
    assert one.feed(EVENTS) == []


def test_an_event_that_would_hold_the_loop_ends_the_stream_and_a_large_text_does_not() -> None:
    text = read_event(
        b'{"jsonrpc":"2.0","method":"x","params":{"a":"%s"}}' % (b"[11:02] a, b: c\\n" * 50_000), is_mcp=True
    )
    assert text["method"] == "x"
    for data in (b"[" + b",".join([b"[]"] * 30_000) + b"]", json.dumps(["[" + "[]," * 20_000 + "1]"]).encode()):
        with pytest.raises(Refusal):
            read_event(data, is_mcp=True)
