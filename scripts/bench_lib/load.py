"""The load: kept connections that send the next request when the last answer has been checked.

Law: an answer counts only if its status is 200, its id is the request's, its length is the same as every
other answer's and its end is there; anything else is a `BenchError` that ends the run.
"""

import asyncio
import json
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import Literal, override

from bench_lib.upstream import CARD, EMAIL, EVENTS, MARKER, read_stamp

type Tool = Literal["lookup", "follow"]

FIRST_ID = 1_000_000
"""Ids have seven digits, so that every answer has the same length."""

_STATUS = b"HTTP/1.1 200 "
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_ID = re.compile(rb'"id":\s?(\d+)')
_REASON = re.compile(rb'"reason":\s?"([a-z-]+)"')
"""The stable reason code of the gateway's own refusals."""
_STAMP = re.compile(rb"sent ([a-j]+);")
_MARKER = MARKER.encode()


class BenchError(Exception):
    """The run cannot go on: a wrong answer, or none."""


@dataclass(frozen=True, slots=True)
class Way:
    """How requests get to the server: directly, or through a proxy.

    `port` is the server's; `proxy` the proxy's port; `authorization` goes to the server,
    `proxy_authorization` to the proxy; `tls` trusts whoever answers for the server. Where `masked`, the
    server's personal data must not come through.
    """

    port: int
    proxy: int | None = None
    authorization: str | None = None
    proxy_authorization: str | None = None
    tls: ssl.SSLContext | None = None
    masked: bool = False

    def connect_request(self) -> bytes:
        """The CONNECT that opens the tunnel."""
        lines = [f"CONNECT localhost:{self.port} HTTP/1.1", f"Host: localhost:{self.port}"]
        if self.proxy_authorization:
            lines.append(f"Proxy-Authorization: {self.proxy_authorization}")
        return "\r\n".join([*lines, "", ""]).encode()

    def request(self, tool: Tool) -> tuple[bytes, bytes]:
        """A `tools/call` as bytes, split where the seven digits of the id stand."""
        params = {"name": tool, "arguments": {"order": "A-1001", "fields": ["email", "lines"]}}
        call = {"jsonrpc": "2.0", "id": FIRST_ID, "method": "tools/call", "params": params}
        body = json.dumps(call, separators=(",", ":"))
        absolute = f"http://localhost:{self.port}" if self.proxy and not self.tls else ""
        lines = [f"POST {absolute}/mcp HTTP/1.1", f"Host: localhost:{self.port}", "Content-Type: application/json"]
        lines += ["Accept: application/json, text/event-stream", "MCP-Protocol-Version: 2025-11-25"]
        lines += [f"Authorization: {self.authorization}"] if self.authorization else []
        if self.proxy and not self.tls and self.proxy_authorization:
            lines.append(f"Proxy-Authorization: {self.proxy_authorization}")
        whole = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()
        before, after = whole.split(str(FIRST_ID).encode())
        return before, after


@dataclass
class Window:
    """What is measured between `open` and `close`; before and after, answers are checked but not counted."""

    is_open: bool = False
    latencies: list[int] = field(default_factory=list)
    """Nanoseconds from the request's first byte out to the answer's last byte in."""
    first_event_delays: list[int] = field(default_factory=list)
    """Nanoseconds from the server's send to the client's receive, of each stream's first event."""
    event_delays: list[int] = field(default_factory=list)
    """The same for every event."""
    body_length: int | None = None


class Connection(asyncio.Protocol):
    """One kept connection that asks, checks and asks again until it is told to `finish`."""

    def __init__(self, way: Way, tool: Tool, window: Window) -> None:
        self._before, self._after = way.request(tool)
        self._masked = way.masked
        self._tool = tool
        self._window = window
        self._id = FIRST_ID
        self._is_last = False
        self._buffer = bytearray()
        self._stamps: list[tuple[int, int]] = []
        self._searched = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, transport: asyncio.Transport) -> None:
        """Sends the first request on an open way to the server."""
        self._transport = transport
        self._ask()

    def finish(self) -> None:
        """The answer now awaited is the last; `done` completes with it."""
        self._is_last = True

    def abort(self) -> None:
        """Closes the connection at once; nothing for one that was closed."""
        self._is_last = True
        self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        received_at = time.monotonic_ns()
        self._buffer += data
        if self._tool == "follow":
            for found in _STAMP.finditer(self._buffer, self._searched):
                self._stamps.append((read_stamp(found[1].decode()), received_at))
                self._searched = found.end()
        try:
            self._read(received_at)
        except BenchError as error:
            self._fail(error)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(BenchError(f"the connection closed in the middle of a request ({exc or 'end of stream'})"))

    def _fail(self, error: BenchError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _ask(self) -> None:
        self._id += 1
        self._buffer.clear()
        self._stamps.clear()
        self._searched = 0
        self._asked_at = time.monotonic_ns()
        self._transport.write(b"%b%d%b" % (self._before, self._id, self._after))

    def _read(self, received_at: int) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[: end + 2])
        if not head.startswith(_STATUS):
            raise BenchError(f"answered {first_line(head)!r}{_reason(self._buffer)}, not 200")
        length = _LENGTH.search(head)
        if length is not None:
            if len(self._buffer) < end + 4 + int(length[1]):
                return
            body = bytes(self._buffer[end + 4 :])
        elif _CHUNKED.search(head) is not None:
            if not self._buffer.endswith(b"0\r\n\r\n"):
                return
            body = dechunk(bytes(self._buffer[end + 4 :]))
        else:
            raise BenchError("an answer with neither a length nor chunks")
        self._check(body)
        self._count(received_at)
        if self._is_last:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
        else:
            self._ask()

    def _check(self, body: bytes) -> None:
        if self._tool == "follow":
            if len(self._stamps) != EVENTS:
                raise BenchError(f"a stream of {len(self._stamps)} events, not {EVENTS}")
        elif self._window.body_length is None:
            self._window.body_length = len(body)
        elif self._window.body_length != len(body):
            raise BenchError(f"an answer of {len(body)} bytes after one of {self._window.body_length}")
        found = _ID.findall(body)
        if not found or int(found[-1]) != self._id:
            raise BenchError("the answer of another request")
        if _MARKER not in body:
            raise BenchError("an answer without its end")
        if self._masked == (EMAIL.encode() in body or CARD.encode() in body):
            raise BenchError("personal data came through" if self._masked else "personal data is missing")

    def _count(self, received_at: int) -> None:
        window = self._window
        if not window.is_open:
            return
        window.latencies.append(received_at - self._asked_at)
        delays = [received - sent for sent, received in self._stamps]
        window.event_delays += delays
        window.first_event_delays += delays[:1]


def dechunk(body: bytes) -> bytes:
    """The content of a chunked body (RFC 9112 section 7.1). Raises `BenchError` where it is not one."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].split(b";")[0], 16)
        except ValueError:
            raise BenchError("chunks that cannot be read") from None
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def first_line(head: bytes) -> str:
    """The status line of an answer."""
    return head.split(b"\r\n", 1)[0].decode(errors="replace")


def _reason(answer: bytes | bytearray) -> str:
    found = _REASON.search(answer)
    return f" ({found[1].decode()})" if found else ""


class _Opening(asyncio.Protocol):
    """Waits for the proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self._buffer = b""
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" in self._buffer and not self.answer.done():
            self.answer.set_result(self._buffer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(BenchError("the proxy closed the connection at CONNECT"))


async def open_connection(way: Way, tool: Tool, window: Window) -> Connection:
    """Opens the way and sends the first request. Raises `BenchError` where it does not open."""
    loop = asyncio.get_running_loop()
    connection = Connection(way, tool, window)
    try:
        if way.proxy is None or way.tls is None:
            name = "localhost" if way.tls else None
            transport, _ = await loop.create_connection(
                lambda: connection, "127.0.0.1", way.proxy or way.port, ssl=way.tls, server_hostname=name
            )
            connection.begin(transport)
            return connection
        opening = _Opening()
        tunnel, _ = await loop.create_connection(lambda: opening, "127.0.0.1", way.proxy)
        tunnel.write(way.connect_request())
        answer = await opening.answer
        if not answer.startswith(_STATUS):
            raise BenchError(f"CONNECT was answered {first_line(answer)!r}{_reason(answer)}")
        secure = await loop.start_tls(tunnel, connection, way.tls, server_hostname="localhost")
    except OSError as error:
        raise BenchError(f"the connection did not open: {error}") from error
    assert secure is not None  # noqa: S101  # only None for a transport that is closing
    connection.begin(secure)
    return connection
