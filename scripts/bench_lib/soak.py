"""Streams that stay open: GET streams of 2025-11-25 and `subscriptions/listen` of 2026-07-28, over http and https.

Law: every message of every stream arrives, in order and masked, and the gateway's memory does not grow with how long
they last; else the run ends with 1.

    scripts/soak [--minutes M] [--streams N]
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from pathlib import Path

from bench_lib.load import BenchError, Way
from bench_lib.subjects import COATCHECK, Cores, Subject, running
from bench_lib.upstream import EMAIL, PUSH_GAP_SECONDS
from story.part import StoryError, end_in_order

MEBIBYTE = 1 << 20
MOST_GROWTH = 16 * MEBIBYTE
"""Bytes of memory from the end of the warm-up (a fifth of the time, at most ten minutes) to the end of the run."""
QUIET_SECONDS = 60
"""A stream that brings nothing for so long has broken."""

_PUSH = re.compile(rb"push (\d+) for ")
_META = "io.modelcontextprotocol/"


@dataclass
class Heard:
    """One open stream: its name, and how many messages it has brought."""

    name: str
    messages: int = 0

    def take(self, line: bytes) -> None:
        """Reads a line of the stream. Raises `BenchError` for a message out of its turn or not masked."""
        found = _PUSH.search(line)
        if found is None:
            return
        if int(found[1]) != self.messages:
            raise BenchError(f"{self.name}: message {int(found[1])} in the place of {self.messages}")
        if EMAIL.encode() in line:
            raise BenchError(f"{self.name}: personal data came through")
        self.messages += 1


def listen_request(way: Way) -> bytes:
    """`subscriptions/listen` (MCP 2026-07-28) as bytes."""
    meta = {f"{_META}protocolVersion": "2026-07-28", f"{_META}clientCapabilities": {}}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params})
    lines = ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen", "Content-Type: application/json"]
    return _request(way, "POST", [*lines, f"Content-Length: {len(body)}"]) + body.encode()


def get_request(way: Way) -> bytes:
    """A GET of the stream that a server of 2025-11-25 sends what it likes on."""
    return _request(way, "GET", ["MCP-Protocol-Version: 2025-11-25"])


def _request(way: Way, method: str, more: list[str]) -> bytes:
    absolute = "" if way.tls else f"http://localhost:{way.port}"
    who = [] if way.tls else [f"Proxy-Authorization: {way.proxy_authorization}"]
    accept = "Accept: application/json, text/event-stream"
    lines = [f"{method} {absolute}/mcp HTTP/1.1", f"Host: localhost:{way.port}", accept, *who, *more, "", ""]
    return "\r\n".join(lines).encode()


async def hear(way: Way, request: bytes, heard: Heard) -> None:
    """Opens a stream and reads it until it is cancelled. Raises `BenchError` where it ends or is not as it must be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", way.proxy)
    try:
        if way.tls is not None:
            writer.write(way.connect_request())
            await _read_head(reader, heard)
            await writer.start_tls(way.tls, server_hostname="localhost")
        await _read_stream(reader, writer, request, heard)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise BenchError(f"{heard.name}: broke after {heard.messages} messages ({error!r})") from error
    finally:
        writer.close()


async def _read_stream(reader: StreamReader, writer: StreamWriter, request: bytes, heard: Heard) -> None:
    writer.write(request)
    await _read_head(reader, heard)
    while True:
        line = await asyncio.wait_for(reader.readline(), QUIET_SECONDS)
        if not line:
            raise BenchError(f"{heard.name}: ended after {heard.messages} messages")
        heard.take(line)


async def _read_head(reader: StreamReader, heard: Heard) -> None:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), QUIET_SECONDS)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"{heard.name}: answered {head.splitlines()[0].decode(errors='replace')!r}, not 200")


def resident_bytes(pid: int) -> int:
    """The memory a process holds (proc(5), VmRSS)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


async def soak(subject: Subject, *, seconds: float, streams: int) -> list[int]:
    """Holds `streams` of each kind open and prints a line a minute; returns the memory held at each of them.

    Raises `BenchError` for a stream that ends, or loses or shows what it must not.
    """
    assert subject.pid is not None  # noqa: S101  # the gateway has a process
    opened: list[Heard] = []
    reading: list[asyncio.Task[None]] = []
    for way, scheme in ((subject.plain, "http"), (subject.tls, "https")):
        for kind, request in (("GET", get_request(way)), ("listen", listen_request(way))):
            for number in range(streams):
                opened.append(Heard(f"{scheme} {kind} {number}"))
                reading.append(asyncio.create_task(hear(way, request, opened[-1])))
    seen: list[int] = []
    began = time.monotonic()
    try:
        while (left := began + seconds - time.monotonic()) > 0:
            done, _ = await asyncio.wait(reading, timeout=min(60, left), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            seen.append(resident_bytes(subject.pid))
            fewest = min(heard.messages for heard in opened)
            elapsed = (time.monotonic() - began) / 60
            print(f"{elapsed:7.1f} min  {seen[-1] / MEBIBYTE:7.1f} MB  {fewest:9,} messages a stream", flush=True)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    if fewest < seconds / PUSH_GAP_SECONDS / 2:
        raise BenchError(f"a stream brought {fewest} messages only")
    return seen


def growth(seen: list[int]) -> int:
    """How much more was held at the end than at the end of the warm-up."""
    return seen[-1] - seen[min(len(seen) // 5, 10)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Holds streams open and watches the memory.")
    parser.add_argument("--minutes", type=float, default=120, help="how long (120)")
    parser.add_argument("--streams", type=int, default=2, help="streams of each kind (2)")
    arguments = parser.parse_args()
    end_in_order()
    nowhere = Cores(frozenset(), frozenset())
    try:
        with (
            tempfile.TemporaryDirectory(prefix="coatcheck-soak-") as folder,
            running([COATCHECK], Path(folder), nowhere) as subjects,
        ):
            seen = asyncio.run(soak(subjects[COATCHECK], seconds=arguments.minutes * 60, streams=arguments.streams))
    except (BenchError, StoryError) as error:
        sys.exit(f"error: {error}")
    grown = growth(seen) / MEBIBYTE
    print(f"soak: {4 * arguments.streams} streams, {arguments.minutes:g} minutes, {grown:+.1f} MB after the warm-up")
    if growth(seen) > MOST_GROWTH:
        sys.exit("error: the memory grew")


if __name__ == "__main__":
    main()
