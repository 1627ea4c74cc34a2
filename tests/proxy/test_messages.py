"""Messages are what mitmproxy makes, finds and refuses: the original beside ours, on whatever comes."""

import uuid
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.http import Headers, MessageData, Request
from mitmproxy.net.http import http1, url
from mitmproxy.net.http.http1 import expected_http_body_size, read
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.http.head import check_bytes
from coatcheck.proxy import messages

PATCHED = (
    (MessageData, "__post_init__"),
    (Headers, "get_all"),
    (Headers, "get"),
    (Headers, "__getitem__"),
    (Headers, "__contains__"),
    (Context, "fork"),
    (read, "url"),
)
ORIGINAL = {(owner, name): getattr(owner, name) for owner, name in PATCHED}

any_time = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(autouse=True)
def installed() -> None:
    messages.install()


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


_fields = st.lists(
    st.tuples(st.sampled_from([b"a", b"A", b"a-b", b"\xe9", b"\xc3\xa9"]), st.binary(max_size=4)), max_size=5
)


@any_time
@given(fields=_fields, name=st.sampled_from(["a", "A", "a-B", "\xe9", "\udce9", b"a", b"\xe9", "none", None, 7]))
def test_headers_are_found_as_mitmproxy_finds_them(fields, name) -> None:
    ours = theirs = Headers(fields)
    with pytest.MonkeyPatch.context() as patch:
        for (owner, attribute), original in ORIGINAL.items():
            patch.setattr(owner, attribute, original)
        plain = isinstance(name, str | bytes)
        expected = (
            outcome(theirs.get_all, name) if plain else None,
            outcome(theirs.get, name) if plain else None,
            outcome(theirs.get, name, 7) if plain else None,
            outcome(theirs.__getitem__, name) if plain else None,
            (name in theirs) if plain else False,
        )
    got = (
        outcome(ours.get_all, name) if plain else None,
        outcome(ours.get, name) if plain else None,
        outcome(ours.get, name, 7) if plain else None,
        outcome(ours.__getitem__, name) if plain else None,
        name in ours,
    )
    assert got == expected


def test_messages_are_as_they_were() -> None:
    request = Request.make("POST", "http://shop.test/x", b"body", {"a": "b"})
    assert (request.method, request.url, request.content) == ("POST", "http://shop.test/x", b"body")
    request.headers["a"] = "c"
    del request.headers["content-length"]
    assert request.headers == Headers([(b"a", b"c")])


_hosts = st.sampled_from(
    [b"shop.test", b"SHOP.test:80", b"xn--bcher-kva.test", b"[::1]:8080", b"127.0.0.1", b"[::1", b"::1", b"a..b"]
)
_junk = st.binary(max_size=8).map(lambda data: bytes(byte for byte in data if 0x21 <= byte <= 0x7E))
_targets = st.builds(
    lambda scheme, host, path: scheme + host + path,
    st.sampled_from([b"http://", b"https://", b"HTTP://", b"ftp://", b"http:/", b""]),
    st.one_of(_hosts, _junk, st.builds(bytes.__add__, _hosts, _junk)),
    st.one_of(st.just(b""), st.builds(lambda junk: b"/" + junk, _junk)),
)


@any_time
@given(target=_targets)
@example(b"http://shop.test/%zz?q[=\xe2\x84\xa6#x")
@example(b"http://[::1]x/")
@example(b"http://shop.test:99999/")
def test_a_head_that_passes_ours_is_read_as_mitmproxy_reads_it(target) -> None:
    """What the second check of mitmproxy would refuse, the check before it or ours has refused."""
    line = b"GET " + target + b" HTTP/1.1"
    try:
        check_bytes(line + b"\r\nHost: shop.test\r\n\r\n", "proxy")
    except Refusal:
        return
    ours = outcome(read._read_request_line, line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "url", url)
        assert outcome(read._read_request_line, line) == ours


def test_only_hosts_that_are_valid_are_remembered() -> None:
    for _ in range(2):
        assert read.url.parse_authority(b"shop.test:80", check=True) == ("shop.test", 80)
        with pytest.raises(ValueError):  # noqa: PT011 - mitmproxy says no more
            read.url.parse_authority(b"user:secret@shop.test", check=True)
    assert read.url.parse_authority.cache_info().currsize == 1


_methods, _statuses = st.sampled_from(["GET", "POST", "HEAD", "CONNECT"]), st.sampled_from([100, 200, 204, 304])
_lengths = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Length", b"content-length", b"Transfer-Encoding"]),
        st.one_of(
            st.sampled_from([b"0", b"65536", b"65537", b"+1", b"1 ", b"-1", b"", b"chunked", b"9" * 30, b"\xb2"]),
            st.integers(0, 10**6).map(b"%d".__mod__),
        ),
    ),
    max_size=3,
)


@any_time
@given(
    fields=_lengths,
    is_request=st.booleans(),
    method=st.sampled_from(["POST", "HEAD"]),
    status=st.sampled_from([200, 204]),
)
def test_a_body_is_small_only_where_mitmproxy_expects_a_small_one(fields, is_request, method, status) -> None:
    flow = tflow.tflow(resp=True)
    flow.request.method, flow.response.status_code = method, status
    (flow.request if is_request else flow.response).headers = Headers(fields)
    stream = SimpleNamespace(flow=flow, request_body_buf=b"", response_body_buf=b"")
    if messages._is_small(stream, is_request=is_request):
        assert 0 <= expected_http_body_size(flow.request, None if is_request else flow.response) <= messages.SMALL


@any_time
@given(fields=_lengths, is_request=st.booleans(), method=_methods, status=_statuses)
def test_a_body_is_as_long_as_mitmproxy_says(fields, is_request, method, status) -> None:
    flow = tflow.tflow(resp=True)
    flow.request.method, flow.response.status_code = method, status
    (flow.request if is_request else flow.response).headers = Headers(fields)
    asked = (flow.request, None if is_request else flow.response)
    assert outcome(http1.expected_http_body_size, *asked) == outcome(read.expected_http_body_size, *asked)


@pytest.mark.parametrize("is_request", [True, False])
def test_a_body_that_has_grown_is_not_small_whatever_its_head_said(is_request) -> None:
    flow = tflow.tflow(resp=True)
    (flow.request if is_request else flow.response).headers["content-length"] = "1"
    for size, small in ((0, True), (1, True), (messages.SMALL, True), (messages.SMALL + 1, False)):
        stream = SimpleNamespace(flow=flow, request_body_buf=bytes(size), response_body_buf=bytes(size))
        assert messages._is_small(stream, is_request=is_request) is small


def test_flows_have_random_uuids() -> None:
    ids = {tflow.tflow().id for _ in range(64)} | {messages._uuid4() for _ in range(64)}
    assert len(ids) == 128
    assert {(parsed.version, parsed.variant, str(parsed)) for parsed in map(uuid.UUID, ids)} == {
        (4, uuid.RFC_4122, one) for one in ids
    }
    assert {one[19] for one in ids} == set("89ab")


def test_a_new_context_has_its_own_layers_and_shares_the_rest() -> None:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    context = Context(client, Options())
    context.layers.append(object())
    forked = context.fork()
    assert vars(forked) == vars(context)
    assert (forked.server, forked.client, forked.options) == (context.server, context.client, context.options)
    forked.layers.append(object())
    assert len(context.layers) == 1
