"""The strings in a value, and the JSON in strings.

Law: what a detector finds in a value it finds in its strings joined with line feeds, so one search tells which
strings hold something; most values hold nothing.
"""

import re
from bisect import bisect_right
from itertools import accumulate
from typing import cast

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.strict_json import parse_json

MAX_TEXT_JSON = 1024 * 1024
"""Characters of a string that is still read as JSON."""
MAX_NESTING = 3
"""JSON in a string in JSON in a string…: how many times over it is read."""

_JSON_STARTS = "{[ \t\r\n"
_JSON_START = re.compile(r'[ \t\r\n]*(?:\[|\{[ \t\r\n]*(?:\}|"(?:[^"\\]|\\.)*"[ \t\r\n]*:))')


def is_card_sized(number: float) -> bool:
    """Whether a number is as long as a payment card's: 13 to 19 digits."""
    return 10**12 <= abs(number) < 10**19


def strings_in(value: Json, level: int) -> list[str]:
    """Every string and member name in `value`, numbers as long as a card's too, and those inside JSON in strings.

    A string without a backslash shows all it holds as it stands, so it is not parsed for this.
    """
    strings: list[str] = []
    stack: list[Json] = [value]
    while stack:
        found = stack.pop()
        kind = type(found)  # compared exactly: this runs for every value of every message
        if kind is str:
            text = cast("str", found)
            strings.append(text)
            if "\\" in text and looks_like_json(text, level):
                strings += strings_in(document_in(text), level + 1)
        elif kind is dict:
            members = cast("dict[str, Json]", found)
            strings.extend(members)
            stack.extend(members.values())
        elif kind is list:
            stack.extend(cast("list[Json]", found))
        elif (kind is int or kind is float) and is_card_sized(cast("float", found)):
            strings.append(str(int(abs(cast("float", found)))))
    return strings


def holding(strings: list[str], starts: set[int]) -> frozenset[str]:
    """The strings that hold a find, by where finds start in all of them joined with line feeds."""
    ends = list(accumulate(len(string) + 1 for string in strings)) if starts else []
    return frozenset(strings[bisect_right(ends, start)] for start in starts)


def looks_like_json(text: str, level: int) -> bool:
    """Whether a string may be an object or array; most are told apart by their first character."""
    if text[:1] not in _JSON_STARTS or not text or level >= MAX_NESTING or len(text) > MAX_TEXT_JSON:
        return False
    return _JSON_START.match(text) is not None and text.rstrip(" \t\r\n")[-1] in "]}"


def document_in(text: str) -> dict[str, Json] | list[Json] | None:
    """The object or array that a string holds as JSON, strictly parsed; None where it holds none."""
    try:
        document = parse_json(text.encode())
    except (Refusal, UnicodeEncodeError):
        return None
    return document if isinstance(document, dict | list) else None
