"""Many needles and many words, found in one pass over the data.

Law: what is found is what looking for each alone would find; the cost grows with the data and with what is found in
it, hardly with how many are looked for.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from coatcheck.vault.patterns import Needle, Word

type Found = tuple[int, int, int]
"""Which of those looked for, and where it begins and ends."""

FEW = 16
"""Up to so many needles are looked for one by one: `bytes.find` is faster than anything else."""

STRIDE = 8
"""Bytes of an aligned block. Any `2 * STRIDE - 1` bytes hold a whole one, wherever they stand."""

ENTITY_LIMIT = 40
"""Bytes within which an entity ends; the longest name has 33."""

FILTERED = 3
"""Bytes of an escape, after what it begins with, that the regular expressions look at; the rest is looked up."""


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


class WordSearch:
    """Words with at least one escape, found by their first escape and the raw text before it."""

    __slots__ = ("_probes", "_users")

    def __init__(self, words: Sequence[Word]) -> None:
        users: defaultdict[bytes, list[tuple[int, Word, int]]] = defaultdict(list)
        for which, word in enumerate(words):
            for escape, indexes in word.escapes.items():
                users[escape] += [(which, word, index) for index in indexes]
        self._users = dict(users)
        self._probes = tuple(_probes(self._users))

    def find_all(self, data: bytes) -> Iterator[Found]:
        """Every occurrence of every word that has an escape in it."""
        lower = b""
        for pattern, lengths in self._probes:
            found = pattern.search(data)
            while found:
                at = found.start()
                lower = lower or data.lower()
                ends = [at + length for length in lengths] if lengths else [data.find(b";", at, at + ENTITY_LIMIT) + 1]
                for after in ends:
                    for which, word, index in self._users.get(lower[at:after], ()):
                        span = word.around(data, lower, index, at, after)
                        if span is not None:
                            yield which, *span
                found = pattern.search(data, at + 1)


def _probes(escapes: Iterable[bytes]) -> Iterator[tuple[re.Pattern[bytes], tuple[int, ...]]]:
    """What leads to escapes, and how long those are. Escapes that begin alike share one: `\\u`, `%`, `&`.

    Entities are found by their `;` instead: no length.
    """
    groups: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for escape in escapes:
        backslashes = len(escape) - len(escape.lstrip(b"\\"))
        groups[escape[: backslashes + 1] if backslashes else escape[:1]].add(escape)
    for beginning, group in sorted(groups.items()):
        shortest = min(map(len, group))
        sets = [
            {escape[at] for escape in group} for at in range(len(beginning), min(shortest, len(beginning) + FILTERED))
        ]
        lengths = () if beginning == b"&" else tuple(sorted(set(map(len, group))))
        yield re.compile(re.escape(beginning) + b"".join(map(_any_case, sets))), lengths


def _any_case(choices: set[int]) -> bytes:
    both = bytes(choices) + bytes(choices).upper()
    return b"[" + b"".join(re.escape(bytes([byte])) for byte in sorted(set(both))) + b"]"
