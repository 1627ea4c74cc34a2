"""The head of a server's answer is plain, or withheld before anything parses it."""

import re

import pytest
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net.http import http1

from coatcheck.errors import Refusal
from coatcheck.http.answer_head import check_bytes, is_whole
from coatcheck.http.headers import MAX_HEAD_BYTES, MAX_HEADERS

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"


def withheld(head: bytes) -> str | None:
    """How a head that has come in whole is withheld; None where it passes."""
    try:
        assert is_whole(head)
        check_bytes(head)
    except Refusal as refusal:
        return f"{refusal.status} {refusal.reason}"
    return None


def with_first(line: bytes) -> bytes:
    return line + b"\r\nContent-Length: 0\r\n\r\n"


def with_line(line: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + line + b"\r\nX-Z: z\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no headers"),
        pytest.param(with_first(b"HTTP/1.0 200 OK"), id="HTTP/1.0"),
        pytest.param(with_first(b"HTTP/1.1 200 "), id="an empty reason"),
        pytest.param(with_first(b"HTTP/1.1 200"), id="no reason"),
        pytest.param(with_first(b"HTTP/1.1 404 Nicht gefunden \xfc\tx"), id="any reason"),
        pytest.param(with_first(b"HTTP/1.1 599 x"), id="an odd status"),
        pytest.param(with_line(b"Transfer-Encoding: Chunked"), id="chunked"),
        pytest.param(with_line(b"X-A:"), id="an empty value"),
        pytest.param(with_line(b"X-A:\tb\tc "), id="tabs"),
        pytest.param(with_line(b"X-A: \xc3\xa9\xff"), id="a value beyond ASCII"),
        pytest.param(with_line(b"Set-Cookie: a=b\r\nSet-Cookie: c=d"), id="a header twice"),
        pytest.param(GOOD + b"{}HTTP/1.1 \n\n\0", id="a body, and whatever follows"),
    ],
)
def test_a_plain_head_passes(head) -> None:
    assert withheld(head) is None


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(with_first(line), id=repr(line))
        for line in (
            b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1 099 x", b"HTTP/1.1 600 x",
            b"HTTP/1.1 +20 OK", b"HTTP/1.1 2_0 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1200 OK",
            b"HTTP/1.1 200\tOK", b"HTTP/1.2 200 OK", b"HTTP/2 200 OK", b"HTTP/2.0 200 OK", b"http/1.1 200 OK",
            b" HTTP/1.1 200 OK", b"ICY 200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 O\x7fK",
            b"HTTP/1.1 200 O\x1bK", b"HTTP/1.1 \xb2\xb2\xb2 OK", b"", b"SSH-2.0-x", b"{}",
        )
    ],
)  # fmt: skip
def test_a_first_line_that_is_no_status_line_is_withheld(head) -> None:
    assert withheld(head) == "502 server-failed"


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: b\rSet-Cookie: c", b"X-A: b\r", b"X-A: b\0c", b"X-A: b\nX-B: c", b"X-A: b\x0bc", b"X-A: b\x7f",
        b"X-A: b\x1b", b"X-A", b"X-A : b", b"X A: b", b": b", b" X-A: b", b"X-A: b\r\n folded", b"X-A: b\r\n\tfolded",
        b"X-\xe4: b", b"X-A\0: b", b"Content-Length: 2\r\nContent-Length: 2", b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2, 2", b"Content-Length: +2", b"Content-Length: -1", b"Content-Length:",
        b"Content-Length: 02", b"Content-Length: 0x2", b"Content-Length: 9999999999999999999", b"Content_Length: 2",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:",
        b"Transfer_Encoding: chunked",
    ],
)  # fmt: skip
def test_a_header_that_two_parties_could_read_differently_is_withheld(line) -> None:
    assert withheld(with_line(line)) == "502 server-failed"
    assert withheld(with_line(b"X-A: b")) is None


@pytest.mark.parametrize("status", [b"100", b"103", b"204"])
@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_a_status_without_a_body_has_none(status, line) -> None:
    first = b"HTTP/1.1 " + status + b" x\r\n"
    assert withheld(first + line + b"\r\n\r\n") == "502 server-failed"
    assert withheld(first + b"Content-Length: 0\r\n\r\n") is None
    assert withheld(b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n") is None


def test_as_many_and_as_large_headers_pass_as_are_permitted_and_no_more() -> None:
    lines = [b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS + 1)]
    start = b"HTTP/1.1 200 OK\r\n"
    assert withheld(start + b"".join(lines[1:]) + b"\r\n") is None
    assert withheld(start + b"".join(lines) + b"\r\n") is not None
    room = MAX_HEAD_BYTES - len(start) - len(b"X-A: ")
    assert withheld(start + b"X-A: " + b"a" * room + b"\r\n\r\n") is None
    assert withheld(start + b"X-A: " + b"a" * (room + 1) + b"\r\n\r\n") is not None


@pytest.mark.parametrize(
    "beginning",
    [b"220 mail", b"\0", b"\r\n", b"{", b"HTTP/2", b"HTTP/1.1 20x\r\n", b"HTTP/1.1 200 OK\n", GOOD[:-4] + b"\nX",
     b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES],
    ids=lambda beginning: repr(beginning[:20]),
)  # fmt: skip
def test_what_cannot_become_a_good_head_is_withheld_at_once(beginning) -> None:
    with pytest.raises(Refusal, match="server-failed"):
        is_whole(beginning)
    assert [is_whole(GOOD[:size]) for size in range(len(GOOD) + 1)] == [False] * len(GOOD) + [True]


# -- laws -------------------------------------------------------------------------------------------------------------

_awkward = st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"HTTP/1.1 ", b"200", b"a", b"\xff", b"0"])


@st.composite
def almost_heads(draw) -> bytes:
    """A good head with something put into it somewhere."""
    at = draw(st.integers(0, len(GOOD)))
    return GOOD[:at] + draw(_awkward) + GOOD[at + draw(st.integers(0, 2)) :] + draw(st.sampled_from([b"", b"\r\n\r\n"]))


@given(st.one_of(almost_heads(), st.binary(max_size=60).map(lambda data: b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n")))
def test_what_passes_is_read_by_mitmproxy_as_it_stands(data) -> None:
    try:
        if not is_whole(data):
            return
        check_bytes(data)
    except Refusal:
        return
    buffer = ReceiveBuffer()
    buffer += data
    response = http1.read_response_head([bytes(line) for line in buffer.maybe_extract_lines() or []])
    assert data.startswith(b"HTTP/1.1 %d" % response.status_code)
    assert 100 <= response.status_code <= 599
    head = data.partition(b"\r\n\r\n")[0]
    assert len(response.headers.fields) == head.count(b"\r\n")
    for part in (response.data.reason, *(part for field in response.headers.fields for part in field)):
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", part)


@given(st.binary(max_size=60), st.integers(0, 80))
def test_a_beginning_is_withheld_only_where_the_whole_would_be(data, size) -> None:
    whole = b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"
    try:
        is_whole(whole[:size])
    except Refusal:
        assert withheld(whole) is not None
