"""What was released is what leaves, once; a request that differs in any part leaves nothing."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.proxy.digest import digest_of

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
REQUEST = b"POST /mcp?a=1 HTTP/1.1\r\nHost: shop.test\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

many_times = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def _change_header(request: http.Request, at: int) -> None:
    fields = list(request.headers.fields)
    name, value = fields[at % len(fields)]
    fields[at % len(fields)] = (name, value + b"0")
    request.headers = http.Headers(fields)


def _rename_header(request: http.Request, at: int) -> None:
    fields = list(request.headers.fields)
    name, value = fields[at % len(fields)]
    fields[at % len(fields)] = (name + b"x", value)
    request.headers = http.Headers(fields)


def _drop_header(request: http.Request, at: int) -> None:
    fields = list(request.headers.fields)
    del fields[at % len(fields)]
    request.headers = http.Headers(fields)


def _swap_headers(request: http.Request, at: int) -> None:
    fields = list(request.headers.fields)
    one, other = at % len(fields), (at + 1) % len(fields)
    fields[one], fields[other] = fields[other], fields[one]
    request.headers = http.Headers(fields)


def _change_body(request: http.Request, at: int) -> None:
    body = bytearray(request.data.content or b"\0")
    body[at % len(body)] ^= 1
    request.data.content = bytes(body)


def _set(name: str, value: object):
    return lambda request, _at: setattr(request.data, name, value)


CHANGES = {
    "method": _set("method", b"PUT"),
    "method's case": _set("method", b"Post"),
    "scheme": _set("scheme", b"https"),
    "host": _set("host", "evil.test"),
    "host's case": _set("host", "Shop.test"),
    "port": _set("port", 81),
    "path": _set("path", b"/mcp?a=2"),
    "path, doubled slash": _set("path", b"//mcp?a=1"),
    "a header's value": _change_header,
    "a header's name": _rename_header,
    "a header, left out": _drop_header,
    "a header, added": lambda request, _at: request.headers.add("x-three", "3"),
    "the order of headers": _swap_headers,
    "the body": _change_body,
    "the body, longer": lambda request, _at: setattr(request.data, "content", (request.data.content or b"") + b" "),
    "no body": _set("content", b""),
    "a body that is not there": _set("content", None),
    "trailers": _set("trailers", http.Headers(x="y")),
    "streaming": lambda request, _at: setattr(request, "stream", True),
    "a stream's function": lambda request, _at: setattr(request, "stream", lambda data: data + b"!"),
}


def test_a_released_request_leaves_once_with_its_secret(wire, canary) -> None:
    """The positive control of this file."""
    line = wire()
    line.ask(REQUEST)
    assert line.sent.count(b"POST /mcp?a=1 HTTP/1.1\r\n") == 1
    assert line.sent.endswith(b"\r\n\r\n" + BODY)
    assert canary in line.sent
    assert canary not in repr(line.flows[0].get_state()).encode()
    line.answer(ANSWER)
    assert line.received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_two_requests_over_one_connection_each_need_a_release(wire) -> None:
    line = wire()
    line.ask(REQUEST)
    line.answer(ANSWER)
    assert line.sent.count(b"POST") == 1
    line.on["request"] = lambda _flow: None
    line.ask(REQUEST)
    assert line.sent.count(b"POST") == 1
    assert line.opened == 1
    assert b"HTTP/1.1 503" in line.received


def test_nothing_leaves_without_a_release_and_no_connection_is_opened(wire) -> None:
    line = wire(request=lambda _flow: None)
    line.ask(REQUEST)
    assert line.sent == b""
    assert line.opened == 0
    assert b"HTTP/1.1 503" in line.received
    assert b"not-released" in line.received


@many_times
@given(st.sampled_from(list(CHANGES)), st.integers(0, 100), st.sampled_from(["request", "connecting"]))
def test_nothing_leaves_of_a_request_that_was_changed_after_its_release(wire, part, at, when) -> None:
    line = wire()

    def change(flow: http.HTTPFlow) -> None:
        if when == "request":
            line.release(flow)
        CHANGES[part](flow.request, at)

    line.on[when] = change
    line.ask(REQUEST)
    assert line.sent == b""
    assert b" 200 " not in line.received


@pytest.mark.parametrize("when", ["request", "connecting"])
@pytest.mark.parametrize("part", CHANGES)
def test_each_part_is_in_the_law_at_both_moments(wire, part, when) -> None:
    line = wire()
    line.on[when] = lambda flow: (line.release(flow) if when == "request" else None, CHANGES[part](flow.request, 0))
    line.ask(REQUEST)
    assert line.sent == b""


@pytest.mark.parametrize("spoil", ["release", "fault", "refusal", "sent", "target", "replay", "copy"])
@pytest.mark.parametrize("when", ["request", "connecting"])
def test_a_release_that_was_taken_back_or_used_lets_nothing_pass(wire, exchanges, spoil, when) -> None:
    line = wire()

    def take_back(flow: http.HTTPFlow) -> None:
        exchange = exchanges.get(flow) or line.release(flow)
        match spoil:
            case "release":
                exchange.release = None
            case "fault":
                exchange.fault = "x"
            case "refusal":
                exchange.refusal = Refusal("x", "x")
            case "sent":
                exchange.sent = True
            case "target":
                exchange.target = None
            case "replay":
                flow.is_replay = "request"
            case "copy":
                flow.request = flow.request.copy()
                flow.request.data.headers = http.Headers(x="y")

    line.on[when] = take_back
    line.ask(REQUEST)
    assert line.sent == b""


def test_another_requests_release_does_not_help(wire, exchanges) -> None:
    line = wire()
    line.ask(REQUEST)
    line.answer(ANSWER)
    first = exchanges[line.flows[0]]

    def borrow(flow: http.HTTPFlow) -> None:
        exchanges[flow] = first

    line.on["request"] = borrow
    line.ask(REQUEST)
    assert line.sent.count(b"POST") == 1


def test_a_streamed_request_does_not_leave(wire) -> None:
    line = wire(requestheaders=lambda flow: setattr(flow.request, "stream", True))
    line.ask(REQUEST)
    assert line.sent == b""
    assert line.opened == 0


def test_a_streamed_request_does_not_leave_even_where_it_was_released_at_its_head(wire) -> None:
    line = wire()

    def release_early(flow: http.HTTPFlow) -> None:
        line.release(flow)
        flow.request.stream = True

    line.on["requestheaders"] = release_early
    line.ask(REQUEST)
    assert line.sent == b""


def test_an_http_1_1_request_without_a_body_leaves_whole(wire) -> None:
    line = wire()
    line.ask(b"GET /mcp HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    assert line.sent.startswith(b"GET /mcp HTTP/1.1\r\n")
    assert line.sent.endswith(b"\r\n\r\n")


# -- the way back -----------------------------------------------------------------------------------------------------


class _Broken:
    """A scrubber that fails at one of its doors."""

    def __init__(self, door: str, canary: bytes) -> None:
        self.door = door
        self.canary = canary

    def _open(self, door: str, value: object) -> object:
        if door == self.door:
            raise RuntimeError("spoilt")
        return value

    def whole(self, data: bytes, _found: object) -> bytes:
        return self._open("whole", data.replace(self.canary, b"***"))

    def stream(self, _found: object) -> "_Broken":
        return self._open("stream", self)

    def feed(self, data: bytes) -> bytes:
        return self._open("feed", data.replace(self.canary, b"***"))

    def finish(self) -> bytes:
        return self._open("finish", b"")


@pytest.mark.parametrize("door", ["whole", "stream", "feed", "finish"])
def test_a_fault_in_scrubbing_lets_nothing_through(wire, gate, canary, door) -> None:
    line = wire()
    gate._scrubbers = type("Cache", (), {"get": lambda _self, _credentials: _Broken(door, canary)})()
    line.ask(REQUEST)
    assert canary in line.sent
    body = b'{"echo":"' + canary + b'"}'
    line.answer(b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s" % (canary, len(body), body))
    assert b" 200 " not in line.received
    assert canary not in line.received
    assert canary not in repr(line.flows[0].get_state()).encode()
    assert canary.decode() not in "".join(line.logged)


def test_without_a_fault_the_scrubbed_answer_passes(wire, canary) -> None:
    """The control of the one above."""
    line = wire()
    line.ask(REQUEST)
    body = b'{"echo":"' + canary + b'"}'
    line.answer(b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s" % (canary, len(body), body))
    assert b"HTTP/1.1 200 OK" in line.received
    assert canary not in line.received
    assert line.received.count(b"*" * len(canary)) == 2


@pytest.mark.parametrize("spoil", ["fault", "refusal"])
def test_an_answer_to_an_exchange_that_failed_meanwhile_does_not_pass(wire, exchanges, spoil) -> None:
    line = wire()
    line.ask(REQUEST)
    setattr(exchanges[line.flows[0]], spoil, "x" if spoil == "fault" else Refusal("x", "x", status=403))
    line.answer(ANSWER)
    assert b" 200 " not in line.received
    assert b"{}" not in line.received


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: %s\r\n\r\n", id="103"),
        pytest.param(b"SSH-2.0 %s\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: %s\n broken: \0\r\n\r\n", id="a broken head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2%s\r\n\r\nab", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz%s\r\n", id="a broken chunk"),
    ],
)
def test_an_answer_that_is_not_plain_shows_nothing_of_itself(wire, canary, answer) -> None:
    line = wire()
    line.ask(REQUEST)
    line.answer(answer % canary if b"%s" in answer else answer)
    assert canary not in line.received
    assert b" 200 " not in line.received
    assert canary.decode() not in "".join(line.logged)
    assert canary not in repr(line.flows[0].get_state()).encode()


# -- the digest itself ------------------------------------------------------------------------------------------------


def test_a_digest_is_the_flows_request_as_it_is_now() -> None:
    request = tflow.tflow().request
    before = digest_of(request)
    assert digest_of(request) == before
    assert digest_of(request.copy()) == before
    request.headers["x-new"] = "1"
    assert digest_of(request) != before


def test_what_does_not_leave_is_not_in_the_digest() -> None:
    request = tflow.tflow().request
    before = digest_of(request)
    request.timestamp_end = 12345.5
    request.http_version = "HTTP/1.0"
    request.authority = "elsewhere"
    assert digest_of(request) == before
