"""What a value looks like when a server says it back: fixed needles, and words (`words.py`) of mixed escapes.

Law: a needle is exact bytes; base64 is also known with line ends in it (MIME, PEM, files as many APIs give them).
Limit: reversed, split, compressed or encrypted values are not known here, nor any other encoding inside another.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from coatcheck.vault.bindings import Binding
from coatcheck.vault.snapshot import Credential
from coatcheck.vault.words import Word

type Encoding = Literal["raw", "hex", "base64", "escaped"]

SHORTEST_ENCODED = 8
"""Bytes; a shorter value is looked for as it is only, or innocent text would match its encodings."""

SHORTEST_PART = 4
"""Bytes; a shorter password inside a Basic pair is looked for with its pair only."""

SHORTEST_LINE = 16
"""Bytes; a shorter line of a value is looked for with the others only."""

BASE64_SIGNS = (
    ("+", "/"), ("-", "_"), ("+", "\\/"), ("+", "\\\\/"), ("+", "\\\\\\/"),
    ("%2B", "%2F"), ("%2b", "%2f"), ("%252B", "%252F"), ("%252b", "%252f"),
    ("\\u002B", "/"), ("\\u002b", "/"), ("\\u002B", "\\u002F"), ("\\u002b", "\\u002f"),
    ("+", "&#x2F;"), ("+", "&#x2f;"), ("+", "&#47;"), ("&#x2B;", "/"), ("&#43;", "/"),
    ("&#x2B;", "&#x2F;"), ("&#x2b;", "&#x2f;"), ("&#43;", "&#47;"),
)  # fmt: skip
"""How the two signs of base64 are written: in both alphabets (RFC 4648 4 and 5), and as JSON, URLs and HTML escape."""


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
class Patterns:
    """What to look for, for one credential."""

    secret: str
    needles: tuple[Needle, ...]
    words: tuple[Word, ...]
    wrapped: tuple[bytes, ...]
    """Base64 texts that may have line ends in them."""


def patterns_of(credential: Credential) -> Patterns:
    """Everything one credential's value may come back as, its Basic pair included. Holds the value in clear."""
    value = credential.secret.reveal()
    needles: dict[bytes, Encoding] = {}
    words: list[Word] = []
    wrapped = set()
    parts = {value}
    for binding in credential.bindings:
        pair = basic_text(binding, value)
        if pair is not None:
            needles.update(dict.fromkeys(_base64(pair), "base64"))
            wrapped |= set(_base64(pair, BASE64_SIGNS[:2]))
        password = value.partition(b":")[2]
        if pair == value and len(password) >= SHORTEST_PART:
            parts.add(password)
    parts.update(_lines(value))
    for part in parts:
        needles[part] = "raw"
        if len(part) >= SHORTEST_ENCODED:
            needles.update(dict.fromkeys(_base64(part), "base64"))
            needles.update(dict.fromkeys(_hex(part), "hex"))
            needles.update(dict.fromkeys((part.upper(), part.lower()), "raw"))
            needles.update(dict.fromkeys(_wide(part), "raw"))
            words.append(Word(part))
            wrapped |= set(_base64(part, BASE64_SIGNS[:2]))
    ordered = sorted(needles.items(), key=lambda item: len(item[0]), reverse=True)
    fixed = tuple(Needle.of(*item) for item in ordered)
    return Patterns(credential.name, fixed, tuple(words), tuple(sorted(wrapped)))


def basic_text(binding: Binding, value: bytes) -> bytes | None:
    """The `user:password` pair a Basic header is made of (RFC 7617); None where the binding's header is another."""
    if binding.header is None or not binding.is_basic:
        return None
    before, after = binding.format.partition(" ")[2].encode().split(b"{}")
    return before + value + after


def _base64(value: bytes, signs: Sequence[tuple[str, str]] = BASE64_SIGNS) -> Iterator[bytes]:
    """The part of a base64 text (RFC 4648 4 and 5) that this value alone decides, at each of the three alignments.

    Also with the last character where the text ends with the value, and with all of these signs. At its edges a
    character may stay that mixes in a neighbour: four bits of the value at most.
    """
    for offset, first in enumerate((0, 2, 3)):
        text = base64.b64encode(bytes(offset) + value).decode().rstrip("=")
        for inner in {text[first : (offset + len(value)) * 8 // 6], text[first:]}:
            for plus, slash in signs:
                yield inner.replace("+", plus).replace("/", slash).encode()


def _hex(value: bytes) -> Iterator[bytes]:
    """Base16 (RFC 4648 8) in both cases: in one piece, and byte by byte as tools print it."""
    for separator in ("", ":", " "):
        text = value.hex(separator) if separator else value.hex()
        yield from (text.encode(), text.upper().encode())


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
