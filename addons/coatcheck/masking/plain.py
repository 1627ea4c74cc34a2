"""Text as people and programs read it: escapes undone, look-alikes replaced, invisible characters left out.

Law: where nothing of that is in a text, it is plain as it stands; most are told so from their bytes.
Law: what stands in a line, or between two double quotes, is read alike whatever stands around it.
Limit: one round. What is escaped in two ways is read in one of them, but for backslashes and `%25`, which repeat.
"""

import re
import string
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coatcheck.masking.detectors.slices import SLICE, matches

_DIGITS = "\u0660\u06f0\u07c0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\uff10" + "".join(
    chr(0x1D7CE + 10 * style) for style in range(5)
)
"""The zeros of other scripts; nine digits come after each."""
_SPACES = "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = (
    "\xad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff"
)
_ALIKE: Mapping[str, str] = MappingProxyType(
    {chr(ord(zero) + digit): str(digit) for zero in _DIGITS for digit in range(10)}
    | {chr(ord(sign) + 0xFEE0): sign for sign in string.ascii_letters + "@.-_+/%"}
    | dict.fromkeys(_SPACES, " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-")
    | {"\ufe52": ".", "\ufe6b": "@"}
    | dict.fromkeys(_INVISIBLE, "")
)
"""What each character is read as: those of ASCII that matter to a detector, or nothing."""
_NAMED: Mapping[str, str] = MappingProxyType(
    {"commat": "@", "period": ".", "nbsp": " ", "hyphen": "-", "dash": "-", "shy": "", "lowbar": "_", "plus": "+"}
    | {"sol": "/", "ensp": " ", "emsp": " ", "thinsp": " ", "numsp": " ", "zwnj": "", "zwj": "", "ndash": "-"}
)
"""Character references of HTML by name."""

_NAMES = "|".join(sorted(_NAMED))
_ESCAPE = (
    r"%(?:25){0,4}(?P<percent>[2-7][0-9A-Fa-f])"
    r"|\\(?<!\\\\)\\{0,7}(?:u(?P<unicode>[0-9A-Fa-f]{4})|x(?P<byte>[2-7][0-9A-Fa-f]))"
    r"|&(?:amp;){0,3}(?:\#0{0,6}(?P<decimal>[0-9]{2,5})(?![0-9]);?|\#[xX]0{0,6}(?P<hex>[0-9A-Fa-f]{2,4});?"
    rf"|(?P<name>{_NAMES});)"
)
_ODD = re.compile(f"[{re.escape(''.join(_ALIKE))}]|{_ESCAPE}")
_REACH = 40
_ODD_ESCAPE = re.compile(
    rb"%(?:25){0,4}[2-7][0-9A-Fa-f]|\\(?:u|x[2-7])[0-9A-Fa-f]|&(?:amp;){0,3}(?:#[0-9xX]|(?:" + _NAMES.encode() + rb");)"
)
_ODD_BYTES = re.compile(
    rb"[\xc2\xcd\xd8\xd9\xdb\xdf-\xe3\xef\xf0](?:"
    rb"(?<=\xc2)[\xa0\xad]|(?<=\xcd)\x8f|(?<=\xd8)\x9c|(?<=\xd9)[\xa0-\xa9]|(?<=\xdb)[\xb0-\xb9]|(?<=\xdf)[\x80-\x89]"
    rb"|(?<=\xe0)(?:[\xa5-\xb5][\xa6-\xaf]|[\xb9\xbb][\x90-\x99]|\xbc[\xa0-\xa9])|(?<=\xe1)(?:\x9a\x80|\xa0\x8e)"
    rb"|(?<=\xe2)(?:\x80[\x80-\x93\xaa-\xaf]|\x81[\x9f-\xaf]|\x88\x92)|(?<=\xe3)\x80\x80"
    rb"|(?<=\xef)(?:\xb8[\x8e\x8f]|\xb9[\x92\xa3\xab]|\xbb\xbf|\xbc[\x85\x8b\x8d-\x99\xa0-\xba\xbf]|\xbd[\x81-\x9a])"
    rb"|(?<=\xf0)\x9d\x9f)"
)


@dataclass(frozen=True, slots=True)
class Plain:
    """A text read plainly: `text`, and where in what it was read from each part of it stands."""

    text: str
    odd: int
    """How many places were not plain."""
    points: tuple[int, ...] = ()
    shifts: tuple[int, ...] = ()

    def place(self, at: int) -> int:
        """Where what begins at `at` began. Of an end: where what comes next began."""
        before = bisect_right(self.points, at)
        return at + (self.shifts[before - 1] if before else 0)


def may_be_odd(data: bytes, *, is_ascii: bool) -> bool:
    """Whether a text that stands in `data` in UTF-8 may be other than plain. `is_ascii`: none of them is more."""
    if (b"%" in data or b"&" in data or b"\\" in data) and _is_in(_ODD_ESCAPE, data):
        return True
    return not is_ascii and _is_in(_ODD_BYTES, data)


def _is_in(pattern: re.Pattern[bytes], data: bytes) -> bool:
    """Searched in slices: one search lets no other thread run."""
    if len(data) <= SLICE:
        return pattern.search(data) is not None
    return any(pattern.search(data, at, at + SLICE + _REACH) for at in range(0, len(data), SLICE))


def is_plain(text: str) -> bool:
    """Whether nothing in `text` can be other than plain."""
    return text.isascii() and "%" not in text and "&" not in text and "\\" not in text


def plain(text: str) -> Plain:
    """`text` read plainly."""
    if is_plain(text):
        return Plain(text, 0)
    parts: list[str] = []
    points: list[int] = []
    shifts: list[int] = []
    done = length = odd = 0
    for match in matches(_ODD, text, reach=_REACH):
        read = _read(match)
        if read is None:
            continue
        start, end = match.span()
        parts += (text[done:start], read)
        length += start - done + len(read)
        done = end
        odd += 1
        if end - length != (shifts[-1] if shifts else 0):
            points.append(length)
            shifts.append(end - length)
    if not odd:
        return Plain(text, 0)
    return Plain("".join([*parts, text[done:]]), odd, tuple(points), tuple(shifts))


def _read(match: re.Match[str]) -> str | None:
    """What an odd place is read as; None where it stays as it is."""
    kind = match.lastgroup
    if kind is None:
        return _ALIKE[match[0]]
    if kind == "name":
        return _NAMED[match[kind]]
    code = int(match[kind], 10 if kind == "decimal" else 16)
    if code > 0x10FFFF:
        return None
    character = chr(code)
    if "!" <= character <= "~" or character == " ":
        return None if character in '"\\' else character
    return _ALIKE.get(character)
