"""The hash chain: each line carries the hash of the line before it, and its own.

Law: `hash` is the SHA-256 (hex) of `prev` followed by the line's bytes as written without their `hash` member.
Law: a line is checked by its bytes, never by a second serialisation of what it says.

A line is `{"seq":7,"at":"2026-11-24T10:15:00.123Z","kind":"request",…fields…,"prev":"…","hash":"…"}`.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

GENESIS = "0" * 64
"""The `prev` of a journal's first record."""
MAX_LINE = 4 * 1024 * 1024
"""Bytes; no line is longer, so a reader never holds more."""

_HEAD = re.compile(
    rb'\{"seq":([1-9][0-9]{0,17}),"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","kind":"([a-z0-9-]{1,64})"'
)
_KIND = re.compile(r"[a-z0-9-]{1,64}")
_TAIL = re.compile(rb',"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}')
_TAIL_LENGTH = len(',"prev":"') + 64 + len('","hash":"') + 64 + len('"}')
_HASH_MEMBER_LENGTH = len(',"hash":"') + 64 + len('"}')


class BadLine(Exception):
    """The line is not a whole, self-consistent record; the message says why, without its content."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every line opens with; `at` sorts as text."""

    seq: int
    at: str
    kind: str


@dataclass(frozen=True, slots=True)
class Link:
    """One record's place in the chain."""

    seq: int
    at: str
    kind: str
    prev: str
    hash: str


def timestamp(now: datetime) -> str:
    """RFC 3339, UTC, milliseconds: `2026-11-24T10:15:00.123Z`."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def seal(*, seq: int, at: str, kind: str, body: str, prev: str) -> tuple[bytes, str]:
    """The line, with its newline, and its hash. `body` is from `encode_fields`; an ill-formed kind is `unnamed`."""
    name = kind if _KIND.fullmatch(kind) else "unnamed"
    members = f',{body},"prev":"{prev}"' if body else f',"prev":"{prev}"'
    line = f'{{"seq":{seq},"at":"{at}","kind":"{name}"{members}'
    digest = hashlib.sha256(f"{prev}{line}}}".encode()).hexdigest()
    return f'{line},"hash":"{digest}"}}\n'.encode(), digest


def read_head(line: bytes) -> Head | None:
    """The line's opening, without checking anything else; None where it is not a record's."""
    if (found := _HEAD.match(line)) is None:
        return None
    return Head(int(found[1]), found[2].decode(), found[3].decode())


def read_tail(line: bytes) -> tuple[str, str] | None:
    """What the line says of `prev` and `hash`, without checking either; None where it does not end as a record."""
    found = _TAIL.fullmatch(line, max(0, len(line) - _TAIL_LENGTH))
    return (found[1].decode(), found[2].decode()) if found else None


def read_link(line: bytes) -> Link:
    """Checks one whole line, without its newline, against itself. Raises `BadLine`.

    What it says of `prev` is for the caller to compare with the line before.
    """
    head, tail = read_head(line), read_tail(line)
    if head is None or tail is None:
        raise BadLine("not JSON" if not _is_object(line) else "not a journal record")
    prev, stated = tail
    digest = hashlib.sha256(prev.encode() + line[:-_HASH_MEMBER_LENGTH] + b"}").hexdigest()
    if digest != stated:
        raise BadLine("hash does not match")
    return Link(head.seq, head.at, head.kind, prev, stated)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
