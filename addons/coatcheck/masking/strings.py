"""The strings in a value, and the JSON in strings.

Law: what a detector finds in a value it finds in its strings joined with line feeds, so one search tells which
strings hold something; most values hold nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.strict_json import parse_json

type Span = tuple[int, int, int]
"""Where a find starts and ends in a text, and which of the searches found it."""
type Document = dict[str, Json] | list[Json]

MAX_TEXT_JSON = 1024 * 1024
"""Characters of a string that is still read as JSON."""
MAX_NESTING = 3
"""JSON in a string in JSON in a string…: how many times over it is read."""

_JSON_STARTS = "{[ \t\r\n"
_JSON_START = re.compile(r'[ \t\r\n]*(?:\[|\{[ \t\r\n]*(?:\}|"(?:[^"\\]|\\.)*"[ \t\r\n]*:))')
_NESTED_START = re.compile(r'"[ \t\r\n]*[\[{]')
_NAME_END = re.compile(r'"[ \t\r\n]*:')
_SHORTEST_CARD, _LONGEST_CARD = 10**12, 10**19


def is_card_sized(number: float) -> bool:
    """Whether a number is as long as a payment card's: 13 to 19 digits."""
    return _SHORTEST_CARD <= abs(number) < _LONGEST_CARD


class Strings:
    """Every string and member name in a value, numbers as long as a card's too.

    A string without a backslash shows all it holds as it stands. JSON in one that has some is parsed into `documents`,
    and its strings belong to the rest.
    """

    def __init__(self, value: Json, level: int) -> None:
        self.documents: dict[str, Document] = {}
        self.all = _strings_in(value)
        self.joined = "\n".join(self.all)
        if "\\" in self.joined:
            self._add_documents(level)

    def holding(self, spans: Sequence[Span]) -> dict[str, list[Span]]:
        """The strings that hold one of `spans`, which are those in `joined` in their order, and where in it."""
        found: dict[str, list[Span]] = {}
        if not spans:
            return found
        ends = list(accumulate(map(len, self.all)))  # without the line feeds, of which there is one for each string
        index = base = stop = 0
        for start, end, order in spans:
            if start >= stop:
                index = bisect_right(range(len(ends)), start, lo=index, key=lambda at: ends[at] + at)
                stop = ends[index] + index
                base = stop - len(self.all[index])
                found[self.all[index]] = inside = []
            inside.append((start - base, end - base, order))
        return found

    def _add_documents(self, level: int) -> None:
        inner: list[str] = []
        for text in self.all:
            if "\\" in text and text not in self.documents and looks_like_json(text, level):
                document = document_in(text)
                if document is not None:
                    self.documents[text] = document
                    nested = Strings(document, level + 1)
                    self.documents |= nested.documents
                    inner += nested.all
        if inner:
            self.all += inner
            self.joined = "\n".join((self.joined, *inner))


def _strings_in(value: Json) -> list[str]:
    strings: list[str] = []
    nodes: list[Any] = [value]  # exact types are compared below, which tells mypy nothing: this runs for every value
    for node in nodes:  # which grows meanwhile
        kind = type(node)
        if kind is str:
            strings.append(node)
        elif kind is dict:
            strings += node
            nodes += node.values()
        elif kind is list:
            nodes += node
        elif (kind is int or kind is float) and not -_SHORTEST_CARD < node < _SHORTEST_CARD and is_card_sized(node):
            strings.append(str(int(abs(node))))
    return strings


def looks_like_json(text: str, level: int) -> bool:
    """Whether a string may be an object or array; most are told apart by their first character."""
    if text[:1] not in _JSON_STARTS or not text or level >= MAX_NESTING or len(text) > MAX_TEXT_JSON:
        return False
    return _JSON_START.match(text) is not None and text.rstrip(" \t\r\n")[-1] in "]}"


def document_in(text: str) -> Document | None:
    """The object or array that a string holds as JSON, strictly parsed; None where it holds none."""
    try:
        document = parse_json(text.encode())
    except (Refusal, UnicodeEncodeError):
        return None
    return document if isinstance(document, dict | list) else None


def are_in_values(text: str, spans: Sequence[Span]) -> bool:
    """Whether all finds in JSON without a backslash lie in string values, none in a number or name or JSON in them.

    Then they can be replaced where they stand: quotes are the edges of strings, and detectors do not cross them.
    """
    is_inside = False
    done = 0
    for start, end, _ in spans:
        quotes = text.count('"', done, start)
        if quotes:
            is_inside ^= quotes % 2 == 1
            opening, closing = text.rfind('"', done, start), text.find('"', end)
            if closing < 0 or _NAME_END.match(text, closing) or _NESTED_START.match(text, opening):
                return False
        if not is_inside:
            return False
        done = start
    return True
