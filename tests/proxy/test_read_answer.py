"""The head of an answer is checked as bytes before mitmproxy parses it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from coatcheck.http.headers import MAX_HEAD_BYTES
from coatcheck.proxy import read_answer

ASK = b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\n{}"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def line(wire):
    read_answer.install()
    return wire()


def test_a_good_answer_reaches_the_caller(line) -> None:
    line.ask(ASK)
    line.answer(GOOD)
    assert line.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert line.received.endswith(b"{}")
    line.ask(ASK)
    line.answer(GOOD)
    assert line.opened == 1
    assert line.received.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(GOOD.replace(b"200", b"2000"), id="a status of four digits"),
        pytest.param(GOOD.replace(b"\r\nContent-Length", b"\r\nX: a\rb\r\nContent-Length"), id="a CR"),
        pytest.param(GOOD.replace(b"\r\nContent-Length", b"\r\nX: a\0\r\nContent-Length"), id="a NUL"),
        pytest.param(GOOD.replace(b"\r\nContent-Length", b"\r\nX: a\r\n b\r\nContent-Length"), id="folded"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, id="headers without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES, id="a header without end"),
        pytest.param(b"220 mail.example ESMTP\r\n", id="not HTTP"),
    ],
)
@pytest.mark.parametrize("size", [1000, 10**9], ids=["in pieces", "in one"])
def test_what_is_not_plain_is_withheld_and_its_connection_ends(line, answer, size) -> None:
    line.ask(ASK)
    for at in range(0, len(answer), size):
        line.answer(answer[at : at + size])
    start, _, body = line.received.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 502 ")
    assert json.loads(body)["error"]["data"]["reason"] == "server-failed"
    assert line.server.state is ConnectionState.CLOSED
    assert line.client.state is ConnectionState.CLOSED


def test_what_comes_unasked_ends_the_connection(line) -> None:
    line.ask(ASK)
    line.answer(GOOD + b"x")
    assert line.received.count(b"HTTP/1.1") == 1
    assert line.server.state is ConnectionState.CLOSED
    line.ask(ASK)
    assert line.opened == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=6).map(sorted))
def test_what_is_read_does_not_depend_on_how_the_network_split_it(wire, cuts) -> None:
    read_answer.install()
    line = wire()
    line.ask(ASK)
    for start, end in zip([0, *cuts], [*cuts, len(GOOD)], strict=True):
        if start != end:
            line.answer(GOOD[start:end])
    assert line.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert line.received.endswith(b"{}")


@pytest.mark.parametrize("answer", [GOOD, GOOD.replace(b"200", b"2000")], ids=["the server's", "ours"])
@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_the_answer_to_a_head_request_has_no_body(line, answer, method) -> None:
    line.ask(method + b" /mcp HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    line.answer(answer.removesuffix(b"{}") if method == b"HEAD" and answer is GOOD else answer)
    assert line.received.startswith(b"HTTP/1.1 ")
    assert line.received.endswith(b"\r\n\r\n") is (method == b"HEAD")


def test_a_refusal_of_a_head_request_has_no_body(line) -> None:
    line.on["requestheaders"] = lambda flow: setattr(flow, "response", http.Response.make(403, b"no"))
    line.ask(b"HEAD /mcp HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    assert line.received.startswith(b"HTTP/1.1 403 ")
    assert line.received.endswith(b"\r\n\r\n")
    line.ask(b"GET /mcp HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    assert line.received.endswith(b"\r\n\r\nno")
