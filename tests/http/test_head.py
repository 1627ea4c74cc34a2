"""A head is plain, or refused before anything parses it."""

import re
from contextlib import suppress

import pytest
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Request
from mitmproxy.net.http import http1

from coatcheck.errors import Refusal
from coatcheck.http.head import Place, check_bytes, is_whole
from coatcheck.http.headers import MAX_HEAD_BYTES, MAX_HEADERS

GOOD = b"POST /mcp HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\n"


def refused(head: bytes, place: Place = "origin") -> str | None:
    """Why a head that has come in whole is refused; None where it passes."""
    try:
        assert is_whole(head, place)
        check_bytes(head, place)
    except Refusal as refusal:
        return refusal.reason
    return None


def with_line(line: bytes) -> bytes:
    return GOOD.replace(b"Host: a.com", b"Host: a.com\r\n" + line)


def with_first(line: bytes) -> bytes:
    return line + b"\r\nHost: a.com\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "place"),
    [
        pytest.param(GOOD, "origin", id="a path"),
        pytest.param(with_first(b"GET /a?b=c/../d&%00 HTTP/1.1"), "origin", id="a query"),
        pytest.param(with_first(b"GET http://a.com HTTP/1.1"), "proxy", id="a URL without a path"),
        pytest.param(with_first(b"GET HTTP://a.com:81/b?c HTTP/1.1"), "proxy", id="a URL, upper case"),
        pytest.param(with_first(b"GET https://[::1]:8443/ HTTP/1.1"), "proxy", id="an address"),
        pytest.param(with_first(b"CONNECT a.com:443 HTTP/1.1"), "proxy", id="an authority"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "origin", id="no headers"),
        pytest.param(with_line(b"X-A:"), "origin", id="an empty value"),
        pytest.param(with_line(b"X-A: a\tb"), "origin", id="a tab within a value"),
        pytest.param(with_line(b"X-A: \xc3\xa9"), "origin", id="a value beyond ASCII"),
        pytest.param(GOOD + b"{}GET / HTTP/1.1\n\n\0 x", "origin", id="a body, and whatever follows"),
        pytest.param(with_first(b"ABCDEFGHIJKLMNOPQRST / HTTP/1.1"), "origin", id="a method of 20 letters"),
    ],
)
def test_a_plain_head_passes(head, place) -> None:
    assert refused(head, place) is None


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        pytest.param(GOOD.replace(b"a.com\r\n", b"a.com\n"), "bad-line-end", id="bare LF"),
        pytest.param(with_line(b"X-A: a\rb"), "bad-line-end", id="bare CR"),
        pytest.param(with_line(b"X-A: a\r"), "bad-line-end", id="CR before CRLF"),
        pytest.param(with_line(b"X-A: a\0"), "bad-line-end", id="NUL"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\r\n\r\n", "bad-line-end", id="bare LF behind the request line"),
        pytest.param(with_line(b" folded"), "folded-header", id="folded by a space"),
        pytest.param(with_line(b"\tfolded"), "folded-header", id="folded by a tab"),
        pytest.param(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded-header", id="folded first header"),
        pytest.param(with_first(b"GET / HTTP/1.0"), "bad-version", id="HTTP/1.0"),
        pytest.param(with_first(b"CONNECT shop.test:443 HTTP/1.2"), "bad-version", id="CONNECT HTTP/1.2"),
        pytest.param(with_first(b"GET / HTTP/2.0"), "bad-version", id="HTTP/2.0"),
        pytest.param(with_first(b"GET / HTTP/1.1 HTTP/1.1"), "bad-method", id="two versions"),
        pytest.param(with_first(b"get / HTTP/1.1"), "bad-method", id="lower case"),
        pytest.param(with_first(b"GET\t/ HTTP/1.1"), "bad-method", id="a tab for a space"),
        pytest.param(with_first(b"GET  / HTTP/1.1"), "bad-method", id="two spaces"),
        pytest.param(with_first(b" GET / HTTP/1.1"), "bad-method", id="a space before"),
        pytest.param(with_first(b"GET / HTTP/1.1 "), "not-http", id="a space behind"),
        pytest.param(with_first(b"GET / HTTP/1.10"), "not-http", id="a version of two digits"),
        pytest.param(with_first(b"GET /"), "not-http", id="HTTP/0.9"),
        pytest.param(with_first(b"GET / http/1.1"), "not-http", id="http in lower case"),
        pytest.param(with_first(b"ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1"), "bad-method", id="a long method"),
        pytest.param(with_first(b"GET /\xc3\xa9 HTTP/1.1"), "bad-method", id="a target beyond ASCII"),
        pytest.param(b"\r\n" + GOOD, "not-http", id="an empty line before"),
        pytest.param(b"\x16\x03\x01\0\0\r\n\r\n", "bad-line-end", id="not HTTP"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad-version", id="the HTTP/2 preface"),
    ],
)
@pytest.mark.parametrize("place", ["origin", "proxy"])
def test_what_a_lenient_parser_would_repair_is_refused(head, reason, place) -> None:
    assert refused(head, place) == reason


@pytest.mark.parametrize(
    ("target", "place"),
    [
        pytest.param(b"http://a.com/", "origin", id="a URL inside a tunnel"),
        pytest.param(b"a.com:443", "origin", id="an authority inside a tunnel"),
        pytest.param(b"*", "origin", id="an asterisk"),
        pytest.param(b"/a#b", "origin", id="a fragment"),
        pytest.param(b"/a\\b", "origin", id="a backslash"),
        pytest.param(b"/", "proxy", id="a path at the proxy"),
        pytest.param(b"*", "proxy", id="an asterisk at the proxy"),
        pytest.param(b"ftp://a.com/", "proxy", id="another scheme"),
        pytest.param(b"http:///x", "proxy", id="no host"),
        pytest.param(b"http://a@b.com/", "proxy", id="user information"),
        pytest.param(b"http://a.com\\@b.com/", "proxy", id="a backslash in the host"),
        pytest.param(b"http://a.com?x", "proxy", id="a query for a path"),
        pytest.param(b"http://a.com/#x", "proxy", id="a fragment in a URL"),
        pytest.param(b"//a.com/", "proxy", id="no scheme"),
    ],
)
def test_a_target_of_another_form_than_its_place_calls_for_is_refused(target, place) -> None:
    assert refused(with_first(b"GET " + target + b" HTTP/1.1"), place) == "bad-request-target"


@pytest.mark.parametrize(
    ("target", "place"),
    [
        pytest.param(b"a.com:443", "origin", id="inside a tunnel"),
        pytest.param(b"a.com/x", "proxy", id="a path"),
        pytest.param(b"x@a.com:443", "proxy", id="user information"),
        pytest.param(b"https://a.com", "proxy", id="a URL"),
        pytest.param(b"/", "proxy", id="a path alone"),
    ],
)
def test_connect_names_an_authority_and_only_at_the_proxy(target, place) -> None:
    assert refused(with_first(b"CONNECT " + target + b" HTTP/1.1"), place) == "bad-request-target"


@pytest.mark.parametrize(
    "authority",
    ["a.com", "a.com:", "a.com:0", "a.com:65536", "a.com:-1", "a.com:+443", "a.com:4_4", "a.com:4a3", "a.com:443:443",
     "a.com:00443", ":443", "a..com:443", ".a.com:443", "a%2ecom:443", "[a.com]:443", "[::1]", "[::1%25lo]:443",
     "127.1:443", "0x7f000001:443", "xn--:443", "xn--a:443", "a.xn--\x7f:443"],
)  # fmt: skip
def test_connect_to_what_is_no_host_and_port_is_refused_with_its_reason(authority) -> None:
    reason = refused(with_first(b"CONNECT " + authority.encode() + b" HTTP/1.1"), "proxy")
    assert reason == ("bad-method" if "\x7f" in authority else "bad-host")
    assert refused(with_first(b"CONNECT a.com:443 HTTP/1.1"), "proxy") is None


@pytest.mark.parametrize("line", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_connect_has_no_body(line) -> None:
    first = b"CONNECT a.com:443 HTTP/1.1\r\n"
    assert refused(first + line + b"\r\n\r\n", "proxy") == "bad-framing"
    assert refused(first + b"Content-Length: 0\r\n\r\n", "proxy") is None


def test_as_many_headers_pass_as_are_permitted_and_no_more() -> None:
    lines = [b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS + 1)]
    assert refused(b"GET / HTTP/1.1\r\n" + b"".join(lines[1:]) + b"\r\n") is None
    assert refused(b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n") == "head-too-large"


def head_of(size: int) -> bytes:
    """A head whose end stands at `size`."""
    start = b"GET / HTTP/1.1\r\nX-A: "
    return start + b"a" * (size - len(start)) + b"\r\n\r\n"


def test_as_large_a_head_passes_as_is_permitted_and_no_larger() -> None:
    assert refused(head_of(MAX_HEAD_BYTES)) is None
    assert refused(head_of(MAX_HEAD_BYTES + 1)) == "head-too-large"


def test_a_head_without_end_is_refused_as_soon_as_it_is_too_large() -> None:
    endless = head_of(2 * MAX_HEAD_BYTES)[:-4]
    assert is_whole(endless[:MAX_HEAD_BYTES], "origin") is False
    with pytest.raises(Refusal, match="head-too-large"):
        is_whole(endless[: MAX_HEAD_BYTES + 10], "origin")


def test_the_largest_head_is_not_refused_while_its_end_is_coming_in() -> None:
    head = head_of(MAX_HEAD_BYTES)
    assert [is_whole(head[:size], "origin") for size in range(MAX_HEAD_BYTES - 2, len(head) + 1)] == [False] * 6 + [
        True
    ]


@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        (b"\x16", "not-http"),
        (b"\x16\x03\x01", "not-http"),
        (b"get", "not-http"),
        (b" ", "not-http"),
        (b"\r\n", "not-http"),
        (b"\0", "not-http"),
        (b"ABCDEFGHIJKLMNOPQRSTU", "not-http"),
        (b"GET / HTTP/1.1\n", "bad-line-end"),
        (b"GET / HTTP/1.1\r\nX-A: b\n", "bad-line-end"),
        (b"GET /\r\n", "not-http"),
        (b"EHLO me\r\n", "not-http"),
        (b"QUIT\r\n", "not-http"),
        (b"GET / HTTP/1.0\r\n", "bad-version"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEADERS + 1), "head-too-large"),
        (b"GET http://a.com/ HTTP/1.1\r\nHost: a", "bad-request-target"),
        (b"CONNECT a.com:443 HTTP/1.1\r\n", "bad-request-target"),
    ],
)
def test_what_cannot_become_a_good_head_is_refused_at_once(beginning, reason) -> None:
    with pytest.raises(Refusal, match=reason):
        is_whole(beginning, "origin")
    assert is_whole(b"GET / HTTP/1.1\r\nHost", "origin") is False


def test_nothing_is_not_a_whole_head() -> None:
    assert is_whole(b"", "origin") is False


# -- laws -------------------------------------------------------------------------------------------------------------

_target = st.from_regex(re.compile(rb"/[!-\"$-\[\]-~]{0,12}"), fullmatch=True)
_name = st.from_regex(re.compile(rb"[A-Za-z0-9_!#$%&'*+.^`|~-]{1,8}"), fullmatch=True)
_value = st.from_regex(re.compile(rb"([!-~\x80-\xff]([ \t!-~\x80-\xff]{0,6}[!-~\x80-\xff])?)?"), fullmatch=True)


@st.composite
def good_heads(draw) -> bytes:
    method = draw(st.from_regex(re.compile(rb"[A-Z]{1,20}"), fullmatch=True).filter(lambda m: m != b"CONNECT"))
    lines = [method + b" " + draw(_target) + b" HTTP/1.1"]
    lines += [b"%s: %s" % field for field in draw(st.lists(st.tuples(_name, _value), max_size=4))]
    return b"".join(line + b"\r\n" for line in [*lines, b""])


@given(good_heads())
def test_no_beginning_of_a_good_head_is_refused(head) -> None:
    assert [is_whole(head[:size], "origin") for size in range(len(head))] == [False] * len(head)
    assert refused(head) is None


def reread(data: bytes) -> Request | None:
    """The request as mitmproxy reads it; None where it does not."""
    buffer = ReceiveBuffer()
    buffer += data
    lines = buffer.maybe_extract_lines()
    if not lines:
        return None
    with suppress(ValueError):
        return http1.read_request_head([bytes(line) for line in lines])
    return None


def said(request: Request) -> bytes:
    """The target as the request line says it, from what was read."""
    data = request.data
    if data.method == b"CONNECT":
        return data.authority
    return b"%s://%s%s" % (data.scheme, data.authority, data.path) if data.scheme else data.path


_awkward = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"GET ", b"/", b" HTTP/1.1", b"a", b"\xff"]
)
_soup = st.lists(st.one_of(_awkward, st.binary(max_size=3)), max_size=14).map(b"".join)


@st.composite
def almost_heads(draw) -> bytes:
    """A good head with something put into it somewhere, or a soup."""
    if draw(st.booleans()):
        return draw(_soup) + draw(st.sampled_from([b"", b"\r\n\r\n"]))
    head = draw(st.one_of(good_heads(), st.sampled_from([GOOD, with_first(b"GET http://a.com:81/b HTTP/1.1")])))
    at = draw(st.integers(0, len(head)))
    return head[:at] + draw(_awkward) + head[at + draw(st.integers(0, 2)) :]


def assert_read_alike(data: bytes, place: Place) -> None:
    try:
        if not is_whole(data, place):
            return
        check_bytes(data, place)
    except Refusal:
        return
    request = reread(data)
    if request is None:
        return  # mitmproxy refuses it
    method, target, _ = data.partition(b"\r\n")[0].split(b" ")
    assert request.data.method == method
    assert said(request).lower() in (target.lower(), target.lower() + b"/")
    assert (request.data.path or target).endswith(target[-1:]) or request.data.path == b"/"
    for part in (part for field in request.headers.fields for part in field):
        assert not re.search(rb"[\r\n\0]", part)


@given(almost_heads(), st.sampled_from(["origin", "proxy"]))
def test_what_passes_is_read_by_mitmproxy_as_it_stands(data, place) -> None:
    assert_read_alike(data, place)


@given(st.binary(max_size=200), st.sampled_from(["origin", "proxy"]))
def test_any_bytes_are_refused_or_read_as_they_stand(data, place) -> None:
    assert_read_alike(data, place)
    assert_read_alike(data + b"\r\n\r\n", place)


def test_the_law_is_about_heads_that_pass() -> None:
    """The control: mitmproxy does repair what is refused here."""
    folded = reread(with_line(b" folded"))
    assert folded is not None
    assert any(re.search(rb"[\r\n]", value) for _, value in folded.headers.fields)
    assert reread(GOOD.replace(b"\r\n", b"\n")) is not None
    assert said(reread(GOOD)) == b"/mcp"
