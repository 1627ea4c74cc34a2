"""Mask rules applied to JSON and text (DESIGN 5.3, `masks`).

Law: what the protocol needs to work (ids, cursors, task ids, tokens, schemas) is never changed in a JSON-RPC message.
Law: a quick search over everything comes first, as most values hold nothing to mask; it never says so of one that does.
"""

import re
from collections import Counter
from collections.abc import Sequence
from operator import is_

from coatcheck.masking.detectors.slices import SLICE
from coatcheck.masking.embedded import may_embed
from coatcheck.masking.protected import MESSAGE, NOTHING, Protected
from coatcheck.masking.rules import REDACTED, Rules
from coatcheck.masking.states import State
from coatcheck.masking.strings import Strings, TooCostly, looks_like_json, serialised
from coatcheck.masking.walk import Walk
from coatcheck.mcp.call import Json
from coatcheck.policy.model import MaskRule

_EXPONENT = re.compile(rb"[0-9][eE]\+?[0-9]")
_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_ESCAPES = ("%", "&#", "\\u", "\\x")
"""How escapes begin, each of which costs an eighth of a place."""
MAX_PLACES = 100_000
"""Places in one value, JSON in strings included, that detectors look at closely: several microseconds each."""
APART = 4
"""Places that cost as much to look at as one small JSON document in a string."""


class _Allowance:
    """How many more places may be looked at, over all of a value."""

    __slots__ = ("left",)

    def __init__(self, places: int) -> None:
        self.left = places

    def take(self, rules: Rules, text: str) -> None:
        """Raises `TooCostly` where `text` has more than are left; a place takes a character at least."""
        if len(text) > self.left // 3:
            if sum(map(text.count, _ESCAPES)) // 8 > self.left:
                raise TooCostly  # told without reading one of them
            self.left -= rules.places(text)
        if self.left < 0:
            raise TooCostly


class Masker:
    """The masks of one server. `key` makes `as: hash` stable and impossible to guess from outside.

    Safe to use from several threads: work on more than 16 KiB belongs in one, as it can take 10 ms and more.
    Raises `ValueError` on an unknown detector or a path that cannot be parsed. Each method raises `TooCostly` where
    more than `places` would have to be looked at.
    """

    def __init__(self, rules: Sequence[MaskRule], *, key: bytes) -> None:
        self._rules = Rules(rules, key=key)

    def __bool__(self) -> bool:
        return bool(self._rules.finds or self._rules.fields)

    def may_hold(self, data: bytes) -> bool:
        """Whether something in texts that stand in `data` in UTF-8 may have to be masked."""
        return self._rules.may_hold(data)

    def mask_json(
        self, value: Json, hits: Counter[str], *, written: bytes | None = None, places: int = MAX_PLACES
    ) -> Json:
        """`value` masked; the same object when nothing changed. `hits` counts the finds by rule id.

        `written` is the value's JSON text, where there is one: most are told from it to hold nothing.
        """
        return self._mask(value, hits, NOTHING, written, places)

    def mask_text(self, text: str, hits: Counter[str], *, places: int = MAX_PLACES) -> str:
        """`text` masked: as JSON where it is JSON (`fields` apply then), else by detectors."""
        masked = self._mask(text, hits, NOTHING, None, places)
        return masked if isinstance(masked, str) else REDACTED

    def mask_message(
        self, message: Json, hits: Counter[str], *, written: bytes | None = None, places: int = MAX_PLACES
    ) -> Json:
        """A JSON-RPC message, or a batch of them, masked but for what MCP needs (`protected.MESSAGE`).

        Field paths are tried from the message, from its `result`, from `result.structuredContent`, and inside
        strings that hold JSON, but not in schemas, where the names of fields stand for no data. The same object
        comes back when nothing changed. `written` as for `mask_json`.
        """
        if isinstance(message, list):
            masked = [self.mask_message(one, hits, places=places) for one in message]
            return message if all(map(is_, masked, message)) else masked
        return self._mask(message, hits, MESSAGE, written, places)

    def _mask(self, value: Json, hits: Counter[str], keep: Protected, written: bytes | None, places: int) -> Json:
        if written is not None:
            if self._rules.may_hold_written(written):
                budget = 2 * len(written)
                return self._walked(value, hits, keep, 0, _Allowance(places), (), budget=budget)
            if _is_plain(written):
                return value
        is_ascii = written is not None and written.isascii()
        chunks = serialised(value)
        for chunk in chunks:
            if self._rules.may_hold(chunk, is_ascii=is_ascii):
                break
        else:
            return value
        budget = 2 * sum(map(len, chunks))
        return self._walked(value, hits, keep, 0, _Allowance(places), (), budget=budget)

    def _walked(
        self,
        value: Json,
        hits: Counter[str],
        keep: Protected,
        level: int,
        allowance: _Allowance,
        led: tuple[State, ...] | None,
        *,
        budget: int = 0,
    ) -> Json:
        """`value` searched, and walked through where something was found; by fields too where it is `led`."""
        strings = Strings(value, level, self._rules.may_hold, budget=budget)
        allowance.take(self._rules, strings.joined)
        spans = self._rules.spans(strings.joined)
        fields = self._rules.fields_in(strings.joined) if led is not None else []
        if not spans and not fields and not led:
            return value
        found = strings.holding(spans)
        for text in strings.all if fields or led else strings.documents:
            if text not in found and (looks_like_json(text) or may_embed(text)):
                found[text] = []

        def mask_apart(apart: Json, hits: Counter[str], level: int, led: tuple[State, ...] | None) -> Json:
            allowance.left -= APART
            return self._walked(apart, hits, NOTHING, level, allowance, led)

        walk = Walk(self._rules, tuple([(field, 0) for field in fields]), found, strings, hits, level, mask_apart)
        return walk.node(value, (*walk.roots, *(led or ())), keep)


def _is_plain(written: bytes) -> bool:
    """Whether JSON text shows all it says: no escapes, and no number whose digits do not all stand in it."""
    if b"\\" in written:
        return False
    if b"0e" not in written.translate(_DIGITS_ALIKE):
        return True
    # in slices: one search lets no other thread run
    return not any(_EXPONENT.search(written, at, at + SLICE + 3) for at in range(0, len(written), SLICE))
