"""Streams as mitmproxy takes them: whole events, and never an empty chunk."""

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.policy.model import Policy
from coatcheck.proxy.mask import _Stream

EVENTS = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\n\n: ping\n\n'


def stream(rewrite=lambda event: event) -> tuple[Exchange, _Stream]:
    exchange = Exchange(ExchangeId("t"), Policy(audience="urn:test", sha256="", files=()), time.monotonic())
    return exchange, _Stream(exchange, rewrite)


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
