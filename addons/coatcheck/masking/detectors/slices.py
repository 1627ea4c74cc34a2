"""Searches that let other threads run.

Law: a search in slices finds what one search would find. One search does not stop before its end, and the event loop
would have to wait for it.
"""

import re
from collections.abc import Iterator

SLICE = 256 * 1024
"""Characters: a search of so many takes a few milliseconds."""


def matches(pattern: re.Pattern[str], text: str, *, reach: int) -> Iterator[re.Match[str]]:
    """`pattern.finditer(text)`. `reach`: how far from its start on a match can look, in characters."""
    return pattern.finditer(text) if len(text) <= SLICE else _in_slices(pattern, text, reach)


def _in_slices(pattern: re.Pattern[str], text: str, reach: int) -> Iterator[re.Match[str]]:
    at = 0
    for begin in range(0, len(text), SLICE):
        for match in pattern.finditer(text, max(at, begin), begin + SLICE + reach):
            if match.start() >= begin + SLICE:
                break
            at = match.end()
            yield match
