"""What a value looks like when a server says it back: fixed needles, and words of mixed escapes.

Law: a word is the value with any subset of its characters escaped, each in any listed way; a needle is exact bytes.
Law: text of JSON inside JSON, percent-encoding twice over, and a program's quotes inside JSON are listed ways.
Limit: reversed, split, compressed or encrypted values are not known here, nor any other encoding inside another.
"""

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.entities import html5
from types import MappingProxyType
from typing import Literal, Self

from coatcheck.vault.bindings import Binding
from coatcheck.vault.snapshot import Credential

type Encoding = Literal["raw", "hex", "base64", "escaped"]

SHORTEST_ENCODED = 8
"""Bytes; a shorter value is looked for as it is only, or innocent text would match its encodings."""

SHORTEST_PART = 4
"""Bytes; a shorter password inside a Basic pair is looked for with its pair only."""

SHORTEST_LINE = 16
"""Bytes; a shorter line of a value is looked for with the others only."""

BACKSLASHED = MappingProxyType(
    {'"': '"', "'": "'", "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
)
"""RFC 8259 section 7, and the single quote of programs' own strings, as stack traces show them."""

BASE64_SIGNS = (
    ("+", "/"), ("-", "_"), ("+", "\\/"), ("+", "\\\\/"), ("+", "\\\\\\/"),
    ("%2B", "%2F"), ("%2b", "%2f"), ("%252B", "%252F"), ("%252b", "%252f"),
    ("\\u002B", "/"), ("\\u002b", "/"), ("\\u002B", "\\u002F"), ("\\u002b", "\\u002f"),
    ("+", "&#x2F;"), ("+", "&#x2f;"), ("+", "&#47;"), ("&#x2B;", "/"), ("&#43;", "/"),
    ("&#x2B;", "&#x2F;"), ("&#x2b;", "&#x2f;"), ("&#43;", "&#47;"),
)  # fmt: skip
"""How the two signs of base64 are written: in both alphabets (RFC 4648 4 and 5), and as JSON, URLs and HTML escape."""

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
class Needle:
    """Exact bytes. `step` is their smallest period: occurrences are at least that far apart."""

    text: bytes
    encoding: Encoding
    step: int

    @classmethod
    def of(cls, text: bytes, encoding: Encoding) -> Self:
        """The needle of these bytes (at least one)."""
        size = len(text)
        return cls(text, encoding, next((d for d in range(1, size) if text[d:] == text[: size - d]), size))

    def find_all(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Every occurrence, overlapping ones too."""
        size = len(self.text)
        at = data.find(self.text)
        while at >= 0:
            yield at, at + size
            at = data.find(self.text, at + self.step)

    def begins_at(self, data: bytes, start: int) -> int:
        """The first position from `start` on from which the rest of `data` is a proper prefix; its length if none."""
        size = len(data)
        first = self.text[:1]
        at = data.find(first, max(start, size - len(self.text) + 1))
        while at >= 0:
            if self.text.startswith(data[at:]):
                return at
            at = data.find(first, at + 1)
        return size


@dataclass(frozen=True, slots=True)
class Unit:
    """One character of a value: its bytes as they are, and its escapes (lower case) by their first byte."""

    raw: bytes
    escapes: Mapping[int, tuple[bytes, ...]]
    longest: int

    def ends(self, data: bytes, lower: bytes, at: int) -> Iterator[int]:
        """Where this character ends if it stands at `at`, in each way it can."""
        if data.startswith(self.raw, at):
            yield at + len(self.raw)
        if at < len(data):
            for escape in self.escapes.get(data[at], ()):
                if lower.startswith(escape, at):
                    yield at + len(escape)

    def is_cut(self, data: bytes, lower: bytes, at: int) -> bool:
        """Whether the data ends inside this character."""
        if len(data) - at >= self.longest:
            return False
        rest = lower[at:]
        escapes = self.escapes.get(data[at], ())
        raw = len(self.raw) > len(rest) and self.raw.startswith(data[at:])
        return raw or any(len(escape) > len(rest) and escape.startswith(rest) for escape in escapes)


class Word:
    """A value whose characters may each be escaped."""

    __slots__ = ("_prefixes", "_units", "alphabet", "escapes", "firsts", "longest")

    def __init__(self, value: bytes) -> None:
        self._units = _units(value)
        self.longest = sum(unit.longest for unit in self._units)
        self.firsts = bytes({self._units[0].raw[0], *self._units[0].escapes})
        self._prefixes = tuple(b"".join(unit.raw for unit in self._units[:n]) for n in range(len(self._units)))
        indexes: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, unit in enumerate(self._units):
            for escapes in unit.escapes.values():
                for escape in escapes:
                    indexes[escape].append(index)
        self.escapes: Mapping[bytes, tuple[int, ...]] = {escape: tuple(found) for escape, found in indexes.items()}
        self.alphabet = value + b"".join(self.escapes) + b"".join(self.escapes).upper()

    def around(self, data: bytes, lower: bytes, index: int, at: int, after: int) -> tuple[int, int] | None:
        """The occurrence in which the escape at `at` to `after` is unit `index`, and the first escape of all."""
        start = at - len(self._prefixes[index])
        if start < 0 or not data.startswith(self._prefixes[index], start):
            return None
        end = self._end(data, lower, index + 1, after)
        return None if end < 0 else (start, end)

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
        places = {at}
        for unit in self._units[index:]:
            places = {end for at in places for end in unit.ends(data, lower, at)}
            if not places:
                return -1
        return max(places)


@dataclass(frozen=True, slots=True)
class Patterns:
    """What to look for, for one credential."""

    secret: str
    needles: tuple[Needle, ...]
    words: tuple[Word, ...]


def patterns_of(credential: Credential) -> Patterns:
    """Everything one credential's value may come back as, its Basic pair included. Holds the value in clear."""
    value = credential.secret.reveal()
    needles: dict[bytes, Encoding] = {}
    words: list[Word] = []
    parts = {value}
    for binding in credential.bindings:
        pair = basic_text(binding, value)
        if pair is not None:
            needles.update(dict.fromkeys(_base64(pair), "base64"))
        password = value.partition(b":")[2]
        if pair == value and len(password) >= SHORTEST_PART:
            parts.add(password)
    parts.update(_lines(value))
    for part in parts:
        needles[part] = "raw"
        if len(part) >= SHORTEST_ENCODED:
            needles.update(dict.fromkeys(_base64(part), "base64"))
            needles.update(dict.fromkeys((part.hex().encode(), part.hex().upper().encode()), "hex"))
            needles.update(dict.fromkeys(_wide(part), "raw"))
            words.append(Word(part))
    ordered = sorted(needles.items(), key=lambda item: len(item[0]), reverse=True)
    return Patterns(credential.name, tuple(Needle.of(*item) for item in ordered), tuple(words))


def basic_text(binding: Binding, value: bytes) -> bytes | None:
    """The `user:password` pair a Basic header is made of (RFC 7617); None where the binding's header is another."""
    if binding.header is None or not binding.is_basic:
        return None
    before, after = binding.format.partition(" ")[2].encode().split(b"{}")
    return before + value + after


def _base64(value: bytes) -> Iterator[bytes]:
    """The part of a base64 text (RFC 4648 4 and 5) that this value alone decides, at each of the three alignments.

    Also with the last character where the text ends with the value, and in all of `BASE64_SIGNS`. At its edges a
    character may stay that mixes in a neighbour: four bits of the value at most.
    """
    for offset, first in enumerate((0, 2, 3)):
        text = base64.b64encode(bytes(offset) + value).decode().rstrip("=")
        for inner in {text[first : (offset + len(value)) * 8 // 6], text[first:]}:
            for plus, slash in BASE64_SIGNS:
                yield inner.replace("+", plus).replace("/", slash).encode()


def _lines(value: bytes) -> Iterator[bytes]:
    """The lines of a value of several, such as a key in PEM: with other line ends it is the same key."""
    if b"\n" in value:
        lines = (line.strip() for line in value.splitlines())
        yield from (line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith(b"---"))


def _wide(value: bytes) -> Iterator[bytes]:
    """The value's text in UTF-16, which pages may be in."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    yield from (text.encode("utf-16-le"), text.encode("utf-16-be"))


def _units(value: bytes) -> tuple[Unit, ...]:
    """The characters of a value: of its UTF-8 text, or its single bytes where it is not."""
    try:
        pairs = [(character, character.encode()) for character in value.decode()]
    except UnicodeDecodeError:
        pairs = [(chr(byte), bytes([byte])) for byte in value]
    return tuple(_unit(character, raw) for character, raw in pairs)


def _unit(character: str, raw: bytes) -> Unit:
    utf16 = character.encode("utf-16-be", "surrogatepass")
    escapes = {
        "".join(f"%{byte:02x}" for byte in raw),
        "".join(f"%25{byte:02x}" for byte in raw),
        "".join(f"\\x{byte:02x}" for byte in raw),
        "".join(f"\\\\x{byte:02x}" for byte in raw),
        "".join(f"\\u{utf16[i : i + 2].hex()}" for i in range(0, len(utf16), 2)),
        "".join(f"\\\\u{utf16[i : i + 2].hex()}" for i in range(0, len(utf16), 2)),
        *ENTITIES.get(character, ()),
    }
    if character in BACKSLASHED:
        letter = BACKSLASHED[character]
        # once, and inside another string: with the backslash escaped, and the letter too where JSON escapes it
        escapes |= {f"\\{letter}", f"\\\\{letter}", f"\\\\\\{letter}"}
        if character == "\\":
            escapes.remove("\\\\\\")  # three backslashes are no level of it
    if character == " ":
        escapes |= {"+", "\r\n "}  # a form, and a folded header (RFC 9112 5.2)
    if raw != character.encode():
        escapes.add(character)  # a byte that was taken for Latin-1 text and written as UTF-8
    number = ord(character)
    for width in range(1, ENTITY_DIGITS + 1):
        escapes |= {f"&#{number:0{width}d};", f"&#x{number:0{width}x};"}
    by_first: defaultdict[int, list[bytes]] = defaultdict(list)
    for escape in sorted(text.encode() for text in escapes):
        by_first[escape[0]].append(escape)
    longest = max(len(raw), *(len(escape) for found in by_first.values() for escape in found))
    return Unit(raw, {first: tuple(found) for first, found in by_first.items()}, longest)
