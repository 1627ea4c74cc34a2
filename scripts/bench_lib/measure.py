"""One window of measuring: warm up, count, stop.

Law: the CPU time and the answers are those of the same window.
"""

import asyncio
import gc
import os
import time
from dataclasses import dataclass

from bench_lib.load import BenchError, Tool, Way, Window, open_connection

WARM_UP_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Measured:
    """One window. `cpu_seconds` is the proxy's, None where there is no proxy."""

    seconds: float
    cpu_seconds: float | None
    window: Window


async def measure(way: Way, tool: Tool, *, connections: int, seconds: float, pid: int | None) -> Measured:
    """Runs one window over `connections` kept connections; `pid` is the proxy's process.

    Raises `BenchError` for a wrong answer, or where no answer came.
    """
    window = Window()
    opened = [await open_connection(way, tool, window) for _ in range(connections)]
    broken = asyncio.gather(*(connection.done for connection in opened))
    gc.collect()
    gc.disable()
    try:
        await _unless(broken, WARM_UP_SECONDS)
        window.is_open = True
        started_at, cpu_before = time.monotonic(), cpu_seconds(pid)
        await _unless(broken, seconds)
        window.is_open = False
        taken, cpu_after = time.monotonic() - started_at, cpu_seconds(pid)
    finally:
        gc.enable()
        for connection in opened:
            connection.finish()
        try:
            await asyncio.wait_for(broken, 30)
        finally:
            for connection in opened:
                connection.abort()
    if not window.latencies:
        raise BenchError("no answer came within the window")
    cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
    return Measured(taken, cpu, window)


async def _unless(broken: asyncio.Future[list[None]], seconds: float) -> None:
    """Waits for `seconds`; raises at once what breaks a connection."""
    done, _ = await asyncio.wait([broken], timeout=seconds)
    if done:
        await broken


def cpu_seconds(pid: int | None) -> float | None:
    """CPU time, user and system, a process and its threads have used (proc(5)); None without one."""
    if pid is None:
        return None
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # one short read, between two measurements
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
