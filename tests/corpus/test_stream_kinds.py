"""A stream of a kind, encoding or charset that cannot be read is withheld; one that can leaves in chunks."""

import gzip

import pytest
from ground import denied
from raw import call
from server import response, saying
from streams import HEAD, MAIL, MASKED, is_masked, message, messages, received, stream

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]


@pytest.mark.attack("SSE-13")
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "x-unknown", "identity, gzip"])
def test_an_encoded_stream_is_withheld(ground, encoding) -> None:
    lines = f"Content-Encoding: {encoding}\r\n".encode()
    encoded = stream(b"\x1f\x8bdata: x\n\n", head_lines=lines)
    with ground.watch(refusals=None, arrive=1) as watch, ground.tunnel() as client, ground.api.answering(encoded):
        reply = client.outcome(ground.post(call("watch"), more=["Accept-Encoding: gzip"]))
        denied(reply, 502, "unscannable-response")
    assert watch.arrived()[0].headers["accept-encoding"] == "identity"


@pytest.mark.attack("SSE-13")
def test_a_well_encoded_stream_is_withheld(ground) -> None:
    body = gzip.compress(b"data: " + message(MAIL + ground.credential, last=True) + b"\n\n")
    answer = saying(response(body, "Content-Encoding: gzip", kind="text/event-stream"))
    with ground.api.answering(answer), ground.tunnel() as client:
        reply = client.outcome(ground.post(call("watch")))
        denied(reply, 502, "unscannable-response")
        assert "content-encoding" not in reply.headers
        assert MAIL.encode() not in reply.body
        assert ground.credential.encode() not in reply.body


@pytest.mark.attack("SSE-14")
@pytest.mark.parametrize("text", [MAIL, "plain"], ids=["masked", "unmasked"])
def test_a_stream_with_a_length_leaves_in_chunks(ground, text) -> None:
    events = b"data: " + message(text, last=True) + b"\n\n"
    body = received(ground, saying(HEAD + b"Content-Length: %d\r\n\r\n" % len(events) + events))
    assert messages(body)[0]["result"]["content"][0]["text"] == (MASKED if text == MAIL else text)
    assert len(messages(body)) == 1


@pytest.mark.attack("SSE-14")
@pytest.mark.parametrize("length", [5, 500])
def test_a_stream_of_another_length_than_it_says_carries_nothing_past(ground, length) -> None:
    events = b"data: " + message(MAIL, last=True) + b"\n\n"
    body = received(ground, saying(HEAD + b"Content-Length: %d\r\n\r\n" % length + events, close=True))
    assert MAIL.encode() not in body
    ground.is_well()


KINDS = {
    "text/event-stream;charset=utf-16": 502,
    "text/event-stream; charset=UTF-16LE": 502,
    'text/event-stream; charset="utf-16"': 502,
    "text/event-stream; charset=iso-8859-1": 502,
    "text/event-stream; charset=utf-7": 502,
    "text/event-stream; charset=utf-8; charset=utf-16": 502,
    "Text/Event-Stream": 200,
    "TEXT/EVENT-STREAM; Charset=UTF-8": 200,
    "text/event-stream ; charset=utf-8": 200,
    'text/event-stream;charset="utf-8"': 200,
}


@pytest.mark.attack("SSE-19")
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_known_by_its_type_in_any_case_and_read_as_utf8_only(ground, kind) -> None:
    events = b"data: " + message(MAIL, last=True) + b"\n\n"
    with ground.api.answering(saying(response(events, kind=kind))), ground.tunnel() as client:
        reply = client.outcome(ground.post(call("watch")))
        if KINDS[kind] == 200:
            assert reply.status == 200
            is_masked(reply.body, 1)
        else:
            denied(reply, 502)
            assert MAIL.encode() not in reply.body


OTHERS = [
    "multipart/x-mixed-replace; boundary=a", "application/x-ndjson", "application/json-seq", "application/jsonl",
    "text/plain", "text/html", "application/octet-stream", "application/json-stream", "text/event-stream-x",
    "application/grpc", "text/event-stream, text/html", "",
]  # fmt: skip


@pytest.mark.attack("SSE-20")
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["whole", "in chunks"])
def test_a_stream_of_another_type_is_withheld(ground, kind, in_chunks) -> None:
    line = message(MAIL, last=True) + b"\n"
    top = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind.encode()
    answer = (
        saying(top, b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line)) if in_chunks else saying(response(line, kind=kind))
    )
    with ground.api.answering(answer), ground.tunnel() as client:
        reply = client.outcome(ground.post(call("watch")))
        denied(reply, 502, ("server-failed", "unscannable-response"))
        assert MAIL.encode() not in reply.body
    ground.is_well()


@pytest.mark.attack("SSE-19")
@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "iso-8859-1", "utf-8; charset=utf-16"])
def test_json_in_another_charset_is_withheld(ground, charset) -> None:
    def answer(kind: str) -> object:
        return saying(response(message("plain", last=True), kind=kind))

    with ground.tunnel() as client, ground.api.answering(answer("application/json; charset=UTF-8")):
        assert client.outcome(ground.post(call("watch"))).status == 200
    with ground.tunnel() as client, ground.api.answering(answer(f"application/json; charset={charset}")):
        denied(client.outcome(ground.post(call("watch"))), 502, "unscannable-response")
