"""The journal's records, read back.

Law: reading changes nothing and needs no lock; a line that is being written is not seen yet.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from coatcheck.errors import JournalError
from coatcheck.journal.chain import read_head, timestamp
from coatcheck.journal.files import in_order, lines, lines_backwards
from coatcheck.mcp.call import Json


def records(
    folder: Path,
    *,
    kind: str | None = None,
    caller: str | None = None,
    server: str | None = None,
    since: datetime | None = None,
) -> Iterator[dict[str, Json]]:
    """The records that match all that is given, oldest first.

    `caller` and `server` are names in policy; `since` is timezone-aware. Lines that are no records are passed
    over: `verify_journal` names them. Raises `JournalError` where the folder or a file cannot be read.
    """
    earliest = None if since is None else timestamp(since)
    for file in in_order(folder):
        for line in _reading(file.path, backwards=False):
            head = read_head(line)
            if head is None or (kind is not None and head.kind != kind):
                continue
            if earliest is not None and head.at < earliest:
                continue
            record = _parse(line)
            if record is not None and _matches(record, caller=caller, server=server):
                yield record


def last_records(folder: Path, count: int) -> list[dict[str, Json]]:
    """The last `count` records, oldest first, read from the end. Raises `JournalError`."""
    newest = (
        record
        for file in reversed(in_order(folder))
        for line in _reading(file.path, backwards=True)
        if (record := _parse(line)) is not None
    )
    return list(islice(newest, count))[::-1]


def caller_name(record: dict[str, Json]) -> str | None:
    """The identity's name: requests carry the whole caller, other kinds its name alone."""
    caller = record.get("caller")
    name = caller.get("name") if isinstance(caller, dict) else caller
    return name if isinstance(name, str) else None


def _matches(record: dict[str, Json], *, caller: str | None, server: str | None) -> bool:
    return (caller is None or caller_name(record) == caller) and (server is None or record.get("server") == server)


def _reading(path: Path, *, backwards: bool) -> Iterator[bytes]:
    try:
        if backwards:
            yield from lines_backwards(path)
        else:
            yield from (line.data for line in lines(path) if line.whole)
    except OSError as error:
        raise JournalError(f"cannot read the journal: {error.strerror}", where=str(path)) from error


def _parse(line: bytes) -> dict[str, Json] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
