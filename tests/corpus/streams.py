"""Streams a server sends, and how a caller gets them."""

import json
from contextlib import suppress

from raw import call
from server import Answer, saying

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
MAIL = "ann@example.com"
MASKED = "[redacted]"
"""What the policy's mask puts in its place."""
MAX_EVENT = 4 * 1024 * 1024


def message(text: str, *, last: bool = False) -> bytes:
    """A notification with this text, or the result of the call."""
    if last:
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}).encode()
    return json.dumps(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": text}}
    ).encode()


def stream(*pieces: bytes, head_lines: bytes = b"") -> Answer:
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
    """Asserts that `count` whole messages came, and the address in none of them but what stands for it in one."""
    assert MAIL.encode() not in body
    assert len(messages(body)) == count
    assert "error" not in messages(body)[-1]
    assert MASKED in json.dumps(messages(body)), "the message must arrive, masked"
