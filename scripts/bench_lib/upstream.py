"""An MCP server that costs next to nothing: what is measured is the proxy in front of it.

Law: a request without the real credential is answered 401, so a run in which the swap fails, fails.
Two tools at `POST /mcp`: `lookup` answers 1 KB of JSON; `follow` answers a stream of events, each of which
carries the moment it was sent (CLOCK_MONOTONIC, which all processes of a machine share). `GET /mcp` and
`subscriptions/listen` answer streams that last until their client goes.

    BENCH_CREDENTIAL=… python -m bench_lib.upstream --plain PORT --tls PORT --cert FILE --key FILE
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import ssl
import time
from pathlib import Path
from typing import override

EVENTS = 10
EVENT_GAP_SECONDS = 0.01
PUSH_GAP_SECONDS = 0.1
"""Between the events of a stream without end."""
EMAIL, CARD = "buyer-01@customers.example", "4000000042420010"
MARKER = "every-order-ends-here"
LIMIT = 1 << 20
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_AUTHORIZATION = re.compile(rb"\r\nauthorization: *([^\r]*)\r\n", re.IGNORECASE)
_ID = re.compile(rb'"id":\s?(\d+)')
_LETTERS = str.maketrans("0123456789", "abcdefghij")
_DIGITS = str.maketrans("abcdefghij", "0123456789")


def stamp(nanoseconds: int) -> str:
    """A moment in letters: a row of digits could be taken for a card number and masked."""
    return str(nanoseconds).translate(_LETTERS)


def read_stamp(text: str) -> int:
    """The moment in nanoseconds that `stamp` wrote."""
    return int(text.translate(_DIGITS))


def answer_template() -> tuple[bytes, bytes]:
    """What stands before and after the id in the answer of `lookup`: 1 KB with an e-mail and a card in it."""
    order = {"order": "A-1001", "email": EMAIL, "card": CARD, "note": "", "end": MARKER}
    order["note"] = "wrapped in paper, left at the side door; " * 3
    result = {
        "content": [{"type": "text", "text": json.dumps(order)}],
        "structuredContent": {"lines": [{"sku": f"S-{n}", "count": n} for n in range(10, 32)], "buyer": EMAIL},
        "isError": False,
    }
    before, after = json.dumps({"jsonrpc": "2.0", "id": "#", "result": result}, separators=(",", ":")).split('"#"')
    return before.encode(), after.encode()


class Upstream(asyncio.Protocol):
    """One kept connection: reads a request, answers it, reads the next."""

    def __init__(self, credential: bytes) -> None:
        self._expected = b"Bearer " + credential
        self._before, self._after = answer_template()
        self._buffer = bytearray()
        self._stream: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # TCP and TLS transports both are
        self._transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[: end + 2])
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                break
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._answer(head, body)
        if len(self._buffer) > LIMIT:
            self._transport.abort()

    def _answer(self, head: bytes, body: bytes) -> None:
        authorization, found = _AUTHORIZATION.findall(head), _ID.search(body)
        if authorization != [self._expected]:
            self._transport.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        elif head.startswith(b"GET ") or b'"subscriptions/listen"' in body:
            self._stream = asyncio.get_running_loop().create_task(self._push(found and int(found[1])))
        elif found is None:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        elif b'"follow"' in body:
            self._stream = asyncio.get_running_loop().create_task(self._send_events(found[1]))
        else:
            answer = b"".join((self._before, found[1], self._after))
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
            self._transport.write(head + answer)

    async def _push(self, listens: int | None) -> None:
        """Numbered messages without end; to the request `listens` of MCP 2026-07-28, or to a GET."""
        self._transport.write(STREAM_HEAD)
        tagged = {} if listens is None else {"_meta": {"io.modelcontextprotocol/subscriptionId": listens}}
        if listens is not None:
            acknowledged = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": tagged}
            self._send_event(json.dumps(acknowledged).encode())
        for n in itertools.count():
            params = {"level": "info", "data": f"push {n} for {EMAIL};"} | tagged
            message = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
            self._send_event(json.dumps(message).encode(), event_id=b"" if tagged else b"id: %d\n" % n)
            await asyncio.sleep(PUSH_GAP_SECONDS)

    async def _send_events(self, request_id: bytes) -> None:
        self._transport.write(STREAM_HEAD)
        for n in range(EVENTS):
            message = f"order for {EMAIL} sent {stamp(time.monotonic_ns())};"
            params = {"progressToken": int(request_id), "progress": n + 1, "total": EVENTS, "message": message}
            notification = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            self._send_event(json.dumps(notification).encode())
            await asyncio.sleep(EVENT_GAP_SECONDS)
        self._send_event(b"".join((self._before, request_id, self._after)))
        self._transport.write(b"0\r\n\r\n")

    def _send_event(self, data: bytes, *, event_id: bytes = b"") -> None:
        event = event_id + b"event: message\ndata: " + data + b"\n\n"
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))


async def serve(arguments: argparse.Namespace, credential: bytes) -> None:
    """Serves both ports until the process ends."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(arguments.cert, arguments.key)
    loop = asyncio.get_running_loop()
    plain = await loop.create_server(lambda: Upstream(credential), "127.0.0.1", arguments.plain)
    secure = await loop.create_server(lambda: Upstream(credential), "127.0.0.1", arguments.tls, ssl=tls)
    await asyncio.gather(plain.serve_forever(), secure.serve_forever())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench_lib.upstream", description="A cheap MCP server.")
    parser.add_argument("--plain", type=int, required=True, help="port for http")
    parser.add_argument("--tls", type=int, required=True, help="port for https")
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    asyncio.run(serve(parser.parse_args(), os.environ["BENCH_CREDENTIAL"].encode()))


if __name__ == "__main__":
    main()
