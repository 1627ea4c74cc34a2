"""The journal's writing end: whole batches, durable or not there at all.

Law: when `append` returns, every record of the batch is on disk, in order, linked to the one before.
Law: when `append` raises, the chain stands where it stood, and the next batch goes on from there.
Law: a file that ended in any way but ours is never written again; the next one names it and says how it ended.
"""

import contextlib
import errno
import os
from collections.abc import Buffer, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal

from coatcheck.errors import JournalError, StateError
from coatcheck.journal.chain import GENESIS, seal, timestamp
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.files import in_order, last_link
from coatcheck.state import open_private

MAX_FILE = 256 * 1024 * 1024
"""Bytes after which a new file is begun."""

type Ending = Literal["complete", "torn", "changed", "moved"]
"""How the file before ended. `torn`: a partial last line; `changed`: its size was not what we wrote;
`moved`: it no longer stood under its name."""


@dataclass(slots=True)
class _Open:
    """The file being written. `length` is what of it is durable; `day` the UTC day it belongs to."""

    path: Path
    descriptor: int
    length: int
    day: str


class Tape:
    """Appends to the last file of a folder and turns to the next. For one thread of one process.

    `fsync` and `write` are those of `os`; tests of failing disks pass their own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: Callable[[int], None] = os.fdatasync,
        write: Callable[[int, Buffer], int] = os.write,
        max_file: int = MAX_FILE,
    ) -> None:
        self._folder = folder
        self._fsync = fsync
        self._write = write
        self._max_file = max_file
        self._seq = 0
        self._hash = GENESIS
        self._file: _Open | None = None
        self._before: Path | None = None
        self._ending: Ending = "complete"
        self._is_spoiled = False

    def open(self, now: datetime) -> None:
        """Finds the chain's end and opens the file that goes on from it. Raises `JournalError`."""
        with _told(self._folder):
            for file in reversed(in_order(self._folder)):
                link, is_end = last_link(file.path)
                if self._before is None and file.size > 0:
                    self._before, self._ending = file.path, "complete" if is_end else "torn"
                if link is not None:
                    self._seq, self._hash = link.seq, link.hash
                    if file.path == self._before and is_end:
                        self._reopen(file.path, link.at[:10])
                    break
            self._ready(now)

    def append(self, records: Sequence[tuple[str, str]], now: datetime) -> int:
        """Writes (kind, `encode_fields` text) pairs; returns the first one's sequence number. Raises `JournalError`."""
        with _told(self._folder):
            file = self._ready(now)
            try:
                self._put(file, records, now)
            except OSError:
                self._take_back(file)
                raise
        return self._seq - len(records) + 1

    def close(self) -> None:
        """Lets go of the file; everything appended is durable already."""
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None

    def _ready(self, now: datetime) -> _Open:
        """The file to write to: today's, of sane size, standing where it stood. A clock set back keeps the file."""
        day = timestamp(now)[:10]
        if self._file is not None:
            ending = _standing(self._file)
            if ending == "complete" and day <= self._file.day and self._file.length < self._max_file:
                return self._file
            self._leave(self._file, ending)
        if self._is_spoiled:
            self._look_again()
        return self._begin(day, now)

    def _begin(self, day: str, now: datetime) -> _Open:
        """A new file, whose first record says which file was before and how that ended."""
        file = self._create(day)
        stood = (self._seq, self._hash)
        fields = encode_fields({"previous": self._before.name if self._before else None, "ending": self._ending})
        try:
            self._put(file, [("file", fields)], now)
            self._sync_folder()
        except OSError:
            self._seq, self._hash = stood
            self._abandon(file)
            raise
        self._file = file
        return file

    def _create(self, day: str) -> _Open:
        for number in count():
            path = self._folder / (f"{day}.{number}.jsonl" if number else f"{day}.jsonl")
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(FileExistsError):
                return _Open(path, os.open(path, flags, 0o600), 0, day)
        raise AssertionError("unreachable")

    def _reopen(self, path: Path, day: str) -> None:
        descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
        self._file = _Open(path, descriptor, os.fstat(descriptor).st_size, day)

    def _put(self, file: _Open, records: Sequence[tuple[str, str]], now: datetime) -> None:
        """Seals and writes the records, waits for the disk, and only then moves the chain on. Raises `OSError`."""
        at, seq, prev = timestamp(now), self._seq, self._hash
        sealed: list[bytes] = []
        for kind, body in records:
            seq += 1
            line, prev = seal(seq=seq, at=at, kind=kind, body=body, prev=prev)
            sealed.append(line)
        data = b"".join(sealed)
        view = memoryview(data)
        while view:
            if (written := self._write(file.descriptor, view)) <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[written:]
        self._fsync(file.descriptor)
        if os.fstat(file.descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the journal file was removed while it was written")
        file.length += len(data)
        self._seq, self._hash = seq, prev

    def _take_back(self, file: _Open) -> None:
        """After a failed write: cuts the file to what was durable, or leaves it for good where that fails too."""
        try:
            os.ftruncate(file.descriptor, file.length)
            self._fsync(file.descriptor)
        except OSError:
            self._leave(file, "torn")
            self._is_spoiled = True

    def _abandon(self, file: _Open) -> None:
        """After a failed beginning: the new file goes; where it cannot, it is looked at before the next one."""
        os.close(file.descriptor)
        try:
            file.path.unlink(missing_ok=True)
        except OSError:
            self._before, self._is_spoiled = file.path, True

    def _leave(self, file: _Open, ending: Ending) -> None:
        os.close(file.descriptor)
        self._file, self._before, self._ending = None, file.path, ending

    def _look_again(self) -> None:
        """What a spoiled file really holds: whole records of a failed batch stay in the chain, if they are there."""
        if self._before is None or not self._before.exists():
            self._ending = "moved"
        else:
            link, is_end = last_link(self._before)
            self._ending = "complete" if is_end else "torn"
            if link is not None and link.seq > self._seq:
                self._seq, self._hash = link.seq, link.hash
        self._is_spoiled = False

    def _sync_folder(self) -> None:
        """Makes the new file's name durable, not only its content."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)


def _standing(file: _Open) -> Ending:
    """Whether the file is still under its name and as long as we left it."""
    own = os.fstat(file.descriptor)
    try:
        found = file.path.lstat()
    except FileNotFoundError:
        return "moved"
    if (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino):
        return "moved"
    return "complete" if own.st_size == file.length else "changed"


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The operating system's and the state directory's errors, as the journal's."""
    try:
        yield
    except StateError as error:
        raise JournalError(error.problems) from error
    except OSError as error:
        raise JournalError(
            f"cannot write the journal: {error.strerror}",
            where=str(error.filename or folder),
            hint="nothing is forwarded until it can be written again; check the disk's space and the folder's owner",
        ) from error
