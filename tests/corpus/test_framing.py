"""A body has one length that everybody reads alike, or it is refused; what leaves is framed by the gateway alone."""

import pytest
from ground import closed, denied
from raw import call

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

BODY = call("get_order", {"order_id": "A"})
SIZE = str(len(BODY))


def lengths(*values: str) -> dict[str, list[str]]:
    return {f"length {value!r}": [f"Content-Length: {value}"] for value in values}


FRAMING = {
    "length and chunked": [f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", f"Content-Length: {SIZE}"],
    "two lengths": [f"Content-Length: {SIZE}", "Content-Length: 2"],
    "two equal lengths": [f"Content-Length: {SIZE}", f"Content-Length: {SIZE}"],
    "two spellings of a length": [f"Content-Length: {SIZE}", "content-length: 2"],
    **lengths(
        "2, 2", f"{SIZE}, {SIZE}", "+2", "0x2", "-1", "", "2 2", "2;a", "1e2", "2.0", "\u0662", "9" * 30, "0" + SIZE
    ),
}


@pytest.mark.attack("HTTP-26")
@pytest.mark.parametrize("lines", FRAMING.values(), ids=FRAMING)
def test_a_body_whose_length_can_be_read_twice_is_refused_and_the_connection_ends(ground, lines) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(without=["Content-Length"], more=lines)), (400, 413))
        assert client.is_ended()


@pytest.mark.attack("HTTP-26")
@pytest.mark.parametrize("lines", FRAMING.values(), ids=FRAMING)
def test_a_request_hidden_behind_such_a_body_is_not_answered(ground, lines) -> None:
    with ground.watch(refusals=None), ground.tunnel() as client:
        client.send(
            ground.post(without=["Content-Length"], more=lines) + ground.post(call("get_order", call_id="hidden"))
        )
        assert b"hidden" not in client.rest()


ENCODINGS = [
    "\x0bchunked", "\x0cchunked", "gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "xchunked",
    "chunked;q=1", "gzip", '"chunked"', "chunked,", ", chunked", "\xa0chunked", "chu nked", "",
]  # fmt: skip


@pytest.mark.attack("HTTP-28")
@pytest.mark.parametrize("value", ENCODINGS)
def test_a_transfer_encoding_other_than_chunked_is_refused(ground, value) -> None:
    with ground.watch(), ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=[f"Transfer-Encoding: {value}".encode("latin-1")])
        denied(client.outcome(message + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), 400)


@pytest.mark.attack("HTTP-28")
@pytest.mark.parametrize(
    "lines", [["Transfer-Encoding: chunked"] * 2, ["Transfer-Encoding: chunked", "Transfer_Encoding: x"]]
)
def test_two_transfer_encodings_are_refused(ground, lines) -> None:
    with ground.watch(), ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=lines)
        denied(client.outcome(message + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), 400)


def chunked(ground, chunks: bytes) -> bytes:
    return ground.post(b"", without=["Content-Length"], more=["Transfer-Encoding: chunked"]) + chunks


@pytest.mark.attack("HTTP-37")
@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b c"', b" ", b"; a = b"])
def test_a_chunk_extension_is_dropped_or_refused(ground, extension) -> None:
    chunks = b"%x%s\r\n%s\r\n0\r\n\r\n" % (len(BODY), extension, BODY)
    mark = ground.api.mark()
    with ground.tunnel() as client:
        reply = client.outcome(chunked(ground, chunks))
        came = ground.api.requests_since(mark)
        assert reply is None or reply.status in (200, 400)
        assert [heard.faults for heard in came] == [[]] * len(came)
        assert len(came) == (1 if reply is not None and reply.status == 200 else 0)
    ground.is_well()


BAD_CHUNKS = {
    "hexadecimal prefix": b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a sign": b"+%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a negative size": b"-1\r\n%s\r\n0\r\n\r\n" % BODY,
    "LF after the size": b"%x\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "LF after the data": b"%x\r\n%s\n0\r\n\r\n" % (len(BODY), BODY),
    "17 digits": b"%017x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a huge size": b"ffffffffffffffff1\r\n%s\r\n0\r\n\r\n" % BODY,
    "no size": b"\r\n%s\r\n0\r\n\r\n" % BODY,
    "too much data": b"%x\r\n%sxx\r\n0\r\n\r\n" % (len(BODY), BODY),
    "too little data": b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY) + 3, BODY),
    "words": b"zz\r\n%s\r\n0\r\n\r\n" % BODY,
    "a line end in an extension": b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "an underscore": b"%s\r\n%s\r\n0\r\n\r\n" % (b"_".join([b"%x" % len(BODY)] * 2), BODY),
}


@pytest.mark.attack("HTTP-37")
@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_a_chunk_that_is_not_well_formed_ends_the_connection(ground, chunks) -> None:
    with ground.watch(refusals=None), ground.tunnel() as client:
        closed(client, client.outcome(chunked(ground, chunks)))


TRAILERS = {
    "one": b"X-A: b\r\n",
    "a policed one": b"Authorization: Bearer x\r\n",
    "a length": b"Content-Length: 2\r\n",
    "two": b"X-A: b\r\nX-B: c\r\n",
}


@pytest.mark.attack("HTTP-38")
@pytest.mark.parametrize("trailers", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
def test_trailers_of_a_request_are_refused(ground, trailers, announced) -> None:
    more = ["Transfer-Encoding: chunked", *(["Trailer: X-A"] if announced else [])]
    with ground.watch(), ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=more)
        reply = client.outcome(message + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers))
        denied(reply, 400, "trailers-refused")
