"""The gateway with stages that can be stopped on the way, and with a name whose address changes.

COATCHECK_TEST_FAULTS is a folder: a file `STAGE.HOOK` in it, with `stall SECONDS` or `block SECONDS`, is taken by the
next call of that hook, which then sleeps that long, asynchronously or on the event loop.
COATCHECK_TEST_BEAT is a file that gets, whenever it grows, the longest time that the event loop was held: in seconds
of processor time of this process, so that other processes do not count. Removing it begins anew.
COATCHECK_TEST_MOVING is a list of answers, `ADDRESS+ADDRESS,ADDRESS,…`, that `moving.example` resolves to in turn.
"""

import asyncio
import inspect
import os
import socket
import time
from pathlib import Path

from coatcheck import chain
from coatcheck.proxy import authorize, guard, hold, identify, journal_request, limit, mask, open_tunnel, record, release
from coatcheck.proxy import inspect as inspect_stage

STAGES = {
    "guard": guard.Guard,
    "identify": identify.Identify,
    "limit": limit.Limit,
    "open_tunnel": open_tunnel.OpenTunnel,
    "inspect": inspect_stage.Inspect,
    "authorize": authorize.Authorize,
    "hold": hold.HoldCall,
    "journal": journal_request.JournalRequest,
    "release": release.ReleaseRequest,
    "mask": mask.Mask,
    "record": record.Record,
}
HOOKS = (
    "http_connect",
    "requestheaders",
    "server_connect",
    "tls_start_server",
    "request",
    "responseheaders",
    "response",
)


def stoppable(file: Path, original):
    """The hook, after what its file says."""

    def taken() -> list[str]:
        if not file.exists():
            return []
        said = file.read_text().split()
        file.unlink()
        return said

    async def hook(self, data):
        if said := taken():
            kind, seconds = said
            if kind == "block":
                time.sleep(float(seconds))  # noqa: ASYNC251 - this is the fault
            else:
                await asyncio.sleep(float(seconds))
        result = original(self, data)
        return await result if inspect.isawaitable(result) else result

    return hook


if folder := os.environ.get("COATCHECK_TEST_FAULTS"):
    for stage, cls in STAGES.items():
        for name in HOOKS:
            if name in vars(cls):
                setattr(cls, name, stoppable(Path(folder) / f"{stage}.{name}", vars(cls)[name]))


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
