"""Request heads are read one way or refused."""

import pytest

from coatcheck.errors import Refusal
from coatcheck.http.headers import check_head, forwarded, without

GOOD = [(b"Host", b"a.com"), (b"Content-Type", b"application/json"), (b"X-Custom", b"1"), (b"X-Custom", b"2")]


def test_a_plain_head_passes() -> None:
    head = check_head("POST", GOOD)
    assert head["host"] == "a.com"
    assert head["x-custom"] == "1"


@pytest.mark.parametrize("method", ["post", "P\tOST", "", "POST1", "A" * 30, "POSTÉ"])
def test_a_method_that_is_not_plain_is_refused(method: str) -> None:
    with pytest.raises(Refusal, match="bad-method"):
        check_head(method, GOOD)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        pytest.param([(b"HOST", b"b.com")], "duplicate-header", id="second Host"),
        pytest.param([(b"Authorization", b"a"), (b"authorization", b"b")], "duplicate-header", id="two Authorization"),
        pytest.param([(b"Mcp_Name", b"x")], "duplicate-header", id="underscore twin"),
        pytest.param([(b"Mcp-Name", b"x"), (b"Mcp-Name", b"x")], "duplicate-header", id="two Mcp-Name"),
        pytest.param([(b"X-A", b"1\r\n Content-Length: 2")], "bad-header", id="obs-fold"),
        pytest.param([(b"X-A", b"1\rX")], "bad-header", id="bare CR"),
        pytest.param([(b"X-A", b"1\x00")], "bad-header", id="NUL"),
        pytest.param([(b"X A", b"1")], "bad-header", id="space in a name"),
        pytest.param([(b"Connection", b"Mcp-Name, close")], "bad-header", id="hop-by-hop listing of a policed header"),
        pytest.param([(b"Upgrade", b"websocket")], "upgrade-refused", id="upgrade"),
        pytest.param([(b"Trailer", b"X")], "trailers-refused", id="trailer"),
        pytest.param([(b"Content-Encoding", b"gzip")], "encoded-body", id="encoded body"),
        pytest.param([(b"Transfer-Encoding", b"gzip, chunked")], "bad-header", id="other transfer encoding"),
        pytest.param([(b"Transfer-Encoding", b"\x0bchunked")], "bad-header", id="control before chunked"),
        pytest.param([(b"Expect", b"200-ok")], "expectation-refused", id="unknown expectation"),
        pytest.param([(b"X-%d" % n, b"1") for n in range(300)], "head-too-large", id="too many"),
        pytest.param([(b"X-A", b"1" * 200_000)], "head-too-large", id="too large"),
    ],
)
def test_a_head_that_two_parties_could_read_differently_is_refused(
    extra: list[tuple[bytes, bytes]], reason: str
) -> None:
    with pytest.raises(Refusal, match=reason):
        check_head("POST", [*GOOD, *extra])


GIT = [(b"Host", b"a.com"), (b"Content-Type", b"application/x-git-upload-pack-request")]


@pytest.mark.parametrize("encoding", [b"br", b"x-gzip", b"gzip, gzip", b"identity, gzip", b"deflate", b""])
def test_what_git_asks_may_be_compressed_as_git_does_it_and_in_no_other_way(encoding: bytes) -> None:
    assert check_head("POST", [*GIT, (b"Content-Encoding", b"gzip")])["content-encoding"] == "gzip"
    with pytest.raises(Refusal, match="encoded-body"):
        check_head("POST", [*GIT, (b"Content-Encoding", encoding)])


def test_what_leaves_has_our_routing_and_framing_and_no_trace_of_the_gateway() -> None:
    fields = [
        *GOOD,
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"x_forwarded_for", b"1.2.3.4"),
        (b"X-HTTP-Method-Override", b"DELETE"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Accept-Encoding", b"gzip"),
        (b"Range", b"bytes=0-1"),
        (b"Content-Length", b"99"),
    ]
    out = forwarded(fields, authority="a.com:8443", body=b"{}", method="POST")
    assert out == [
        (b"Host", b"a.com:8443"),
        (b"Content-Type", b"application/json"),
        (b"X-Custom", b"1"),
        (b"X-Custom", b"2"),
        (b"Accept-Encoding", b"identity"),
        (b"Content-Length", b"2"),
    ]


def test_what_mcp_and_pipelines_say_in_headers_leaves_as_it_came() -> None:
    fields = [
        (b"User-Agent", b"ci/1.0"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"Mcp-Method", b"tools/call"),
        (b"mcp-name", b"get_order"),
        (b"MCP-Session-Id", b"s-1"),
        (b"Last-Event-ID", b"ev-99"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"If-None-Match", b'"a"'),
        (b"Idempotency-Key", b"k"),
    ]
    assert forwarded(fields, authority="a.com", body=b"", method="GET")[1:-1] == fields


def test_what_leaves_is_stable_when_made_twice() -> None:
    once = forwarded(GOOD, authority="a.com", body=b"{}", method="POST")
    assert forwarded(once, authority="a.com", body=b"{}", method="POST") == once


def test_fields_can_be_left_out_by_name() -> None:
    assert without([(b"Authorization", b"x"), (b"A", b"b")], "authorization") == [(b"A", b"b")]
