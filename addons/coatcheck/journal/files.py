"""A journal's folder as it lies on disk: its files in the chain's order, and their lines.

Law: the order is told by the records, never by the names, so a renamed file keeps its place.
Law: no more than `MAX_LINE` bytes of one line and one block of a file are held at a time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coatcheck.errors import JournalError
from coatcheck.journal.chain import MAX_LINE, BadLine, Head, Link, read_head, read_link

_BLOCK = 256 * 1024
_LINES_TO_TRY = 100
"""How far into a damaged file to look for the first record that tells its place."""


@dataclass(frozen=True, slots=True)
class JournalFile:
    """One file of the chain. `first` is the first line that reads as a record, None where there is none."""

    path: Path
    first: Head | None
    size: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its newline. `whole` is False for a last line that has none."""

    number: int
    data: bytes
    whole: bool


def in_order(folder: Path) -> list[JournalFile]:
    """The files named `*.jsonl*`, by the sequence number they open with; unreadable ones come last.

    Links and folders are passed over. Raises `JournalError` where the folder or a file cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            paths = [Path(entry.path) for entry in entries if ".jsonl" in entry.name and _is_regular(entry)]
        files = [JournalFile(path, _first_head(path), path.stat().st_size) for path in paths]
    except OSError as error:
        raise JournalError(f"cannot read the journal: {error.strerror}", where=str(error.filename or folder)) from error
    return sorted(files, key=lambda file: (file.first is None, file.first.seq if file.first else 0, file.path.name))


def lines(path: Path) -> Iterator[Line]:
    """The file's lines, first to last. A line over `MAX_LINE` is given cut, so it will not check. Raises `OSError`."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(MAX_LINE):
            number += 1
            rest = data
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE)
            yield Line(number, data.removesuffix(b"\n"), whole=rest.endswith(b"\n"))


def lines_backwards(path: Path, *, block: int = _BLOCK) -> Iterator[bytes]:
    """The file's whole lines, last to first; a torn last line is left out. Raises `OSError`.

    `block` is how many bytes are read at a time.
    """
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        is_tail = True
        while position > 0:
            size = min(block, position)
            position -= size
            file.seek(position)
            rest, *parts = (file.read(size) + rest).split(b"\n")
            for part in reversed(parts):
                if not is_tail:
                    yield part
                is_tail = False
            rest = rest[-MAX_LINE:]
        if not is_tail:
            yield rest


def last_link(path: Path) -> tuple[Link | None, bool]:
    """The last record that checks, and whether nothing stands behind it. Raises `OSError`."""
    is_end = _ends_whole(path)
    for line in lines_backwards(path):
        try:
            return read_link(line), is_end
        except BadLine:
            is_end = False
    return None, is_end


def _is_regular(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)


def _first_head(path: Path) -> Head | None:
    for line in lines(path):
        if (head := read_head(line.data)) is not None:
            return head
        if line.number >= _LINES_TO_TRY:
            break
    return None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
