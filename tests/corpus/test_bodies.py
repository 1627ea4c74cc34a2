"""A body that is encoded, too large or nobody's is refused before the server hears of it."""

import gzip
import io
import random
import time
import zlib

import pytest
from ground import denied
from raw import call, head, proxy_authorization
from server import response, saying

from bench_lib.soak import resident_bytes

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

LIMIT = 10 * 1024 * 1024
BODY = call("get_order", {"order_id": "A"})
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'

UNDECLARED = {
    "gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "gzip of nothing": gzip.compress(b""),
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
}


@pytest.mark.attack("HTTP-55")
@pytest.mark.parametrize("body", UNDECLARED.values(), ids=UNDECLARED)
def test_a_body_encoded_without_a_word_is_not_json(ground, body) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(body)), 400)


def bomb() -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        for _ in range(50):
            file.write(bytes(1024 * 1024))
    return out.getvalue()


ENCODED = {
    "one member": gzip.compress(BODY),
    "two members": gzip.compress(BODY) + gzip.compress(call("delete_order")),
    "garbage behind it": gzip.compress(BODY) + b"garbage",
    "cut": gzip.compress(BODY)[:-9],
    "plain": BODY,
    "a bomb": bomb(),
}


@pytest.mark.attack("HTTP-56")
@pytest.mark.parametrize("body", ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity, gzip", "br", "unknown"])
def test_an_encoded_request_is_not_taken(ground, body, encoding) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(body, more=[f"Content-Encoding: {encoding}"])), 415)


BAD_ANSWERS = {
    "two members": ("gzip", gzip.compress(ANSWER) + gzip.compress(ANSWER)),
    "garbage behind it": ("gzip", gzip.compress(ANSWER) + b"garbage"),
    "cut": ("gzip", gzip.compress(ANSWER)[:-9]),
    "not encoded at all": ("gzip", ANSWER),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(ANSWER))),
    "unknown": ("x-unknown", ANSWER),
    "a bomb": ("gzip", bomb()),
    "deflate without its frame, cut": ("deflate", zlib.compress(ANSWER)[2:-6]),
    "br that is none": ("br", ANSWER),
    "zstd that is none": ("zstd", ANSWER),
}


@pytest.mark.attack("HTTP-56")
@pytest.mark.parametrize(("encoding", "body"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_encoded_answer_that_is_not_one_whole_member_is_withheld(ground, encoding, body) -> None:
    with ground.api.answering(saying(response(body, f"Content-Encoding: {encoding}"))), ground.tunnel() as client:
        reply = client.outcome(ground.post())
        denied(reply, 502, "unscannable-response")
        assert reply.json["id"] == 1
    ground.is_well()


@pytest.mark.attack("HTTP-56")
def test_an_encoded_answer_that_is_whole_arrives_decoded_or_not_at_all(ground) -> None:
    answer = saying(response(gzip.compress(ANSWER), "Content-Encoding: gzip"))
    with ground.watch(refusals=None, arrive=1) as watch, ground.tunnel() as client:
        with ground.api.answering(answer):
            reply = client.outcome(ground.post(more=["Accept-Encoding: gzip, br"]))
        assert reply.status in (200, 502)
        assert "content-encoding" not in reply.headers
        assert reply.json["id"] == 1
    assert watch.arrived()[0].headers["accept-encoding"] == "identity"


def memory(ground) -> int:
    """Resident bytes of the gateway."""
    return resident_bytes(ground.gateway.pid)


@pytest.mark.attack("HTTP-58")
@pytest.mark.parametrize("size", [LIMIT + 1, 10**9, 10**18])
def test_a_body_declared_over_the_limit_is_refused_before_it_comes(ground, size) -> None:
    with ground.watch(), ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=[f"Content-Length: {size}"])
        denied(client.outcome(message), 413 if size < 10**15 else (400, 413))
        assert client.is_ended()


@pytest.mark.attack("HTTP-58")
def test_a_chunked_body_that_grows_over_the_limit_is_refused_in_bounded_memory(ground) -> None:
    ground.is_well()
    before = memory(ground)
    with ground.watch(), ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=["Transfer-Encoding: chunked"])
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        denied(client.outcome(message + chunk * (LIMIT // 0x10000 + 4)), 413, "body-too-large")
        assert client.is_ended()
        assert memory(ground) < before + 100 * 1024 * 1024


@pytest.mark.attack("HTTP-59")
def test_policy_decides_about_a_large_body_before_its_first_byte_leaves(ground) -> None:
    padding = "x" * (5 * 1024 * 1024)
    with ground.watch(refusals=1, arrive=1), ground.tunnel() as client, ground.tunnel() as other:
        body = call("delete_order", {"padding": padding})
        head_of_it, rest = ground.post(body)[:70_000], ground.post(body)[70_000:]
        client.send(head_of_it)
        assert ground.api.bytes_since(ground.api.mark()) == 0
        denied(client.outcome(rest), 200, "policy-denied")
        assert other.outcome(ground.post(call("get_order", {"padding": padding}))).status == 200


@pytest.mark.attack("HTTP-62")
@pytest.mark.parametrize("size", [100 * 1024 * 1024, 5 * 1024 * 1024, 70_000], ids=["100 MB", "5 MB", "70 kB"])
@pytest.mark.parametrize("who", ["nobody at the proxy", "nobody in a tunnel", "a bad token at the proxy"])
def test_a_body_of_nobody_is_not_read(ground, size, who) -> None:
    lines = [f"Content-Length: {size}", "Content-Type: application/json"]
    if who == "a bad token at the proxy":
        lines.append(proxy_authorization("a.b.c"))
    with ground.watch(), ground.client() as client:
        if who == "nobody in a tunnel":
            assert client.connect("a.b.c").status == 200
            client.start_tls()
            message = head("POST /mcp HTTP/1.1", f"Host: {ground.api.authority}", *lines)
        else:
            message = head(f"POST {ground.rest_url()} HTTP/1.1", f"Host: {ground.rest.authority}", *lines)
        began = time.monotonic()
        denied(client.outcome(message + b"x" * 1000), (401, 407))
        assert client.is_ended()
        assert time.monotonic() - began < 5


@pytest.mark.attack("HTTP-58")
def test_nesting_and_numbers_that_are_costly_to_parse_are_refused_at_once(ground) -> None:
    deep = [b"[" * 1_000_000, b'{"a":' * 200_000, b"1" * 1_000_000, b'{"id":1' + b"0" * 100_000 + b"}"]
    began = time.monotonic()
    with ground.watch(refusals=len(deep)), ground.tunnel() as client:
        for body in deep:
            denied(client.outcome(ground.post(body)), 400)
    assert time.monotonic() - began < 5


@pytest.mark.attack("HTTP-55")
def test_random_bytes_are_not_json(ground) -> None:
    chance = random.Random(1)  # noqa: S311 - the same bytes every time
    with ground.watch(refusals=20), ground.tunnel() as client:
        for _ in range(20):
            denied(client.outcome(ground.post(chance.randbytes(chance.randrange(1, 300)))), 400)
