"""A stream's events arrive as they are sent, and its end on one side is its end on the other."""

import threading
import time

import pytest
from ground import wait_until
from raw import call, head
from server import saying
from streams import HEAD, MAIL, message, messages, received

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]


class Paced:
    """A stream whose next piece is sent when the test says so; `ended` is when the gateway was gone."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.turn = threading.Semaphore(0)
        self.sent = 0
        self.peer = None
        self.begun = threading.Event()

    def __call__(self, peer, heard) -> None:
        self.peer = peer
        peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        self.begun.set()
        for piece in self.pieces:
            if not self.turn.acquire(timeout=30):
                return
            self.sent += 1
            peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        peer.wait_for_end()


@pytest.mark.attack("SSE-16", "SSE-22")
@pytest.mark.parametrize(
    "piece", [b": ping\n\n", b":\n\n", b": ping\n", b"data: " + message("x") + b"\n\n", b"id: 7\ndata:\n\n"]
)
def test_each_event_and_comment_arrives_before_the_next_is_sent(ground, piece) -> None:
    paced = Paced(*[piece] * 20)
    with ground.api.answering(paced), ground.tunnel() as client:
        client.send(ground.post(call("watch")))
        assert client.read_head().status == 200
        for number in range(1, 21):
            paced.turn.release()
            assert client.read_chunk()
            assert paced.sent == number  # the next is sent only when this one has been read


@pytest.mark.attack("SSE-16")
def test_a_get_stream_is_delivered_and_masked_as_it_comes(ground) -> None:
    paced = Paced(b"data: " + message(MAIL) + b"\n\n", b": ping\n\n")
    with ground.api.answering(paced), ground.tunnel() as client:
        lines = (f"Host: {ground.api.authority}", "Accept: text/event-stream", "MCP-Protocol-Version: 2025-11-25")
        client.send(head("GET /mcp HTTP/1.1", *lines))
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
            paced.begun.wait(30)
            paced.turn.release()
        left = time.monotonic()
        client.sock.close()
        assert paced.peer.ended.wait(30)
        assert paced.peer.ended_at - left < 1  # what the case asks for
        (sent,) = watch.records("request")
        assert wait_until(lambda: watch.outcome_of(sent) == "client-left")


@pytest.mark.attack("SSE-17")
def test_a_server_that_leaves_in_mid_stream_is_told_to_the_caller(ground) -> None:
    half = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    event = b"data: " + message("x") + b"\n\n"
    body = received(ground, saying(half + b"%x\r\n%s\r\n" % (len(event), event) + b"40\r\ndata: half", close=True))
    assert messages(body)[-1]["error"]["data"]["reason"] == "server-failed"
    assert b"half" not in body
