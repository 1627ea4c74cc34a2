"""The journal as the gateway uses it: many callers, one thread that writes, one fsync a batch.

Law: `append` returns only when the record is durable, and raises where it could not be made so.
Law: the event loop never waits for the disk, and wakes once a batch, however many callers wait; a busy loop's records
are gathered into larger batches.
Law: nothing is lost silently. A record nobody waits for is kept and tried again; what had to be given up is
counted in a `gap` record as soon as the journal can be written again.

Fields are turned to text where they are queued, so that they may change afterwards; numbers, time and hashes are
given by the thread, so that the chain's order is the queue's.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Buffer, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from coatcheck.errors import JournalError
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.idle import WhenIdle
from coatcheck.journal.tape import MAX_FILE, Tape
from coatcheck.mcp.call import Json

logger = logging.getLogger(__name__)

MAX_BATCH = 256
"""Records one write and one fsync carry at most."""
MAX_WAITING = 20_000
"""Records that may wait for the thread, and that may be kept after a failure; more are refused."""
CLOSE_SECONDS: Final = 5.0
GATHER_SECONDS: Final = 0.01
"""How long a loop that is never idle gathers records for one write; see `idle.py`."""
LATER_SECONDS: Final = 0.05
"""How long a record that nobody waits for may lie in memory."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One record on its way. Where nobody waits, `waiter` is None."""

    kind: str
    body: str
    waiter: asyncio.Future[int] | None = None


class JournalWriter:
    """Appends records to the journal in `folder`. One of them at a time may use a folder.

    `clock` gives timezone-aware UTC and is called on the writer's thread. `fsync` and `write` are those of `os`
    and `max_file` a file's bytes: given by tests of failing and filling disks alone. `retry_seconds` is how long
    after a failure the thread tries again by itself. `marks` are fields of every record that is appended.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        fsync: Callable[[int], None] = os.fdatasync,
        write: Callable[[int, Buffer], int] = os.write,
        max_file: int = MAX_FILE,
        retry_seconds: float = 1.0,
        marks: Mapping[str, Json] | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._marks = dict(marks or {})
        self._tape = Tape(folder, fsync=fsync, write=write, max_file=max_file)
        self._retry_seconds = retry_seconds
        self._queue: deque[_Entry] = deque()
        self._wake = threading.Lock()  # held while there is nothing to wake for
        self._wake.acquire()
        self._idle: WeakKeyDictionary[asyncio.AbstractEventLoop, WhenIdle] = WeakKeyDictionary()
        self._gate = threading.Lock()
        self._is_open = False
        self._healthy = False
        self._lock: int | None = None
        self._thread: threading.Thread | None = None
        self._lost = 0  # under the gate
        # The thread's own:
        self._kept: list[_Entry] = []
        self._refused = 0
        self._error = ""

    @property
    def healthy(self) -> bool:
        """False before `start`, after a failed write until one succeeds, and after `close`."""
        return self._healthy

    def start(self) -> None:
        """Takes the folder, finds the chain's end, opens the file that goes on from it, starts the thread.

        A torn last line stays in its file and the chain goes on in a new one that says so. Raises `JournalError`
        where the folder is missing, in use by another process, or cannot be written.
        """
        if self._lock is not None:
            raise JournalError("the journal was started already", where=str(self._folder))
        self._lock = _take(self._folder)
        try:
            self._tape.open(self._clock())
        except BaseException:
            self._tape.close()
            os.close(self._lock)
            self._lock = None
            raise
        self._healthy = self._is_open = True
        self._thread = threading.Thread(target=self._run, name="coatcheck-journal", daemon=True)
        self._thread.start()

    async def append(self, kind: str, fields: Mapping[str, Json]) -> int:
        """Writes one record; returns its sequence number once it is durable. Raises `JournalError`.

        Where the caller is cancelled the record is written all the same.
        """
        return await self.begin(kind, fields)

    def begin(self, kind: str, fields: Mapping[str, Json]) -> asyncio.Future[int]:
        """As `append`, without waiting: the future ends as `append` would. Raises `JournalError` where it is closed."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        self._enqueue(_Entry(kind, self._encode(fields), waiter))
        idle = self._idle.get(loop)
        if idle is None:
            idle = self._idle[loop] = WhenIdle(loop, self._ring, at_most=GATHER_SECONDS)
        idle.ask()
        return waiter

    def append_later(self, kind: str, fields: Mapping[str, Json]) -> None:
        """Queues one record; a failure shows in `healthy` and the record is tried again. Never raises.

        May be called from any thread.
        """
        try:
            self._enqueue(_Entry(kind, self._encode(fields)))
        except JournalError as error:
            self._healthy = False
            logger.error("a journal record of kind %r is lost: %s", kind, error)  # noqa: TRY400 - no traceback needed
            with self._gate:
                self._lost += 1

    def close(self) -> None:
        """Writes what is queued, stops the thread and lets the folder go; waits five seconds at most.

        Raises `JournalError` where records could not be written, or the disk did not answer in that time.
        """
        with self._gate:
            if self._thread is None:
                return
            if self._is_open:
                self._is_open = False
                self._ring()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._healthy = False
            raise JournalError("the disk did not answer; the last records may be missing", where=str(self._folder))
        self._thread = None
        missing = len(self._kept) + self._lost
        if missing:
            raise JournalError(f"{missing} records could not be written: {self._error}", where=str(self._folder))

    def _encode(self, fields: Mapping[str, Json]) -> str:
        return encode_fields({**fields, **self._marks} if self._marks else fields)

    def _enqueue(self, entry: _Entry) -> None:
        with self._gate:
            if not self._is_open:
                raise JournalError("the journal is not open", where=str(self._folder))
            if len(self._queue) >= MAX_WAITING:
                raise JournalError("the journal is too far behind", where=str(self._folder))
            self._queue.append(entry)

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake
            self._wake.release()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._collect()
            self._write_batch(batch)
        self._healthy = False
        self._tape.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _collect(self) -> tuple[list[_Entry], bool]:
        """What waits now, or comes first; and whether it is the last. Empty when it is time to try again.

        A record that nobody waits for does not wake the thread: it goes with the next that somebody does, or soon.
        """
        self._wake.acquire(timeout=LATER_SECONDS if self._healthy else self._retry_seconds)
        batch: list[_Entry] = []
        with contextlib.suppress(IndexError):
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.popleft())
        with self._gate:
            is_last = not self._is_open and not self._queue
        if self._queue or not (self._is_open or is_last):
            self._ring()
        return batch, is_last

    def _write_batch(self, batch: Sequence[_Entry]) -> None:
        lost = self._lost
        gap = self._gap(lost)
        entries = [*self._kept, *batch]
        records = [*gap, *((entry.kind, entry.body) for entry in entries)]
        if not records:
            return
        try:
            first = self._tape.append(records, self._clock()) + len(gap)
        except JournalError as error:
            self._failed(batch, error)
        except Exception as error:  # noqa: BLE001 - the thread's edge: whatever happens, those who wait get an answer
            self._failed(batch, JournalError(f"cannot write the journal: {type(error).__name__}"))
        else:
            self._written(lost)
            _answer([(entry.waiter, first + place) for place, entry in enumerate(entries)])

    def _written(self, lost: int) -> None:
        """Everything kept is durable now, and the gap record owns up to `lost` records."""
        if self._error:
            logger.warning("the journal is written again")
        self._kept, self._refused, self._error = [], 0, ""
        if lost:
            with self._gate:
                self._lost -= lost
        self._healthy = True

    def _failed(self, batch: Sequence[_Entry], error: JournalError) -> None:
        if not self._error:
            logger.error("%s; nothing is forwarded until it can be written", error)
        self._healthy = False
        self._error = error.problems[0].what
        answers = [(entry.waiter, JournalError(error.problems)) for entry in batch if entry.waiter is not None]
        later = [entry for entry in batch if entry.waiter is None]
        room = max(0, MAX_WAITING - len(self._kept))
        self._kept += later[:room]
        self._refused += len(answers)
        with self._gate:
            self._lost += len(later[room:])
        _answer(answers)

    def _gap(self, lost: int) -> list[tuple[str, str]]:
        """The record that owns up: appends that were refused, and records that are gone."""
        if not self._refused and not lost:
            return []
        return [("gap", encode_fields({"refused": self._refused, "lost": lost, "error": self._error}))]


type _Result = int | JournalError


def _answer(results: Sequence[tuple[asyncio.Future[int] | None, _Result]]) -> None:
    """Hands the results to the loops that wait for them, each woken once."""
    waiting: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], _Result]]] = defaultdict(list)
    for waiter, result in results:
        if waiter is not None:
            waiting[waiter.get_loop()].append((waiter, result))
    for loop, settled in waiting.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: Sequence[tuple[asyncio.Future[int], _Result]]) -> None:
    for waiter, result in settled:
        if waiter.done():
            continue
        if isinstance(result, int):
            waiter.set_result(result)
        else:
            waiter.set_exception(result)


def _take(folder: Path) -> int:
    """Locks the folder for this process until the descriptor is closed. Raises `JournalError`."""
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "make the state directory with: coatcheck init"
        raise JournalError(f"cannot open the journal: {error.strerror}", where=str(path), hint=hint) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        hint = "another gateway writes here; stop it, or give this one a state directory of its own"
        raise JournalError("the journal is in use", where=str(folder), hint=hint) from error
    return descriptor
