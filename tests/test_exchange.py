"""What is held of a request is held beside its flow, and its digest covers all that leaves."""

import gc
from weakref import WeakKeyDictionary

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from coatcheck.exchange import Exchange, ExchangeId, Exchanges, request_digest
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.policy.model import Policy

POLICY = Policy(audience="urn:test", sha256="", files=())


def new_exchange() -> Exchange:
    return Exchange(ExchangeId("x-1"), POLICY, 0.0)


texts = st.text(st.characters(max_codepoint=0x2FF), max_size=6)
pieces = st.binary(max_size=6)
requests = st.fixed_dictionaries(
    {
        "method": texts,
        "scheme": texts,
        "host": texts,
        "port": st.integers(0, 65535),
        "path": pieces,
        "headers": st.lists(st.tuples(pieces, pieces), max_size=3),
        "body": pieces,
    }
)


@given(requests)
def test_one_request_has_one_digest(request) -> None:
    again = dict(request, headers=tuple(request["headers"]))
    assert request_digest(**request) == request_digest(**again)


@given(requests, requests)
def test_two_requests_have_two_digests(one, other) -> None:
    assume(one != other)
    assert request_digest(**one) != request_digest(**other)


@given(requests, st.sampled_from(["method", "scheme", "host", "port", "path", "headers", "body"]))
def test_no_part_can_be_changed_without_the_digest(request, part) -> None:
    changed = {
        int: lambda v: v + 1,
        str: lambda v: v + "x",
        bytes: lambda v: v + b"x",
        list: lambda v: [*v, (b"", b"")],
    }
    other = dict(request, **{part: changed[type(request[part])](request[part])})
    assert request_digest(**request) != request_digest(**other)


@given(st.binary(max_size=20), st.integers(0, 20))
def test_nothing_can_be_moved_between_two_parts(data: bytes, at: int) -> None:
    same = {"method": "GET", "scheme": "http", "host": "a", "port": 80}
    at = min(at, len(data))
    whole = request_digest(**same, path=data, headers=(), body=b"")
    assert at == len(data) or request_digest(**same, path=data[:at], headers=(), body=data[at:]) != whole
    joined = request_digest(**same, path=b"", headers=((data, b""),), body=b"")
    split = request_digest(**same, path=b"", headers=((data[:at], data[at:]),), body=b"")
    assert at == len(data) or joined != split


def test_the_order_of_headers_counts() -> None:
    same = {"method": "GET", "scheme": "http", "host": "a", "port": 80, "path": b"/", "body": b""}
    one, other = (b"a", b"1"), (b"a", b"2")
    assert request_digest(**same, headers=(one, other)) != request_digest(**same, headers=(other, one))


def test_text_that_is_no_unicode_has_a_digest() -> None:
    assert request_digest(method="\udcff", scheme="", host="\ud800", port=0, path=b"\xff", headers=(), body=b"\xff")


def test_a_new_exchange_has_reached_no_stage() -> None:
    exchange = new_exchange()
    assert exchange.policy is POLICY
    reached = (exchange.target, exchange.caller, exchange.decision, exchange.swap, exchange.release, exchange.passage)
    assert reached == (None,) * 6
    assert exchange.sent is exchange.finished is exchange.is_notification is False
    assert not exchange.calls


@pytest.mark.parametrize(
    ("kind", "ids", "expected"),
    [("request", (), False), ("notification", (), True), ("batch", (1,), False), ("batch", (), True)],
)
def test_only_notifications_expect_no_answer(kind, ids, expected) -> None:
    exchange = new_exchange()
    exchange.inspected = Inspected((Call("mcp", "ping"),), b"", kind, None, ids)
    assert exchange.is_notification is expected
    assert [call.method for call in exchange.calls] == ["ping"]


def test_an_exchange_ends_with_its_flow() -> None:
    exchanges: Exchanges = WeakKeyDictionary()
    flow = tflow.tflow()
    exchanges[flow] = new_exchange()
    assert len(exchanges) == 1
    del flow
    gc.collect()
    assert not exchanges


def test_a_copy_of_a_flow_has_no_exchange() -> None:
    exchanges: Exchanges = WeakKeyDictionary()
    flow = tflow.tflow()
    exchanges[flow] = new_exchange()
    assert exchanges.get(flow.copy()) is None
    assert exchanges.get(flow) is not None


def test_two_exchanges_are_never_equal() -> None:
    one, other = new_exchange(), new_exchange()
    assert one != other
    assert len({one, other}) == 2
