"""Many needles and many words, found in one pass over the data.

Law: what is found is what looking for each alone would find; the cost grows with the data and with what is found in
it, hardly with how many are looked for.
"""

import re
import string
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from coatcheck.vault.patterns import Needle
from coatcheck.vault.words import Word

type Found = tuple[int, int, int]
"""Which of those looked for, and where it begins and ends."""

FEW = 16
"""Up to so many needles are looked for one by one: `bytes.find` is faster than anything else."""

STRIDE = 8
"""Bytes of an aligned block. Any `2 * STRIDE - 1` bytes hold a whole one, wherever they stand."""

_BASE64 = b"+/_-" + string.ascii_letters.encode() + string.digits.encode()
_LINE_FEEDS = tuple(re.compile(re.escape(text) + rb"(?=[A-Za-z0-9+/_-])") for text in (b"\n", b"\\n"))
_PARTS = (b"\\\\r", b"\\\\n", b"\\r", b"\\n", b"\r", b"\n")
"""Of line ends: each with all its backslashes before what is left without them."""
_RETURNS = (b"\\\\r", b"\\r", b"\r")
_CUT_LINE_END = re.compile(rb"(?:\r|\r?\n|(?:\\{1,2}r)?\\{0,2}|(?:\\{1,2}r)?\\{1,2}n)\Z")
"""As much of a line end as may stand at the end of the data."""
_WRAPPED = _BASE64 + b"\r\n\\"
_LAST = frozenset(bytes([byte]) for byte in _WRAPPED)
LONGEST_LINE_END = 6
"""Bytes: backslash backslash r backslash backslash n."""


class NeedleSearch:
    """Exact texts.

    Many are found by the aligned blocks of the data: a needle of at least 15 bytes covers one of them wherever it
    stands, and each needle is filed under one block of its own for each of the eight ways it can lie.
    """

    __slots__ = ("_blocks", "_filed", "_single")

    def __init__(self, needles: Sequence[Needle]) -> None:
        is_many = len(needles) > FEW
        self._single = [
            (which, needle) for which, needle in enumerate(needles) if not is_many or len(needle.text) < 2 * STRIDE - 1
        ]
        self._filed: dict[int, list[tuple[int, bytes, int]]] = {}
        if is_many:
            self._file([(which, n.text) for which, n in enumerate(needles) if len(n.text) >= 2 * STRIDE - 1])
        self._blocks = frozenset(self._filed)

    def find_all(self, data: bytes) -> Iterator[Found]:
        """Every occurrence of every needle, overlapping ones too."""
        for which, needle in self._single:
            for start, end in needle.find_all(data):
                yield which, start, end
        if not self._blocks:
            return
        blocks = memoryview(data)[: len(data) // STRIDE * STRIDE].cast("Q")
        if self._blocks.isdisjoint(blocks):
            return
        for number, block in enumerate(blocks):
            for which, text, offset in self._filed.get(block, ()):
                start = number * STRIDE - offset
                if start >= 0 and data.startswith(text, start):
                    yield which, start, start + len(text)

    def _file(self, texts: list[tuple[int, bytes]]) -> None:
        """For each residue the block that fewest needles share, so that a common beginning costs nothing."""
        shared = Counter(text[at : at + STRIDE] for _, text in texts for at in range(len(text) - STRIDE + 1))
        for which, text in texts:
            for residue in range(STRIDE):
                offsets = range(residue, len(text) - STRIDE + 1, STRIDE)
                offset = min(offsets, key=lambda at: shared[text[at : at + STRIDE]])
                block = int.from_bytes(text[offset : offset + STRIDE], sys.byteorder)
                self._filed.setdefault(block, []).append((which, text, offset))


class WrappedSearch:
    """Base64 texts with line ends in them: those are taken out of the data before it is looked through.

    They are known as they are, in JSON text, and in JSON text inside JSON.
    """

    __slots__ = ("_longest", "_needles", "_texts")

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._needles = NeedleSearch([Needle.of(text, "base64") for text in texts])
        self._texts = sorted(texts)
        self._longest = max(map(len, texts), default=0)

    def find_all(self, data: bytes) -> Iterator[Found]:
        """Every occurrence, those without a line end in them too."""
        if not self._texts or (b"\n" not in data and b"\\n" not in data):
            return
        flat = data
        for part in _PARTS:  # more than line ends inside base64, and much faster
            flat = flat.replace(part, b"")
        if next(self._needles.find_all(flat), None) is not None:
            text, places = _without(_line_ends(data), data)
            for which, start, end in self._needles.find_all(text):
                yield which, _place(places, start), _place(places, end - 1) + 1

    def begins_at(self, data: bytes) -> int:
        """The first position from which the rest of `data` could be the beginning of a text; its length if none."""
        size = len(data)
        if not self._texts or data[-1:] not in _LAST or data.endswith((b"\n\n", b"\r\n\r\n")):
            return size
        tail = data[-self._longest * (1 + LONGEST_LINE_END) :]
        tail = tail[len(tail.rstrip(_WRAPPED)) :]
        before = size - len(tail)
        cut = _CUT_LINE_END.search(tail)
        tail = tail[: cut.start()] if cut else tail
        text, places = _without(_line_ends(tail), tail)
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            rest = text[at:]
            found = bisect_left(self._texts, rest)
            if found < len(self._texts) and self._texts[found].startswith(rest):
                return before + _place(places, at)
        return size


def _line_ends(data: bytes) -> list[tuple[int, int]]:
    """Every line end with base64 on both sides, in order."""
    ends = [found.end() for pattern in _LINE_FEEDS for found in pattern.finditer(data)]
    spans = [(_line_end_before(data, end), end) for end in sorted(ends)]
    return [(start, end) for start, end in spans if start and data[start - 1] in _BASE64]


def _without(spans: list[tuple[int, int]], data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """The data without these, and for each where in that it was, with how much was taken out by then."""
    places = []
    pieces = []
    taken = before = 0
    for start, end in spans:
        pieces.append(data[before:start])
        places.append((start - taken, taken := taken + end - start))
        before = end
    return b"".join([*pieces, data[before:]]), places


def _line_end_before(data: bytes, end: int) -> int:
    """Where the line end begins whose line feed ends here."""
    start = end - 1 if data[end - 1] == ord("\n") else end - 2
    if start < end - 1 and start and data[start - 1] == ord("\\"):
        start -= 1
    return next((start - len(text) for text in _RETURNS if data.endswith(text, 0, start)), start)


def _place(places: list[tuple[int, int]], at: int) -> int:
    """Where in the data a byte of the text without line ends is."""
    before = bisect_right(places, at, key=itemgetter(0))
    return at + (places[before - 1][1] if before else 0)


class WordSearch:
    """Words with at least one escape, found by their first escape and the raw text before it.

    Escapes are found by one regular expression for each byte that they begin with, which takes the longest; whatever
    is a shorter one as well is tried too.
    """

    __slots__ = ("_probes", "_users")

    def __init__(self, words: Sequence[Word]) -> None:
        users: defaultdict[bytes, list[tuple[int, Word, int]]] = defaultdict(list)
        for which, word in enumerate(words):
            for escape, indexes in word.escapes.items():
                users[escape] += [(which, word, index) for index in indexes]
        self._users: dict[bytes, Users] = {
            escape: _users([(short, users[short]) for short in _beginnings(escape) if short in users])
            for escape in users
        }
        self._probes = tuple(_probes(self._users))

    def find_all(self, data: bytes) -> Iterator[Found]:
        """Every occurrence of every word that has an escape in it."""
        lower = b""
        for first, pattern in self._probes:
            if first not in data:
                continue
            for found in pattern.finditer(data):
                at = found.start()
                here, before = self._users[data[at : found.end(1)].lower()]
                candidates = before.get(data[at - 1], ()) if at else ()
                for which, word, index, size in (*here, *candidates) if here else candidates:
                    lower = lower or data.lower()
                    span = word.around(data, lower, index, at, at + size)
                    if span is not None:
                        yield which, *span


type _User = tuple[int, Word, int, int]
"""Which word, the word, the unit that an escape is of, and the escape's size."""
type Users = tuple[tuple[_User, ...], dict[int, tuple[_User, ...]]]
"""Those of an escape that words begin with, and of one within a word by the byte that stands before it."""


def _beginnings(escape: bytes) -> Iterator[bytes]:
    for size in range(1, len(escape) + 1):
        yield escape[:size]


def _users(found: Iterable[tuple[bytes, list[tuple[int, Word, int]]]]) -> Users:
    """`found`: escapes that begin alike, and what each is an escape of."""
    here: list[_User] = []
    before: defaultdict[int, list[_User]] = defaultdict(list)
    for escape, users in found:
        for which, word, index in users:
            user = (which, word, index, len(escape))
            if index:
                before[word.last_before(index)].append(user)
            else:
                here.append(user)
    return tuple(here), {byte: tuple(users) for byte, users in before.items()}


def _probes(escapes: Iterable[bytes]) -> Iterator[tuple[bytes, re.Pattern[bytes]]]:
    """For each byte that escapes begin with, what finds those, one inside another too."""
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for escape in escapes:
        groups[escape[:1]].append(escape[1:])
    for first, rests in sorted(groups.items()):
        yield first, re.compile(re.escape(first) + b"(?=(" + _any_of(_tree(rests)) + b"))")


type _Tree = dict[int, "_Tree"]
_END = -1


def _tree(texts: Iterable[bytes]) -> _Tree:
    root: _Tree = {}
    for text in texts:
        node = root
        for byte in text:
            node = node.setdefault(byte, {})
        node[_END] = {}
    return root


def _any_of(tree: _Tree) -> bytes:
    """A regular expression for the longest text of the tree, in any case; each branch is told by its first byte."""
    rests: defaultdict[bytes, set[int]] = defaultdict(set)
    for byte, below in tree.items():
        if byte != _END:
            rests[_any_of(below)].add(byte)
    ways = b"|".join(_any_case(choices) + rest for rest, choices in sorted(rests.items()))
    if not ways:
        return b""
    return b"(?:" + ways + (b")?" if _END in tree else b")")


def _any_case(choices: set[int]) -> bytes:
    both = bytes(choices) + bytes(choices).upper()
    return b"[" + b"".join(re.escape(bytes([byte])) for byte in sorted(set(both))) + b"]"
