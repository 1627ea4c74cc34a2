"""E-mail addresses (RFC 5322 dot-atoms, RFC 6531 letters; no quoted local parts, no address literals).

Law: the search goes from `@` to `@`, so a text without one costs nothing and no part of a text is read twice.
"""

import re
from collections.abc import Iterable

_LOCAL_BACKWARDS = re.compile(r"[\w.%+&~'-]+")
_DOMAIN = re.compile(r"(?:[\w-]+\.)+(?:xn--[a-z0-9-]+|[^\W\d_]{2,})", re.IGNORECASE)


class Email:
    """`bob@example.com`, shown in part as `b***@e***.com`."""

    name = "email"

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every address."""
        at = text.find("@")
        if at < 0:
            return ()
        found = []
        start = 0
        while at >= 0:
            before = text[start:at]
            local = _LOCAL_BACKWARDS.match(before[::-1])
            domain = _DOMAIN.match(text, at + 1) if local else None
            if local and domain:
                length = len(local[0].rstrip("'.-~&")) or len(local[0])
                found.append((at - length, domain.end()))
            start = at + 1
            at = text.find("@", start)
        return found

    def partial(self, found: str) -> str:
        """The first letters of both sides and the last label."""
        local, _, domain = found.rpartition("@")
        return f"{local[:1]}***@{domain[:1]}***.{domain.rpartition('.')[2]}"
