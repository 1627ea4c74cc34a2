"""A trace: what a caller's token is known again by, where it must not be.

Law: a trace is two short pieces of a signature: no token can be made of it, and none is kept for its sake.
Law: what is found: the token as it is, in base64 (in lines too), in hex, in UTF-16, and with any of its characters
escaped as in URLs, JSON, HTML, Markdown or programs, one such way inside another too. The cost is linear.
Limit: a token that is split, reversed, compressed, encrypted, or in base64 twice over is not known.
"""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

PIECE = 16
"""Characters of a piece: 96 bits of a signature, that no other text has by chance."""
SECOND = 32
"""Where the second piece begins: both lie within one line of 64 characters of base64, so that only one can be cut."""
MAX_LAYERS = 4
"""How often what is escaped is read: one way inside another."""
PART = 16 * 1024
"""Bytes of which the escapes are read at a time: a regular expression holds up every thread until it comes back."""
OVERLAP = 4 * 1024
"""Bytes of the next part that are read too: no piece takes more, however it is escaped."""

_ESCAPE = re.compile(
    rb"%([2-7][0-9A-Fa-f])"
    rb"|\\(?:(?:x|u00)([2-7][0-9A-Fa-f])|([01][0-7]{2}))"
    rb"|&(?:\#(?:[xX]0{0,5}([2-7][0-9A-Fa-f])|0{0,5}([0-9]{2,3}));?"
    rb"|(?i:(lowbar|underbar|hyphen|dash|period|amp|percnt|bsol|num|semi));)"
)
"""A character of a token, or of another escape, escaped once: hexadecimal, octal, decimal, named. What only has a
backslash before it is found without: see `_layers`.
"""
_NAMED = {
    b"lowbar": b"_", b"underbar": b"_", b"hyphen": b"-", b"dash": b"-", b"period": b".",
    b"amp": b"&", b"percnt": b"%", b"bsol": b"\\", b"num": b"#", b"semi": b";",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """Of one token (RFC 7515 section 7.1). Shows nothing of itself."""

    pieces: tuple[bytes, ...] = field(repr=False)
    needles: tuple[bytes, ...] = field(repr=False)
    """What the pieces come to in each form; made once, as a tunnel has many requests."""

    @classmethod
    def of(cls, token: str) -> Self:
        """The trace of a token in its compact form; of what is none, a trace that is found nowhere."""
        signature = token.rpartition(".")[2].encode("ascii", "replace")
        cut = (signature[:PIECE], signature[SECOND : SECOND + PIECE])
        pieces = tuple(piece for piece in cut if len(piece) == PIECE)
        return cls(pieces, tuple(_needles(pieces)))

    def is_in(self, data: bytes) -> bool:
        """Whether the token is in these bytes."""
        if not self.needles:
            return False
        if any(needle in data for needle in self.needles):
            return True
        if b"\\" not in data and b"%" not in data and b"&" not in data:
            return False
        parts = (data[at : at + PART + OVERLAP] for at in range(0, len(data), PART))
        return any(needle in layer for part in parts for layer in _layers(part) for needle in self.needles)


def _needles(pieces: tuple[bytes, ...]) -> Iterator[bytes]:
    for first in pieces[:1]:
        yield first
        yield from (first.hex().encode(), first.hex().upper().encode())
        yield first.decode().encode("utf-16-le")[:-1]  # so it is in UTF-16 of the other order too
    for piece in pieces:
        yield from _base64(piece)


def _base64(piece: bytes) -> Iterator[bytes]:
    """What the piece comes to in base64, at each of the three alignments, in either alphabet: the two signs in which
    they differ (RFC 4648 4 and 5) stand for no character of a token.
    """
    for offset, first in enumerate((0, 2, 3)):
        yield base64.b64encode(bytes(offset) + piece)[first : (offset + len(piece)) * 8 // 6]


def _layers(data: bytes) -> Iterator[bytes]:
    """What the data says once its escapes are read, again and again.

    Backslashes are taken out only of what is looked at: each may be the beginning of an escape that is read next.
    """
    for _ in range(MAX_LAYERS):
        if b"\\" in data:
            yield data.replace(b"\\", b"")
        if _ESCAPE.search(data) is None:
            return
        yield (data := _ESCAPE.sub(_read, data))
    if b"\\" in data:
        yield data.replace(b"\\", b"")


def _read(found: re.Match[bytes]) -> bytes:
    which = found.lastindex or 0
    return _READERS[which - 1](found[which])


def _hexadecimal(digits: bytes) -> bytes:
    return bytes([int(digits, 16)])


_READERS: tuple[Callable[[bytes], bytes], ...] = (
    _hexadecimal,
    _hexadecimal,
    lambda digits: bytes([int(digits, 8)]),
    _hexadecimal,
    lambda digits: bytes([int(digits) & 0x7F]),
    lambda name: _NAMED[name.lower()],
)
