"""The gateway with stages that can be stopped on the way, and with a name whose address changes.

COATCHECK_TEST_FAULTS is a folder: a file `STAGE.HOOK` in it, with `stall SECONDS`, `block SECONDS`, `raise`, `cancel`
or `memory`, is taken by the next call of that hook. It then sleeps that long, asynchronously or on the event loop, or
raises RuntimeError, CancelledError or MemoryError. `sse.feed` is what rewrites streams, which cannot stall.
COATCHECK_TEST_BEAT is a file that gets, whenever it grows, the longest time that the event loop was held: in seconds
of processor time of this process, so that other processes do not count. Removing it begins anew.
COATCHECK_TEST_DISK is a folder: while it has a file `journal` or `sessions`, that sink's disk is full.
COATCHECK_TEST_CLOCK is a file with seconds that the gateway's wall clock is off by, read whenever the clock is.
COATCHECK_TEST_MOVING is a list of answers, `ADDRESS+ADDRESS,ADDRESS,…`, that `moving.example` resolves to in turn.
"""

import asyncio
import errno
import importlib
import inspect
import os
import pkgutil
import socket
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from mitmproxy import hooks

from coatcheck import live

if clock := os.environ.get("COATCHECK_TEST_CLOCK"):
    real = live.utc_now

    def shifted():
        file = Path(clock)
        return real() + timedelta(seconds=float(file.read_text()) if file.exists() else 0)

    live.utc_now = shifted  # before any part takes it by name

from coatcheck import chain, proxy
from coatcheck.mcp.sse import SseRewriter
from coatcheck.proxy.fail_closed import LIFECYCLE
from coatcheck.sessions import writer as sessions

ERRORS = {"raise": RuntimeError, "cancel": asyncio.CancelledError, "memory": MemoryError}


def stages():
    """Every class in `proxy/` that has hooks of traffic, by its module's name."""
    for module in pkgutil.iter_modules(proxy.__path__):
        for cls in vars(importlib.import_module(f"coatcheck.proxy.{module.name}")).values():
            if inspect.isclass(cls) and cls.__module__ == f"coatcheck.proxy.{module.name}":
                yield module.name, cls, (hooks.all_hooks.keys() - LIFECYCLE) & vars(cls).keys()


def taken(file: Path) -> list[str]:
    if not file.exists():
        return []
    said = file.read_text().split()
    file.unlink()
    return said


def stoppable(file: Path, original):
    """The hook, after what its file says."""

    async def hook(self, data):
        match taken(file):
            case ["block", seconds]:
                time.sleep(float(seconds))  # noqa: ASYNC251 - this is the fault
            case ["stall", seconds]:
                await asyncio.sleep(float(seconds))
            case [error]:
                raise ERRORS[error]
        result = original(self, data)
        return await result if inspect.isawaitable(result) else result

    return hook


if folder := os.environ.get("COATCHECK_TEST_FAULTS"):
    for stage, cls, names in stages():
        for name in names:
            setattr(cls, name, stoppable(Path(folder) / f"{stage}.{name}", vars(cls)[name]))
    feed = SseRewriter.feed

    def feed_or_fail(self, data):
        for error in taken(Path(folder) / "sse.feed"):
            raise ERRORS[error]
        return feed(self, data)

    SseRewriter.feed = feed_or_fail


if disk := os.environ.get("COATCHECK_TEST_DISK"):

    def or_full(sink, original, *args):
        if (Path(disk) / sink).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    chain.JournalWriter = partial(chain.JournalWriter, write=partial(or_full, "journal", os.write))
    sessions._write_whole = partial(or_full, "sessions", sessions._write_whole)


if answers := os.environ.get("COATCHECK_TEST_MOVING"):
    turns = iter(answers.split(","))
    original = socket.getaddrinfo

    def moving(host, port, *args, **kwargs):
        if host not in ("moving.example", b"moving.example"):
            return original(host, port, *args, **kwargs)
        return [found for address in next(turns).split("+") for found in original(address, port, *args, **kwargs)]

    socket.getaddrinfo = moving


class Beat:
    """A task that wants to go on a thousand times a second."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def running(self) -> None:
        self.task = asyncio.create_task(self.beat())

    async def beat(self) -> None:
        worst, before = 0.0, time.process_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.process_time()
            if not self.file.exists():
                worst = 0.0
            if now - before > worst:
                worst = now - before
                self.file.write_text(repr(worst))
            before = time.process_time()


addons = [chain.gateway()]
if file := os.environ.get("COATCHECK_TEST_BEAT"):
    addons.append(Beat(file))
