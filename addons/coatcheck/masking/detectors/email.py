"""E-mail addresses (RFC 5322 dot-atoms, RFC 6531 letters; no quoted local parts, no address literals).

Law: the search goes from `@` to `@`, so a text without one costs nothing and no part of a text is read twice.
"""

import re
import unicodedata
from collections.abc import Iterable

from coatcheck.masking.detectors.slices import SLICE

_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)) in {"Mn", "Mc"})
"""What letters are written with in decomposed form (NFD), and vowels in scripts of India; `\\w` has none of them."""
_LOCAL_BACKWARDS = re.compile(rf"[\w.%+&~'{_MARKS}-]+")
_DOMAIN = re.compile(rf"(?:[\w{_MARKS}-]+\.)+(?:xn--[a-z0-9-]+|(?:[^\W\d_][{_MARKS}]*){{2,}})", re.IGNORECASE)
_AT_DOMAIN = re.compile(rb"@[\w\x80-\xff-]+\.")
_MAX_DOMAIN = SLICE
"""Characters; names in DNS have 253 at most."""


class Email:
    """`bob@example.com`, shown in part as `b***@e***.com`."""

    name = "email"

    def may_hold(self, data: bytes) -> bool:
        """Whether there is an `@` with what may be a domain after it."""
        at = data.find(b"@")
        if at < 0:
            return False
        # one search lets no other thread run, and takes its time where `@` stands after `@`
        return len(data) > SLICE or _AT_DOMAIN.search(data, at) is not None

    def places(self, data: bytes) -> int:
        """Every `@`."""
        return data.count(b"@")

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every address."""
        at = text.find("@")
        if at < 0:
            return ()
        found = []
        start = 0
        while at >= 0:
            length = _local_length(text, start, at)
            domain = _DOMAIN.match(text, at + 1, at + 1 + _MAX_DOMAIN) if length else None
            if domain:
                found.append((at - length, domain.end()))
            start = at + 1
            at = text.find("@", start)
        return found

    def partial(self, found: str) -> str:
        """The first letters of both sides and the last label."""
        local, _, domain = found.rpartition("@")
        return f"{local[:1]}***@{domain[:1]}***.{domain.rpartition('.')[2]}"


def _local_length(text: str, start: int, at: int) -> int:
    """How many characters before `at` are a local part; none is read before `start`."""
    local = _LOCAL_BACKWARDS.match(text[max(start, at - SLICE) : at][::-1])
    if local is None:
        return 0
    length = local.end()
    while length % SLICE == 0 and (
        more := _LOCAL_BACKWARDS.match(text[max(start, at - length - SLICE) : at - length][::-1])
    ):
        length += more.end()
    return len(text[at - length : at].lstrip("'.-~&")) or length
