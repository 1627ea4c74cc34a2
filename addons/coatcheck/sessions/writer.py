"""The thread that puts recorded lines into files.

Law: a line is in its file whole or not at all; only a crash can leave a torn last line.
Law: nothing ends the thread but its end: what cannot be written is counted, and tried again with the next line.
"""

import logging
import os
import queue
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

from coatcheck.errors import StateError
from coatcheck.sessions.lines import ClosedLine, Line, SessionLine, encode
from coatcheck.state import open_private

MAX_OPEN_FILES = 256

BATCH = 4096
"""Lines taken from the queue at a time."""

GATHER_SECONDS = 0.02
"""How long lines are let come together: waking for each one would cost the event loop more than the lines do."""
RETRY_SECONDS = 1.0
"""How often a writer that cannot write tries again while nothing comes."""
CLOSING_SECONDS = 3.0
"""How long the end of the gateway waits for what is done with closed sessions; what is then not begun is left out."""

_PROBE_BYTES = 64 * 1024

logger = logging.getLogger(__name__)


class OpenSession:
    """A session being recorded. `lost` is the thread's count, everything else the event loop's; `dropped` is lines
    that were never queued, `running` the recordings under way.
    """

    __slots__ = ("count", "dropped", "head", "is_closed", "last", "lost", "path", "running")

    def __init__(self, head: SessionLine, path: Path) -> None:
        self.head = head
        self.path = path
        self.last = head.started
        self.count = 0
        self.running: WeakSet[object] = WeakSet()
        self.is_closed = False
        self.dropped = 0
        self.lost = 0


type Job = tuple[OpenSession, Callable[[], Line], int]
"""A line to be made and written, and its weight in bytes while it waits."""


class Writer:
    """The thread's side: lines into files."""

    def __init__(
        self,
        folder: Path,
        jobs: queue.SimpleQueue[Job | None],
        on_closed: Callable[[Path], None] | None,
    ) -> None:
        self.taken = 0
        self.lost = 0
        self.is_failing = False
        self._folder = folder
        self._jobs = jobs
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._on_closed = on_closed
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="session-closed") if on_closed else None

    def run(self) -> None:
        """Until None comes."""
        while True:
            try:
                first = self._jobs.get(timeout=RETRY_SECONDS if self.is_failing else None)
            except queue.Empty:
                self._probe()
                continue
            if first is not None:
                time.sleep(GATHER_SECONDS)
            if first is None or not self._write([first, *self._waiting()]):
                break
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        if self._closer:
            with suppress(TimeoutError):
                self._closer.submit(str).result(CLOSING_SECONDS)
            self._closer.shutdown(cancel_futures=True)

    def _waiting(self) -> list[Job | None]:
        waiting: list[Job | None] = []
        with suppress(queue.Empty):
            while len(waiting) < BATCH:
                waiting.append(self._jobs.get_nowait())
        return waiting

    def _write(self, batch: list[Job | None]) -> bool:
        """Writes a batch, each session's lines at once; False where the end came with it."""
        by_session: dict[OpenSession, list[Callable[[], Line]]] = {}
        for entry in batch:
            if entry is not None:
                session, make, size = entry
                by_session.setdefault(session, []).append(make)
                self.taken += size
        for session, makers in by_session.items():
            try:
                self._append(session, [make() for make in makers])
            except (OSError, StateError) as error:
                self._fail(session, len(makers), error.strerror if isinstance(error, OSError) else str(error))
            except Exception as error:  # noqa: BLE001  # one line that cannot be made must not end the thread
                self._fail(session, len(makers), type(error).__name__)
        return None not in batch

    def _append(self, session: OpenSession, lines: list[Line]) -> None:
        last = lines[-1]
        if isinstance(last, ClosedLine):
            lines[-1] = replace(last, lost=session.lost + session.dropped)
        descriptor = self._file(session.path)
        size = os.fstat(descriptor).st_size
        head = b"" if size else encode(session.head)
        _write_whole(descriptor, head + b"".join(map(encode, lines)), size)
        self.is_failing = False
        if isinstance(last, ClosedLine):
            os.close(self._files.pop(session.path))
            if self._closer and self._on_closed:
                self._closer.submit(self._on_closed, session.path).add_done_callback(_report)

    def _file(self, path: Path) -> int:
        """The session's file, kept open; the one that was used longest ago makes room."""
        descriptor = self._files.get(path)
        if descriptor is None:
            if len(self._files) >= MAX_OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = self._files[path] = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._files.move_to_end(path)
        return descriptor

    def _fail(self, session: OpenSession, lines: int, reason: str | None) -> None:
        session.lost += lines
        self.lost += lines
        if not self.is_failing:
            logger.error("sessions cannot be recorded: %s", reason)
        self.is_failing = True

    def _probe(self) -> None:
        """Whether there is room again: a gateway that serves nothing meanwhile would never find out."""
        path = self._folder / ".room"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _write_whole(descriptor, b"\0" * _PROBE_BYTES, 0)
            finally:
                os.close(descriptor)
                path.unlink()
        except OSError:
            return
        self.is_failing = False


def _write_whole(descriptor: int, data: bytes, size: int) -> None:
    """Appends all of `data` to a file of `size` bytes, or nothing. Raises `OSError`."""
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def _report(done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.warning("a closed session could not be exported: %s", type(error).__name__)
