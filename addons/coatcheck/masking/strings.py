"""The strings in a value, and the JSON in strings.

Law: what a detector finds in a value it finds in its strings joined with line feeds, so one search tells which
strings hold something; most values hold nothing.
"""

import pickle
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.size import check_size
from coatcheck.mcp.strict_json import parse_data

type Span = tuple[int, int, int]
"""Where a find starts and ends in a text, and which of the searches found it."""
type Document = dict[str, Json] | list[Json] | str
"""What a string holds as JSON: a string again, where JSON was written as JSON twice."""


class TooCostly(Exception):
    """A value holds so much that may have to be masked that it is not masked at all."""


MAX_TEXT_JSON = 1024 * 1024
"""Characters of a string that is still read as JSON."""
MAX_NESTING = 3
"""JSON in a string in JSON in a string…: how many times over it is read."""

_JSON_STARTS = '{[" \t\r\n'
_JSON_START = re.compile(r'[ \t\r\n]*(?:\[|\{[ \t\r\n]*(?:\}|"(?:[^"\\]|\\.)*"[ \t\r\n]*:)|"[^"\\]*\\)')
_NESTED_START = re.compile(r'"[ \t\r\n]*[\[{]')
_NAME_END = re.compile(r'"[ \t\r\n]*:')
_LONG = 8
"""Elements of an array from which on it is worth the while to look at it on its own."""
_NEXT = rb"(?:[\x88-\x8c\x95().\]}GJKMNXaehjsu]|\Z)"
"""What can stand after a number in pickled JSON, the end of a chunk too; so two bytes of a small number are no find."""
_LARGE_INTEGER = re.compile(rb"\x8a(?:\x06.{6}|\x07.{7}|\x08.{8}|\x09.{9})" + _NEXT, re.DOTALL)
_LARGE_FLOAT = re.compile(rb"G[\x42\x43\xc2\xc3].{7}" + _NEXT, re.DOTALL)
_SHORTEST_CARD, _LONGEST_CARD = 10**12, 10**19


def is_card_sized(number: float) -> bool:
    """Whether a number is as long as a payment card's: 13 to 19 digits."""
    return _SHORTEST_CARD <= abs(number) < _LONGEST_CARD


class _Chunks:
    """A file to pickle into. That it is written in Python lets other threads run between two chunks."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def serialised(value: Json) -> list[bytes]:
    """`value` as bytes in which every string and member name stands as it is, in UTF-8, not split between two chunks.

    That is what pickle writes from protocol 4 on (PEP 3154, "Framing"), several times as quickly as the strings can be
    got at in any other way. The bytes are searched and thrown away, never read.
    """
    chunks = _Chunks()
    pickle.Pickler(chunks, 5).dump(value)
    return chunks.written


def may_hold_card_number(data: bytes) -> bool:
    """Whether `serialised` bytes may hold a number as long as a card's: an integer of 6 to 9 bytes (LONG1), or
    a float (BINFLOAT: IEEE 754, the high byte first) of a size from 2^33 to 2^65."""
    return (b"\x8a" in data and _LARGE_INTEGER.search(data) is not None) or (
        b"G" in data and _LARGE_FLOAT.search(data) is not None
    )


class Strings:
    """The strings and member names in a value, numbers as long as a card's too.

    Long arrays of which `may_hold` says that nothing is in them are left out; `skipped` has their ids.
    A string without a backslash shows all it holds as it stands. JSON in one that has some is parsed into `documents`,
    and its strings belong to the rest.
    """

    def __init__(self, value: Json, level: int, may_hold: Callable[[bytes], bool], *, budget: int) -> None:
        self.documents: dict[str, Document] = {}
        self.skipped: set[int] = set()
        self._may_hold = may_hold
        self._budget = budget
        self.names: list[str] = []
        self.numbers: list[str] = []
        self.texts: list[str] = []
        self._collect(value)
        self.all = self.names + self.numbers + self.texts
        self.joined = "\n".join(self.all)
        if "\\" in self.joined:
            self._add_documents(level)

    def _collect(self, value: Json) -> None:
        names, texts = self.names, self.texts
        nodes: list[Any] = [value]  # exact types are compared below, which tells mypy nothing: this is the hot loop
        for node in nodes:  # which grows meanwhile
            kind = type(node)
            if kind is str:
                texts.append(node)
            elif kind is dict:
                names += node
                nodes += node.values()
            elif kind is list:
                if len(node) < _LONG or not self._skips(node):
                    nodes += node
            elif (kind is int or kind is float) and not -_SHORTEST_CARD < node < _SHORTEST_CARD and is_card_sized(node):
                self.numbers.append(str(int(abs(node))))

    def _skips(self, value: list[Json]) -> bool:
        """Whether a long array holds nothing; arrays in arrays are not read over and over: the budget is in bytes."""
        if self._budget <= 0:
            return False
        chunks = serialised(value)
        self._budget -= sum(map(len, chunks))
        if any(map(self._may_hold, chunks)):
            return False
        self.skipped.add(id(value))
        return True

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
            if "\\" in text and text not in self.documents and is_readable(text, level) and looks_like_json(text):
                document = document_in(text)
                if document is not None:
                    self.documents[text] = document
                    nested = Strings(document, level + 1, self._may_hold, budget=0)
                    self.documents |= nested.documents
                    self.names += nested.names
                    self.numbers += nested.numbers
                    inner += nested.all
        if inner:
            self.all += inner
            self.joined = "\n".join((self.joined, *inner))


def is_readable(text: str, level: int) -> bool:
    """Whether JSON in a string is read, at this level of JSON in strings."""
    return level < MAX_NESTING and len(text) <= MAX_TEXT_JSON


def looks_like_json(text: str) -> bool:
    """Whether a string may be an object, an array, or one of them as a string; most are told by one character."""
    if text[:1] not in _JSON_STARTS or not text or len(text) > MAX_TEXT_JSON:
        return False
    return _JSON_START.match(text) is not None and text.rstrip(" \t\r\n")[-1] in ']}"'


def document_in(text: str) -> Document | None:
    """The object, array or string that a string holds as JSON; None where it holds none that is read in one way.

    Raises `TooCostly` where it holds more values than a body may have: it is not left unread, nor read at any cost.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    try:
        check_size(data)
    except Refusal:
        raise TooCostly from None
    try:
        document = parse_data(data)
    except (Refusal, UnicodeEncodeError):
        return None
    return document if isinstance(document, dict | list | str) else None


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
