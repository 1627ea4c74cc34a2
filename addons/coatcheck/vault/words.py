"""Words: a text of which each character may be written in one of several ways.

Law: an occurrence is the text with any subset of its characters escaped, each in any listed way.
Law: text of JSON inside JSON, percent-encoding and HTML entities twice over, a program's quotes inside JSON, and
Markdown's backslashes are listed ways.
"""

import string
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html.entities import html5
from itertools import islice
from types import MappingProxyType
from typing import Self

BACKSLASHED = MappingProxyType(
    {'"': '"', "'": "'", "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
)
"""RFC 8259 section 7, and the single quote of programs' own strings, as stack traces show them."""

PUNCTUATION = frozenset(string.punctuation) - {"\\"}
"""What Markdown may put a backslash before (CommonMark 2.4), as converters do before `_`, `-`, `*` and others."""

ENTITY_DIGITS = 7
"""Numeric entities are known with leading zeros up to this many digits (`&#0000103;`)."""


def _names() -> Mapping[str, tuple[str, ...]]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, character in html5.items():
        if name.endswith(";") and len(character) == 1:
            names[character].append(f"&{name.lower()}")
    return MappingProxyType({character: tuple(sorted(set(found))) for character, found in names.items()})


ENTITIES = _names()
"""Character to its named entities (HTML 13.5), lower case."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One character of a text: its bytes as they are, and its escapes by their first byte."""

    raw: bytes
    escapes: Mapping[int, tuple[bytes, ...]]
    longest: int

    @classmethod
    def of(cls, raw: bytes, escapes: Iterable[bytes]) -> Self:
        """The unit of these."""
        by_first: defaultdict[int, list[bytes]] = defaultdict(list)
        for escape in sorted(escapes):
            by_first[escape[0]].append(escape)
        longest = max(len(raw), *(len(escape) for found in by_first.values() for escape in found))
        return cls(raw, {first: tuple(found) for first, found in by_first.items()}, longest)

    def ends(self, data: bytes, lower: bytes, at: int) -> Sequence[int]:
        """Where this character ends if it stands at `at`, in each way it can."""
        ends = (at + len(self.raw),) if data.startswith(self.raw, at) else ()
        escapes = self.escapes.get(data[at]) if at < len(data) else None
        if escapes is None or not lower.startswith(escapes, at):
            return ends
        return (*ends, *(at + len(escape) for escape in escapes if lower.startswith(escape, at)))

    def is_cut(self, data: bytes, lower: bytes, at: int) -> bool:
        """Whether the data ends inside this character."""
        if len(data) - at >= self.longest:
            return False
        rest = lower[at:]
        escapes = self.escapes.get(data[at], ())
        raw = len(self.raw) > len(rest) and self.raw.startswith(data[at:])
        return raw or any(len(escape) > len(rest) and escape.startswith(rest) for escape in escapes)


class Word:
    """A value whose characters may each be escaped. Its methods take data as it is, and in lower case."""

    __slots__ = ("_offsets", "_text", "_units", "alphabet", "escapes", "firsts", "longest")

    def __init__(self, value: bytes) -> None:
        self._units = units = tuple(_units(value))
        self._text = b"".join(unit.raw for unit in units)
        self._offsets = tuple(_offsets(units))
        self.longest = sum(unit.longest for unit in units)
        self.firsts = bytes({units[0].raw[0], *units[0].escapes})
        indexes: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, unit in enumerate(units):
            for escapes in unit.escapes.values():
                for escape in escapes:
                    indexes[escape].append(index)
        self.escapes: Mapping[bytes, tuple[int, ...]] = {escape: tuple(found) for escape, found in indexes.items()}
        self.alphabet = self._text + b"".join(self.escapes) + b"".join(self.escapes).upper()

    def around(self, data: bytes, lower: bytes, index: int, at: int, after: int) -> tuple[int, int] | None:
        """The occurrence in which the escape at `at` to `after` is unit `index`, and the first escape of all."""
        size = self._offsets[index]
        start = at - size
        if start < 0 or data[start:at] != self._text[:size]:
            return None
        end = self._end(data, lower, index + 1, after)
        return None if end < 0 else (start, end)

    def last_before(self, index: int) -> int:
        """The byte before unit `index`, which is not the first, where that is not escaped."""
        return self._text[self._offsets[index] - 1]

    def begins_at(self, data: bytes, lower: bytes, start: int) -> bool:
        """Whether the data from `start` to its end is a proper prefix of this word."""
        places = {start}
        for unit in self._units:
            if len(data) in places or any(unit.is_cut(data, lower, at) for at in places):
                return True
            places = {end for at in places for end in unit.ends(data, lower, at)}
            if not places:
                return False
        return False

    def _end(self, data: bytes, lower: bytes, index: int, at: int) -> int:
        """The furthest end of the rest of the word from unit `index` at `at`; -1 where it does not stand there."""
        places: Collection[int] = (at,)
        for unit in islice(self._units, index, None):
            if len(places) == 1:
                (at,) = places
                places = unit.ends(data, lower, at)
            else:
                places = {end for at in places for end in unit.ends(data, lower, at)}
            if not places:
                return -1
        return max(places)


def _units(value: bytes) -> Iterator[Unit]:
    """The characters of a value: of its UTF-8 text, or its single bytes where it is not."""
    try:
        pairs = [(character, character.encode()) for character in value.decode()]
    except UnicodeDecodeError:
        pairs = [(chr(byte), bytes([byte])) for byte in value]
    for character, raw in pairs:
        yield _unit(character, raw)


def _offsets(units: tuple[Unit, ...]) -> Iterator[int]:
    at = 0
    for unit in units:
        yield at
        at += len(unit.raw)


@lru_cache(maxsize=1024)
def _unit(character: str, raw: bytes) -> Unit:
    """One character. Kept: every value is made of the same few."""
    utf16 = character.encode("utf-16-be", "surrogatepass")
    escapes = {
        "".join(f"%{byte:02x}" for byte in raw),
        "".join(f"%25{byte:02x}" for byte in raw),
        "".join(f"%u{utf16[i : i + 2].hex()}" for i in range(0, len(utf16), 2)),
        "".join(f"\\x{byte:02x}" for byte in raw),
        "".join(f"\\\\x{byte:02x}" for byte in raw),
        "".join(f"\\{byte:03o}" for byte in raw),
        "".join(f"\\\\{byte:03o}" for byte in raw),
        "".join(f"\\u{utf16[i : i + 2].hex()}" for i in range(0, len(utf16), 2)),
        "".join(f"\\\\u{utf16[i : i + 2].hex()}" for i in range(0, len(utf16), 2)),
        *_entities(character),
    }
    if character in PUNCTUATION:
        escapes |= {f"\\{character}", f"\\\\{character}"}
    if character in BACKSLASHED:
        letter = BACKSLASHED[character]
        # once, and inside another string: with the backslash escaped, and the letter too where JSON escapes it
        escapes |= {f"\\{letter}", f"\\\\{letter}", f"\\\\\\{letter}"}
        if character == "\\":
            escapes.remove("\\\\\\")  # three backslashes are no level of it
    if character == " ":
        escapes |= {"+", "\r\n "}  # a form, and a lower header (RFC 9112 5.2)
    if raw != character.encode():
        escapes.add(character)  # a byte that was taken for Latin-1 text and written as UTF-8
    return Unit.of(raw, (text.encode() for text in escapes))


def _entities(character: str) -> Iterator[str]:
    """HTML entities, lower case: named and numeric, those also without their `;`, as browsers read them, and twice."""
    number = ord(character)
    named = ENTITIES.get(character, ())
    yield from named
    for width in range(1, ENTITY_DIGITS + 1):
        yield f"&#{number:0{width}d};"
        yield f"&#x{number:0{width}x};"
    for numeric in (f"&#{number}", f"&#x{number:x}"):
        yield numeric
        yield f"&amp;{numeric[1:]};"
    for name in named:
        yield f"&amp;{name[1:]}"
