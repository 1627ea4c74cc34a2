"""Whether a journal is whole: every line, every link, every file.

Law: the first bad line is named, by file and number; a good journal has no finding.
Law: memory does not grow with the journal.

What a chain cannot show is that its end was cut off or that all of it was written anew: for that, keep the last
hash elsewhere and hand it back as the checkpoint.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from coatcheck.errors import JournalError
from coatcheck.journal.chain import GENESIS, BadLine, Link, read_head, read_link, read_tail
from coatcheck.journal.files import JournalFile, Line, in_order, lines
from coatcheck.mcp.call import Json

MAX_FINDINGS = 100
"""After so many the rest is not looked at."""
CLOCK_TOLERANCE = timedelta(seconds=1)
"""A clock may be stepped back by less than this without a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `file` is a name in the folder; `line` counts from 1."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `torn`: some file ends in a partial line, as a crash leaves it; that alone is no finding."""

    records: int
    files: int
    last_hash: str | None
    findings: tuple[Finding, ...]
    torn: bool

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings


def verify_journal(folder: Path, *, checkpoint: str | None = None) -> Report:
    """Reads every file of the folder. `checkpoint` is a hash that some record must carry (hex).

    Raises `JournalError` where the folder or a file cannot be read.
    """
    check = _Check(checkpoint)
    for file in in_order(folder):
        try:
            check.file(file)
        except OSError as error:
            raise JournalError(f"cannot read the journal: {error.strerror}", where=str(file.path)) from error
    return check.report()


class _Check:
    """The pass over all lines: where the chain stands, and what has been found."""

    def __init__(self, checkpoint: str | None) -> None:
        self._checkpoint = checkpoint
        self._last: Link | None = None
        self._records = 0
        self._files = 0
        self._torn = False
        self._name = ""
        self._line = 0
        self._findings: list[Finding] = []

    def file(self, file: JournalFile) -> None:
        """Every line of one file. An empty file holds nothing to check: a crash can leave one."""
        self._name, self._line = file.path.name, 0
        self._files += 1
        if file.size == 0:
            self._torn = True
        for line in self._whole_lines(file.path):
            if len(self._findings) >= MAX_FINDINGS:
                return
            self._check_line(line)

    def report(self) -> Report:
        """The result, after the last file."""
        if self._checkpoint is not None:
            self._find("the checkpoint is not in the journal")
        last_hash = self._last.hash if self._last else None
        return Report(self._records, self._files, last_hash, tuple(self._findings), self._torn)

    def _whole_lines(self, path: Path) -> Iterator[Line]:
        for line in lines(path):
            self._line = line.number
            if line.whole:
                yield line
            else:
                self._torn = True

    def _check_line(self, line: Line) -> None:
        self._records += 1
        try:
            link = read_link(line.data)
        except BadLine as bad:
            self._find(str(bad))
            self._last = _resume(self._last, line.data)
            return
        if (what := self._out_of_place(link, line)) is not None:
            self._find(what)
        if link.hash == self._checkpoint:
            self._checkpoint = None
        self._last = link

    def _out_of_place(self, link: Link, line: Line) -> str | None:
        """What is wrong with a line that is good in itself; the gravest thing alone."""
        last, opens = self._last, line.number == 1
        said = _fields(line.data) if opens else {}
        before = f", after {said['previous']}" if isinstance(said.get("previous"), str) else ""
        if last is None:
            if link.seq != 1 or link.prev != GENESIS:
                return f"file missing: the journal begins with record {link.seq}{before}"
        elif link.seq > last.seq + 1 and opens:
            return f"file missing: record {last.seq} is followed by {link.seq}{before}"
        elif link.seq != last.seq + 1:
            return f"sequence gap: record {last.seq} is followed by {link.seq}"
        elif link.prev != last.hash:
            return "previous hash does not match"
        if opens != (link.kind == "file"):
            return "the file does not begin with its link" if opens else "a file's link inside a file"
        if said.get("ending") == "changed":
            return "the file before was changed while it was being written"
        if last is not None and _went_back(last.at, link.at):
            return f"clock went back from {last.at} to {link.at}"
        return None

    def _find(self, what: str) -> None:
        self._findings.append(Finding(self._name, self._line, what))


def _resume(last: Link | None, line: bytes) -> Link | None:
    """After a bad line: go on from what it says of itself, so that one edit is one finding."""
    head, tail = read_head(line), read_tail(line)
    if tail is None or (head is None and last is None):
        return last
    seq, at, kind = (head.seq, head.at, head.kind) if head else (last.seq + 1, last.at, "") if last else (1, "", "")
    return Link(seq, at, kind, *tail)


def _fields(line: bytes) -> dict[str, Json]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _went_back(before: str, after: str) -> bool:
    """Whether the clock was stepped back by more than is tolerated. Timestamps sort as text."""
    if after >= before:
        return False
    try:
        return datetime.fromisoformat(after) < datetime.fromisoformat(before) - CLOCK_TOLERANCE
    except ValueError:
        return True
