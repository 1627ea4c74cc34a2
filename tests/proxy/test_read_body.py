"""Where a body ends is found strictly; what is too large, malformed or nobody's ends its connection at once."""

import json

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from coatcheck.errors import Refusal
from coatcheck.http.headers import MAX_BODY_BYTES
from coatcheck.proxy import wire as wire_gate
from coatcheck.proxy.read_body import MAX_WAITING_BYTES, ReadBody

HEAD = b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = HEAD + b"2\r\n{}\r\n0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def refused() -> list[Refusal]:
    """The refusals that no exchange stands for."""
    return []


@pytest.fixture
def line(refused, wire):
    ReadBody(refused.append).install()
    return wire()


def refuse_heads(line, reason: str = "token-missing") -> list[http.HTTPFlow]:
    """Lets every head be refused, as the stages do; returns the flows whose error was told."""
    ended = []

    def refuse(flow: http.HTTPFlow) -> None:
        exchange = line.release(flow)
        exchange.release = None
        exchange.headers = {name.lower(): value for name, value in flow.request.headers.items()}
        exchange.refusal = Refusal(reason, "no", status=401)
        flow.response = http.Response.make(401)

    line.on["requestheaders"] = refuse
    line.on["request"] = lambda flow: None
    line.on["error"] = ended.append
    return ended


def told(line) -> tuple[int, str]:
    """Status and reason of the only answer the client got."""
    start, _, body = line.received.partition(b"\r\n\r\n")
    return int(start.split(b" ")[1]), json.loads(body)["error"]["data"]["reason"]


def test_a_chunked_request_leaves_with_its_data(line) -> None:
    line.ask(GOOD)
    assert line.sent.endswith(b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    line.answer(ANSWER + b"2\r\n{}\r\n0\r\n\r\n")
    assert line.received.startswith(b"HTTP/1.1 200 ")
    assert line.received.endswith(b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("chunks", "status", "reason"),
    [
        pytest.param(b"zz\r\n", 400, "bad-framing", id="words"),
        pytest.param(b"00000000000000002\r\n{}\r\n", 400, "bad-framing", id="17 digits"),
        pytest.param(b"ffffffffffffffff\r\n", 413, "body-too-large", id="a huge chunk"),
        pytest.param(b"2\r\n{}\r\n%x\r\n" % MAX_BODY_BYTES, 413, "body-too-large", id="two that are too large"),
        pytest.param(b"2\r\n{}\r\n0\r\nX-Trailer: x\r\n\r\n", 400, "trailers-refused", id="trailers"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["with the head", "after it"])
def test_a_malformed_body_is_answered_and_its_connection_ends(line, chunks, status, reason, together) -> None:
    line.on["requestheaders"] = line.release
    for piece in [HEAD + chunks] if together else [HEAD, chunks]:
        line.ask(piece)
    assert told(line) == (status, reason)
    assert line.exchanges[line.flows[0]].refusal.reason == reason
    assert line.client.state is ConnectionState.CLOSED
    assert line.sent == b""


def test_nothing_that_follows_such_a_body_is_read_or_kept(line) -> None:
    line.ask(HEAD + b"zz\r\n")
    before = line.received
    for _ in range(10):
        line.ask(GOOD * 100)
    assert line.received == before
    assert len(line.flows) == 1
    assert len(line.layer.connections[line.client].buf) == 0


@pytest.mark.parametrize("size", [wire_gate.SPARED_BYTES + 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 10**17])
def test_a_large_body_of_a_refused_head_is_not_waited_for(line, size) -> None:
    ended = refuse_heads(line)
    line.ask(b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % size)
    assert told(line) == (401, "token-missing")
    assert line.client.state is ConnectionState.CLOSED
    assert ended == line.flows


def test_a_growing_body_of_a_refused_head_is_not_waited_for(line) -> None:
    ended = refuse_heads(line)
    line.ask(HEAD)
    assert not ended
    for _ in range(wire_gate.SPARED_BYTES // 1024 + 1):
        line.ask(b"400\r\n" + bytes(1024) + b"\r\n")
    assert told(line) == (401, "token-missing")
    assert ended == line.flows


def test_a_small_body_of_a_refused_head_is_waited_for(line) -> None:
    refuse_heads(line)
    line.ask(b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % wire_gate.SPARED_BYTES)
    assert line.received == b""
    line.ask(bytes(wire_gate.SPARED_BYTES))
    assert line.received.startswith(b"HTTP/1.1 401 ")


def test_a_body_declared_over_the_limit_is_not_kept_while_its_head_is_being_judged(line) -> None:
    line.drive_hooks = False
    line.ask(b"POST /mcp HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1))
    stream = line.layer.streams[1]
    for _ in range(20):
        line.ask(bytes(100_000))
    assert sum(len(getattr(event, "data", b"")) for event in stream._paused_event_queue) == 0
    assert len(line.layer.connections[line.client].buf) == 0


def test_what_a_client_sends_ahead_is_bounded(line, refused) -> None:
    line.ask(GOOD)
    line.ask(bytes(MAX_WAITING_BYTES))
    assert line.client.state is ConnectionState.OPEN
    line.ask(b"x")
    assert line.client.state is ConnectionState.CLOSED
    assert [refusal.reason for refusal in refused] == ["too-much-ahead"]
    assert len(line.layer.connections[line.client].buf) == 0


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"00000000000000002\r\n{}\r\n", b"2\r\n{}x", b"2\n{}\r\n"])
def test_a_malformed_answer_is_withheld_and_its_connection_ends(line, chunks) -> None:
    line.ask(GOOD)
    line.answer(ANSWER + chunks)
    assert told(line) == (502, "server-failed")
    assert line.server.state is ConnectionState.CLOSED
    assert line.exchanges[line.flows[0]].refusal is None


def test_trailers_of_an_answer_are_dropped(line) -> None:
    line.ask(GOOD)
    line.answer(ANSWER + b"2\r\n{}\r\n0\r\nX-Trailer: x\r\nSet-Cookie: a=b\r\n\r\n")
    assert line.received.startswith(b"HTTP/1.1 200 ")
    assert b"{}" in line.received
    assert b"X-Trailer" not in line.received
    assert b"Set-Cookie" not in line.received
    line.ask(GOOD)
    assert line.sent.count(b"POST") == 2


def test_a_line_without_end_is_not_kept(line) -> None:
    line.ask(GOOD)
    line.answer(ANSWER)
    for _ in range(100):
        line.answer(b"1" * 1000)
    assert told(line) == (502, "server-failed")
