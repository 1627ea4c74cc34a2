"""A stream is read, masked and scrubbed event by event, as it comes; what cannot be read ends it."""

import json
import threading
import time
from contextlib import suppress

import pytest
from ground import denied, wait_until
from raw import call, head
from server import response, saying

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
MAIL = "ann@example.com"
MAX_EVENT = 4 * 1024 * 1024


def message(text: str, *, last: bool = False) -> bytes:
    """A notification with this text, or the result of the call."""
    if last:
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}).encode()
    return json.dumps(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": text}}
    ).encode()


def stream(*pieces: bytes, head_lines: bytes = b""):
    """A chunked stream of these pieces, a chunk each."""
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
    return saying(HEAD + head_lines + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n")


def received(ground, answer) -> bytes:
    """The stream as the caller gets it, to its end or to where it is cut."""
    body = b""
    with ground.api.answering(answer), ground.tunnel() as client:
        client.send(ground.post(call("watch")))
        reply = client.read_head()
        assert reply.status == 200, reply
        assert "content-length" not in reply.headers
        with suppress(EOFError, OSError):
            while chunk := client.read_chunk():
                body += chunk
        assert client.buffer == b"", "something followed the end of the stream"
    return body


def messages(body: bytes) -> list:
    """The JSON of each event's data, by the rules every client follows."""
    found, data = [], []
    for line in body.decode().split("\n"):
        if line == "" and data:
            found.append(json.loads("\n".join(data)))
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return found


def is_masked(body: bytes, count: int) -> None:
    """Asserts that `count` whole messages came, and the address in none of them."""
    assert MAIL.encode() not in body
    assert len(messages(body)) == count
    assert "error" not in messages(body)[-1]


ENDS = {
    "LF": b"\n\n",
    "CRLF": b"\r\n\r\n",
    "CR": b"\r\r",
    "CRLF LF": b"\r\n\n",
    "LF CRLF": b"\n\r\n",
    "CR LF LF": b"\r\n\n",
    "CR CRLF": b"\r\r\n",
}


@pytest.mark.attack("SSE-01")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_events_are_masked_however_their_lines_end(ground, end) -> None:
    piece = b"data: " + message(MAIL) + end + b"data: " + message(MAIL, last=True) + end
    is_masked(received(ground, stream(piece + b"\n")), 2)


@pytest.mark.attack("SSE-02")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_events_are_the_same_wherever_the_stream_is_cut(ground, end) -> None:
    whole = (
        b": hello"
        + end[:1]
        + b"data: "
        + message(MAIL)
        + end
        + b"id: 7"
        + end[:1]
        + b"data: "
        + message("x", last=True)
        + end
        + b"\n"
    )
    at = whole.index(end) + 1
    once = received(ground, stream(whole))
    assert received(ground, stream(whole[:at], whole[at:])) == once
    assert received(ground, stream(*(whole[n : n + 1] for n in range(len(whole))))) == once
    is_masked(once, 2)


@pytest.mark.attack("SSE-04")
def test_data_lines_are_one_value(ground) -> None:
    lines = json.dumps(json.loads(message(MAIL)), indent=1).encode().split(b"\n")
    piece = b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    is_masked(received(ground, stream(piece)), 1)


FIELDS = {
    "no space": b"data:%s\n\n",
    "two spaces": b"data:  %s\n\n",
    "an unknown field before": b"x-secret: %s\ndata: {}\n\n",
    "data in capitals": b"DATA: %s\ndata: {}\n\n",
    "a space before the colon": b"data : %s\ndata: {}\n\n",
    "a space before the name": b" data: %s\ndata: {}\n\n",
    "no colon": b"data%s\ndata: {}\n\n",
    "no field at all": b"%s\ndata: {}\n\n",
    "a comment": b":%s\ndata: {}\n\n",
    "an id": b"id: %s\ndata: {}\n\n",
    "a type": b"event: %s\ndata: {}\n\n",
    "a retry": b"retry: %s\ndata: {}\n\n",
}


@pytest.mark.attack("SSE-05")
@pytest.mark.parametrize("form", FIELDS.values(), ids=FIELDS)
def test_no_field_carries_the_secret_past(ground, form) -> None:
    secret = ground.credential.encode()
    value = message(ground.credential) if form in (FIELDS["no space"], FIELDS["two spaces"]) else secret
    body = received(ground, stream(form % value))
    assert secret not in body
    assert len(messages(body)) == 1


MARK = b"\xef\xbb\xbf"


@pytest.mark.attack("SSE-07")
@pytest.mark.parametrize("cut", [0, 1, 2, 3], ids=lambda cut: f"cut after {cut}")
def test_a_mark_at_the_start_hides_no_event(ground, cut) -> None:
    whole = MARK + b"data: " + message(MAIL, last=True) + b"\n\n"
    body = received(ground, stream(whole[:cut], whole[cut:]))
    is_masked(body, 1)
    assert MARK not in body


@pytest.mark.attack("SSE-07")
@pytest.mark.parametrize(
    "middle", [MARK + b"data: %s\n\n", b"data: {}\n" + MARK + b"data: %s\n\n", MARK + MARK + b"data: %s\n\n"]
)
def test_a_mark_in_the_middle_carries_nothing_past(ground, middle) -> None:
    body = received(ground, stream(b"data: {}\n\n" + middle % message(MAIL)))
    assert MAIL.encode() not in body


@pytest.mark.attack("SSE-08")
def test_a_character_cut_in_two_stays_whole(ground) -> None:
    data = json.dumps({"jsonrpc": "2.0", "method": "x", "params": {"a": "größe 😀"}}, ensure_ascii=False).encode()
    whole = b"data: " + data + b"\n\n"
    body = received(ground, stream(*(whole[n : n + 1] for n in range(len(whole)))))
    assert messages(body)[0]["params"]["a"] == "größe 😀"


@pytest.mark.attack("SSE-08")
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f", b"\xfe\xff\0d"])
def test_bytes_that_are_not_utf8_end_the_stream_with_an_error(ground, bad) -> None:
    good_one = b"data: " + message("first") + b"\n\n"
    body = received(ground, stream(good_one, b'data: {"a":"' + bad + b'"}\n\n', b"data: " + message("after") + b"\n\n"))
    assert messages(body)[0]["params"]["data"] == "first"
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"
    assert b"after" not in body
    assert bad not in body


LARGE = {
    "one line": [b'data: {"a":"', b"RAW" * (MAX_EVENT // 3 + 10), b'"}\n\n'],
    "many lines": [b"data: RAW\n" * (MAX_EVENT // 8), b"\n"],
    "an event that never ends": [b"data: RAW" + b"R" * 60_000 + b"\n"] * 90,
    "a line that never ends": [b"data: RAW" + b"R" * 60_000] * 90,
    "a comment": [b":" + b"RAW" * (MAX_EVENT // 3 + 10) + b"\n\n"],
    "unknown fields": [b"raw: RAW" + b"R" * 60_000 + b"\n"] * 90,
}


@pytest.mark.attack("SSE-10")
@pytest.mark.parametrize("pieces", LARGE.values(), ids=LARGE)
def test_an_event_that_is_too_large_ends_the_stream_and_nothing_of_it_leaves(ground, pieces) -> None:
    body = received(
        ground, stream(b"data: " + message("first") + b"\n\n", *pieces, b"data: " + message("after") + b"\n\n")
    )
    assert b"RAW" not in body
    assert b"after" not in body
    assert messages(body)[0]["params"]["data"] == "first"
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"


@pytest.mark.attack("SSE-11")
@pytest.mark.parametrize("encode", ["between lines", "escaped", "in a list", "in two pieces"])
def test_the_secret_in_pieces_does_not_reach_the_caller(ground, encode) -> None:
    secret = ground.credential
    a, b = secret[:9], secret[9:]
    piece = {
        "between lines": f'data: {{"jsonrpc":"2.0","method":"x","params":{{"a":"{a}\ndata: {b}"}}}}\n\n',
        "escaped": 'data: {"jsonrpc":"2.0","method":"x","params":{"a":"%s"}}\n\n'
        % "".join(f"\\u{ord(c):04x}" for c in secret),
        "in a list": f'data: {{"jsonrpc":"2.0","method":"x",\ndata: "params":{{"a":["{secret}"]}}}}\n\n',
        "in two pieces": f"data: {message(secret).decode()}\n\n",
    }[encode].encode()
    at = piece.index(a.encode()) + 5 if encode == "in two pieces" else len(piece) // 2
    body = received(ground, stream(piece[:at], piece[at:]))
    assert secret.encode() not in body
    assert b.encode() not in body
    assert b not in json.dumps(messages(body))


@pytest.mark.attack("SSE-13")
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "x-unknown", "identity, gzip"])
def test_an_encoded_stream_is_withheld(ground, encoding) -> None:
    lines = f"Content-Encoding: {encoding}\r\n".encode()
    with ground.watch(refusals=None, arrive=1) as watch, ground.tunnel() as client:
        with ground.api.answering(stream(b"\x1f\x8bdata: x\n\n", head_lines=lines)):
            denied(
                client.outcome(ground.post(call("watch"), more=["Accept-Encoding: gzip"])), 502, "unscannable-response"
            )
    assert watch.arrived()[0].headers["accept-encoding"] == "identity"


@pytest.mark.attack("SSE-14")
@pytest.mark.parametrize("text", [MAIL, "plain"], ids=["masked", "unmasked"])
def test_a_stream_with_a_length_leaves_in_chunks(ground, text) -> None:
    events = b"data: " + message(text, last=True) + b"\n\n"
    body = received(ground, saying(HEAD + b"Content-Length: %d\r\n\r\n" % len(events) + events))
    is_masked(body, 1)


@pytest.mark.attack("SSE-14")
@pytest.mark.parametrize("length", [5, 500])
def test_a_stream_of_another_length_than_it_says_carries_nothing_past(ground, length) -> None:
    events = b"data: " + message(MAIL, last=True) + b"\n\n"
    body = received(ground, saying(HEAD + b"Content-Length: %d\r\n\r\n" % length + events, close=True))
    assert MAIL.encode() not in body
    ground.is_well()


class Paced:
    """A stream whose next piece is sent when the test says so; `ended` is when the gateway was gone."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.turn = threading.Semaphore(0)
        self.sent: list[float] = []
        self.peer = None
        self.begun = threading.Event()

    def __call__(self, peer, heard) -> None:
        self.peer = peer
        peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        self.begun.set()
        for piece in self.pieces:
            if not self.turn.acquire(timeout=10):
                return
            self.sent.append(time.monotonic())
            peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        peer.wait_for_end()


@pytest.mark.attack("SSE-16", "SSE-22")
@pytest.mark.parametrize(
    "piece", [b": ping\n\n", b":\n\n", b": ping\n", b"data: " + message("x") + b"\n\n", b"id: 7\ndata:\n\n"]
)
def test_each_event_and_comment_arrives_before_the_next_is_sent(ground, piece) -> None:
    paced = Paced(*[piece] * 20)
    delays = []
    with ground.api.answering(paced), ground.tunnel(timeout=5) as client:
        client.send(ground.post(call("watch")))
        assert client.read_head().status == 200
        for number in range(20):
            paced.turn.release()
            assert client.read_chunk()
            delays.append(time.monotonic() - paced.sent[number])
    assert sorted(delays)[len(delays) // 2] < 0.02  # the median: a busy machine may delay one
    assert max(delays) < 1


@pytest.mark.attack("SSE-16")
def test_a_get_stream_is_delivered_and_masked_as_it_comes(ground) -> None:
    paced = Paced(b"data: " + message(MAIL) + b"\n\n", b": ping\n\n")
    with ground.api.answering(paced), ground.tunnel(timeout=5) as client:
        client.send(head("GET /mcp HTTP/1.1", f"Host: {ground.api.authority}", "Accept: text/event-stream"))
        assert client.read_head().status == 200
        paced.turn.release()
        assert MAIL.encode() not in client.read_chunk()
        paced.turn.release()
        assert client.read_chunk() == b": ping\n\n"


@pytest.mark.attack("SSE-17")
@pytest.mark.parametrize("when", ["before the first event", "after an event"])
def test_a_client_that_leaves_ends_the_stream_at_the_server_and_that_is_recorded(ground, when) -> None:
    paced = Paced(b"data: " + message("x") + b"\n\n")
    with ground.watch(refusals=None, arrive=1) as watch, ground.api.answering(paced):
        client = ground.tunnel()
        client.send(ground.post(call("watch")))
        assert client.read_head().status == 200
        if when == "after an event":
            paced.turn.release()
            client.read_chunk()
        else:
            paced.begun.wait(5)
            paced.turn.release()
        left = time.monotonic()
        client.sock.close()
        assert paced.peer.ended.wait(5)
        assert paced.peer.ended_at - left < 1
        (sent,) = watch.records("request")
        assert wait_until(lambda: watch.outcome_of(sent) == "client-left")


@pytest.mark.attack("SSE-17")
def test_a_server_that_leaves_in_mid_stream_is_told_to_the_caller(ground) -> None:
    half = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    event = b"data: " + message("x") + b"\n\n"
    body = received(ground, saying(half + b"%x\r\n%s\r\n" % (len(event), event) + b"40\r\ndata: half", close=True))
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"
    assert b"half" not in body


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
    "multipart/x-mixed-replace; boundary=a", "application/x-ndjson", "application/json-seq", "application/jsonl", "text/plain", "text/html",
    "application/octet-stream", "application/json-stream", "text/event-stream-x", "application/grpc", "text/event-stream, text/html", "",
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
        denied(reply, 502)
        assert MAIL.encode() not in reply.body


def test_the_good_stream_beside_all_of_these_passes(ground) -> None:
    events = [
        b"data: " + message("one") + b"\n\n",
        b": ping\n\n",
        b"id: 1\ndata: " + message("two", last=True) + b"\n\n",
    ]
    body = received(ground, stream(*events))
    assert [found.get("id") for found in messages(body)] == [None, 1]
    assert b": ping\n\n" in body
