"""Secret to `*`, in what a server says back.

Law: the output has the input's length, and does not depend on how the network split it.
Law: every occurrence of every pattern is masked, the overlapping ones as one.
Law: only bytes that could still begin an occurrence are held back, so a finished event leaves whole at once.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from coatcheck.errors import VaultError
from coatcheck.mcp.call import Json
from coatcheck.vault.patterns import Encoding, Patterns, patterns_of
from coatcheck.vault.search import NeedleSearch, WordSearch, WrappedSearch
from coatcheck.vault.snapshot import Credential, Snapshot

MASK = b"*"

type Span = tuple[int, int]

_PLAIN = re.compile(rb'[^"\\\b\t\n\f\r]*')
"""What JSON text writes as it is, unless it chooses one of `_HIDING`."""
_HIDING = (b"\\u", b"\\/", b"\\\\")


@dataclass(frozen=True, slots=True)
class Hit:
    """That a secret came back, and how: for the journal. Each kind is noted once in a list of hits."""

    secret: str
    encoding: Encoding


class Scrubber:
    """Masks the values of some credentials. Immutable; holds them in clear, so it lives as briefly as it can."""

    __slots__ = (
        "_alphabet", "_firsts", "_in_needles", "_in_words", "_in_wrapped", "_is_plain", "_longest",
        "_needles", "_words", "_wrapped",
    )  # fmt: skip

    def __init__(self, patterns: Iterable[Patterns]) -> None:
        known = tuple(patterns)
        self._needles = tuple((needle, Hit(one.secret, needle.encoding)) for one in known for needle in one.needles)
        self._words = tuple((word, Hit(one.secret, "escaped")) for one in known for word in one.words)
        self._wrapped = tuple((text, Hit(one.secret, "base64")) for one in known for text in one.wrapped)
        self._in_needles = NeedleSearch([needle for needle, _ in self._needles])
        self._in_words = WordSearch([word for word, _ in self._words])
        self._in_wrapped = WrappedSearch([text for text, _ in self._wrapped])
        self._is_plain = all(_PLAIN.fullmatch(needle.text) for needle, _ in self._needles)
        texts = [*(needle.text for needle, _ in self._needles), *(word.alphabet for word, _ in self._words)]
        self._alphabet = bytes(sorted(set(b"".join(texts))))
        self._longest = max((0, *(len(n.text) for n, _ in self._needles), *(w.longest for w, _ in self._words)))
        firsts = re.escape(bytes(sorted(set(b"".join(word.firsts for word, _ in self._words)))))
        self._firsts = re.compile(b"[" + firsts + b"]") if firsts else None

    def __bool__(self) -> bool:
        return bool(self._needles)

    def __repr__(self) -> str:
        return "Scrubber(***)"

    def whole(self, data: bytes, hits: list[Hit]) -> bytes:
        """The bytes with every occurrence masked; the same object where there is none."""
        return _masked(data, list(self.spans(data, hits)))

    def text(self, text: str, hits: list[Hit]) -> str:
        """As `whole`, for a decoded string."""
        data = text.encode("utf-8", "surrogatepass")
        clean = self.whole(data, hits)
        return text if clean is data else clean.decode("utf-8", "replace")

    def json(self, value: Json, hits: list[Hit], *, written: bytes = b"\\u") -> Json:
        """As `text`, for every string in a JSON value, keys too; the same object where there is nothing to mask.

        `written` is the value's JSON text where that was scrubbed before: what has no escape in it that stands for
        a character of a secret, or of another escape, has shown all it says already.
        """
        if self._is_plain and not any(map(written.__contains__, _HIDING)):
            return value
        strings = "\n".join(_strings(value)).encode("utf-8", "surrogatepass")
        if next(self.spans(strings, []), None) is None:
            return value
        return self._rebuilt(value, hits)

    def stream(self, hits: list[Hit]) -> "ScrubStream":
        """A scrubber of one stream of bytes."""
        return ScrubStream(self, hits)

    def spans(self, data: bytes, hits: list[Hit]) -> Iterator[Span]:
        """Every occurrence, in no order; each kind is noted in `hits`."""
        for which, start, end in self._in_needles.find_all(data):
            _note(self._needles[which][1], hits)
            yield start, end
        for which, start, end in self._in_words.find_all(data):
            _note(self._words[which][1], hits)
            yield start, end
        for which, start, end in self._in_wrapped.find_all(data):
            _note(self._wrapped[which][1], hits)
            yield start, end

    def settled(self, data: bytes) -> int:
        """How many bytes are decided: what follows them could begin an occurrence that is not complete yet."""
        size = len(data)
        wrapped = self._in_wrapped.begins_at(data)
        start = max(len(data.rstrip(self._alphabet)), size - self._longest + 1)
        if start >= size:
            return wrapped
        settled = min((needle.begins_at(data, start) for needle, _ in self._needles), default=size)
        if self._firsts is not None:
            lower = data.lower()
            for found in self._firsts.finditer(data, start, settled):
                if any(word.begins_at(data, lower, found.start()) for word, _ in self._words):
                    settled = found.start()
                    break
        return min(settled, wrapped)

    def _rebuilt(self, value: Json, hits: list[Hit]) -> Json:
        match value:
            case str():
                return self.text(value, hits)
            case list():
                return [self._rebuilt(item, hits) for item in value]
            case dict():
                return {self.text(key, hits): self._rebuilt(item, hits) for key, item in value.items()}
            case _:
                return value


class ScrubStream:
    """Scrubs bytes as they come. Holds at most one occurrence's length back."""

    __slots__ = ("_held", "_hits", "_masked", "_scrubber")

    def __init__(self, scrubber: Scrubber, hits: list[Hit]) -> None:
        self._scrubber = scrubber
        self._hits = hits
        self._held = b""
        self._masked = 0  # this many of the held bytes belong to an occurrence that began before them

    def feed(self, data: bytes) -> bytes:
        """Takes some bytes; returns those that are decided, masked."""
        return self._release(self._held + data, final=False)

    def finish(self) -> bytes:
        """The rest, at the end of the stream."""
        return self._release(self._held, final=True)

    def _release(self, data: bytes, *, final: bool) -> bytes:
        spans = self._scrubber.spans(data, self._hits)
        settled = len(data) if final else self._scrubber.settled(data)
        # An occurrence that begins in the held bytes is found again, complete, with what follows.
        begun = [(0, self._masked), *((start, end) for start, end in spans if start < settled)]
        self._masked = max(0, *(end - settled for _, end in begun))
        self._held = data[settled:]
        return _masked(data, begun)[:settled]


class ScrubberCache:
    """Scrubbers by the exact versions they are made of; the least used go first. Belongs to one event loop."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._scrubbers: OrderedDict[tuple[tuple[str, int, str], ...], Scrubber] = OrderedDict()

    def get(self, credentials: Sequence[Credential]) -> Scrubber:
        """The scrubber of these credentials, made now or before."""
        if not all(each.info.fingerprint for each in credentials):
            return Scrubber(map(patterns_of, credentials))  # not from a vault: nothing tells two values apart
        key = tuple((each.info.name, each.info.version, each.info.fingerprint) for each in credentials)
        found = self._scrubbers.get(key)
        if found is None:
            found = self._scrubbers[key] = Scrubber(map(patterns_of, credentials))
            if len(self._scrubbers) > self._size:
                self._scrubbers.popitem(last=False)
        else:
            self._scrubbers.move_to_end(key)
        return found

    def of_server(self, snapshot: Snapshot, server: str) -> Scrubber:
        """The scrubber of every secret that may go to a server: it may say one back later than it was sent it.

        Opens them only where the scrubber is not made yet. Raises `VaultError` where one does not open.
        """
        names = sorted(snapshot.bound_to(server))
        infos = [info for name in names if (info := snapshot.info(name)) is not None]
        key = tuple((info.name, info.version, info.fingerprint) for info in infos)
        found = self._scrubbers.get(key)
        return self.get([snapshot.open(info.name) for info in infos]) if found is None else found

    @classmethod
    def ready_for(cls, snapshot: Snapshot, servers: Iterable[str]) -> Self:
        """A cache with the scrubbers of these servers: some milliseconds for each secret, so made in a thread.

        Those of which a secret does not open are left out.
        """
        ready = cls()
        for server in servers:
            with suppress(VaultError):
                ready.of_server(snapshot, server)
        return ready

    def replace(self, ready: Self) -> None:
        """Forgets all of them, as the vault changed, and takes those of `ready`, which nobody may use any more."""
        self._scrubbers = ready._scrubbers

    def __repr__(self) -> str:
        return f"ScrubberCache({len(self._scrubbers)})"


def _note(hit: Hit, hits: list[Hit]) -> None:
    if hit not in hits:
        hits.append(hit)


def _masked(data: bytes, spans: list[Span]) -> bytes:
    """The data with the spans' bytes as `*`. Each byte is written once, however the spans overlap."""
    if not spans:
        return data
    out = bytearray(data)
    done = 0
    for start, end in sorted(spans):
        if end > done:
            first = max(start, done)
            out[first:end] = MASK * (end - first)
            done = end
    return bytes(out)


def _strings(value: Json) -> Iterator[str]:
    """Every string in a JSON value, keys too, without recursion."""
    todo: list[Json] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            yield from item
            todo.extend(item.values())
