"""A server that says the credential it was sent back, in the form, place, framing and pieces the request asks for.

Law: what it answers depends on the request alone; where it pauses, it goes on when it is told to.
"""

import asyncio
import json
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode

from forms import FORMS

type Place = Literal["json", "sse", "header", "location", "error page"]
type Framing = Literal["length", "close", "chunked"]

PLACES: tuple[Place, ...] = ("json", "sse", "header", "location", "error page")
FRAMINGS: tuple[Framing, ...] = ("length", "close", "chunked")
GAP_SECONDS = 0.001
"""Between two pieces, so that they travel apart."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for. `split` is a place in the written value; `pause` waits there to be told to go on."""

    form: str = "raw"
    place: Place = "json"
    framing: Framing = "length"
    split: int = 0
    pause: bool = False

    def text(self) -> str:
        """As the `x-echo` header carries it."""
        return urlencode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def of(cls, text: str) -> Self:
        """The opposite of `text`."""
        told = dict(parse_qsl(text))
        return cls(told["form"], told["place"], told["framing"], int(told["split"]), told["pause"] == "True")  # type: ignore[arg-type]  # our own words


def pieces(order: Order, value: bytes) -> tuple[bytes, ...]:
    """The answer's bytes, in the pieces they are sent in."""
    written = FORMS[order.form](value)
    before, after = written[: order.split], written[order.split :]
    match order.place:
        case "json":
            start, end = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"you sent ', b'."}]}}'
            return _framed(order, b"200 OK", b"application/json", start + before, after + end)
        case "sse":
            start = b': open\n\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"you sent '
            return _framed(order, b"200 OK", b"text/event-stream", start + before, after + b'."}]}}\n\n')
        case "error page":
            start, end = b"<html><h1>Error</h1><pre>Authorization: Bearer ", b"</pre></html>"
            return _framed(order, b"500 Oops", b"text/html", start + before, after + end)
        case "header":
            body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
            (whole,) = _framed(order, b"200 OK", b"application/json", body)
            return _in_head(whole, b"X-Sent: you sent ", before, after)
        case "location":
            (whole,) = _framed(order, b"302 Found", b"text/html", b"")
            return _in_head(whole, b"Location: https://elsewhere.example/login?next=", before, after)


def _framed(order: Order, status: bytes, kind: bytes, *parts: bytes) -> tuple[bytes, ...]:
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\n" % (status, kind)
    match order.framing:
        case "length":
            head += b"Content-Length: %d\r\n\r\n" % sum(map(len, parts))
        case "close":
            head += b"Connection: close\r\n\r\n"
        case "chunked":
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            parts = tuple(b"%x\r\n%s\r\n" % (len(part), part) if part else b"" for part in parts)
            parts = (*parts[:-1], parts[-1] + b"0\r\n\r\n")
    return (head + parts[0], *parts[1:])


def _in_head(whole: bytes, name: bytes, before: bytes, after: bytes) -> tuple[bytes, bytes]:
    first, _, rest = whole.partition(b"\r\n")
    return first + b"\r\n" + name + before, after + b"\r\n" + rest


class Echo:
    """The server on 127.0.0.1 under TLS, in a thread of its own; a context manager.

    `received` counts the requests by the credential they came with; `answers` says verbatim what to send for a path.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.received: Counter[bytes] = Counter()
        self.answers: dict[bytes, bytes] = {}
        self.paused = threading.Event()
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="echo", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server, self._go_on, self.port = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def go_on(self) -> None:
        """Sends the rest of the answer that is paused."""
        self.paused.clear()
        self._loop.call_soon_threadsafe(self._go_on.set)

    async def _open(self) -> tuple[asyncio.Server, asyncio.Event, int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return server, asyncio.Event(), server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection is kept."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        await reader.readexactly(int(headers.get(b"content-length", b"0")))
        value = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        self.received[value] += 1
        verbatim = self.answers.get(first.split(b" ")[1])
        if verbatim is not None:
            writer.write(verbatim)
            await writer.drain()
            return b"content-length" in verbatim.lower() or b"chunked" in verbatim
        order = Order.of(headers[b"x-echo"].decode())
        for at, piece in enumerate(pieces(order, value)):
            if at:
                await self._between(order)
            writer.write(piece)
            await writer.drain()
        return order.framing != "close"

    async def _between(self, order: Order) -> None:
        if not order.pause:
            await asyncio.sleep(GAP_SECONDS)
            return
        self._go_on.clear()
        self.paused.set()
        await self._go_on.wait()


def call(tool: str = "echo") -> bytes:
    """The body of an MCP call."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}).encode()
