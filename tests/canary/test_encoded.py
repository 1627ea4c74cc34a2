"""Answers in a content encoding: decoded whole and scrubbed, or refused; never passed on as they are."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from driver import Driver
from forms import Watch

VALUE = b"sk-live-Zq7RkT2mXw9Lb4Nf8VhC3pYs"
PAGE = b"<pre>Authorization: Bearer " + VALUE + b"</pre>"
MESSAGE = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"' + VALUE + b'"}]}}'
EVENT = b"data: " + MESSAGE + b"\n\n"
MIB = 1024 * 1024

ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}

type Make = Callable[..., Driver]


def answer(body: bytes, *headers: str, kind: str = "application/json", framing: str = "length") -> bytes:
    fields = [f"Content-Type: {kind}", *headers]
    if framing == "length":
        fields.append(f"Content-Length: {len(body)}")
    if framing == "chunked":
        fields.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode() + body


def is_refused(received: bytes) -> bool:
    return received.startswith(b"HTTP/1.1 502") and b"unscannable-response" in received


def sightings(driver: Driver, value: bytes = VALUE) -> list[str]:
    return Watch(value).sightings(bytes(driver.received) + bytes(driver.seen))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", ENCODE)
@pytest.mark.parametrize("is_mcp", [True, False], ids=["JSON", "a page"])
def test_a_whole_body_is_decoded_and_scrubbed_and_sent_as_identity(
    driver: Make, name: str, is_mcp: bool, framing: str
) -> None:
    one = driver(VALUE, is_mcp=is_mcp)
    plain, kind = (MESSAGE, "application/json") if is_mcp else (PAGE, "text/html")
    sent = answer(ENCODE[name](plain), f"Content-Encoding: {name}", kind=kind, framing=framing)
    received = one.ask([sent], closes=framing == "close")
    assert received.endswith(plain.replace(VALUE, b"*" * len(VALUE)))
    assert b"content-encoding" not in received.lower()
    assert b"content-length: %d" % len(plain) in received.lower()
    assert sightings(one) == []


@pytest.mark.parametrize("name", ENCODE)
def test_however_an_encoded_body_is_split_it_is_scrubbed(driver: Make, name: str) -> None:
    sent = answer(ENCODE[name](MESSAGE), f"Content-Encoding: {name}")
    for split in range(1, len(sent), 7):
        one = driver(VALUE)
        received = one.ask([sent[:split], sent[split:]], closes=False)
        assert received.endswith(MESSAGE.replace(VALUE, b"*" * len(VALUE)))
        assert sightings(one) == []


PLAIN_PAGE = b"<pre>nothing to hide</pre>"
TWO = gzip.compress(PLAIN_PAGE) + gzip.compress(PAGE)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(answer(TWO, "Content-Encoding: gzip"), id="MASK-10 two gzip members"),
        pytest.param(answer(brotli.compress(PLAIN_PAGE) + brotli.compress(PAGE), "Content-Encoding: br"),
                     id="MASK-10 two br"),
        pytest.param(answer(zstandard.compress(PLAIN_PAGE) + zstandard.compress(PAGE), "Content-Encoding: zstd"),
                     id="MASK-10 two zstd frames"),
        pytest.param(answer(zlib.compress(PLAIN_PAGE) + zlib.compress(PAGE), "Content-Encoding: deflate"),
                     id="MASK-10 two deflate"),
        pytest.param(answer(gzip.compress(PAGE) + PAGE, "Content-Encoding: gzip"), id="something behind it"),
        pytest.param(answer(gzip.compress(PAGE)[:-9], "Content-Encoding: gzip"), id="cut"),
        pytest.param(answer(PAGE, "Content-Encoding: gzip"), id="not encoded at all"),
        pytest.param(answer(PAGE, "Content-Encoding: compress"), id="unknown"),
        pytest.param(answer(PAGE, "Content-Encoding: aws-chunked"), id="unknown and harmless"),
        pytest.param(answer(gzip.compress(gzip.compress(PAGE)), "Content-Encoding: gzip, gzip"), id="twice"),
        pytest.param(answer(gzip.compress(PAGE), "Content-Encoding: gzip", "Content-Encoding: identity"),
                     id="told in two headers"),
        pytest.param(answer(gzip.compress(PAGE), "Content-Encoding: identity", "Content-Encoding: gzip"),
                     id="told in two headers, the other way round"),
        pytest.param(answer(gzip.compress(EVENT), "Content-Encoding: gzip", kind="text/event-stream"), id="a stream"),
        pytest.param(answer(gzip.compress(EVENT), "Content-Encoding: gzip", kind="Text/Event-Stream ; charset=utf-8"),
                     id="a stream, spelt otherwise"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_mcp", [True, False], ids=["MCP", "plain HTTP"])
def test_what_cannot_be_read_is_refused(driver: Make, sent: bytes, is_mcp: bool) -> None:
    good = driver(VALUE, is_mcp=is_mcp)
    assert good.ask([answer(gzip.compress(b"{}" if not is_mcp else MESSAGE), "Content-Encoding: gzip")], closes=False)
    assert good.received.startswith(b"HTTP/1.1 200")
    one = driver(VALUE, is_mcp=is_mcp)
    assert is_refused(one.ask([sent], closes=False))
    assert sightings(one) == []


def test_a_stream_that_does_not_end_is_refused_at_its_head(driver: Make) -> None:
    one = driver(VALUE)
    head, _, body = answer(gzip.compress(EVENT), "Content-Encoding: gzip", kind="text/event-stream", framing="close"
                           ).partition(b"\r\n\r\n")  # fmt: skip
    assert is_refused(one.ask([head + b"\r\n\r\n", body[:10]], closes=False))


@pytest.mark.parametrize("name", ENCODE)
def test_a_bomb_is_refused_in_constant_memory(driver: Make, name: str) -> None:
    bomb = ENCODE[name](bytes(64 * MIB))
    one = driver(VALUE, is_mcp=False)
    sent = answer(bomb, f"Content-Encoding: {name}", kind="text/html")
    tracemalloc.start()
    received = one.ask([sent], closes=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert is_refused(received)
    assert peak < 16 * MIB


def test_an_encoded_body_over_the_limit_is_refused_before_it_is_whole(driver: Make) -> None:
    one = driver(VALUE, is_mcp=False)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 99999999\r\n\r\n"
    assert is_refused(one.ask([head, *[bytes(64 * 1024)] * 64], closes=False))


def test_an_encoding_of_the_transfer_is_refused(driver: Make) -> None:
    one = driver(VALUE, is_mcp=False)
    packed = gzip.compress(PAGE)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    one.ask([answer(b"", "Transfer-Encoding: gzip, chunked", kind="text/html", framing="") + chunks], closes=False)
    assert one.received.startswith(b"HTTP/1.1 502")
    assert packed not in one.received
