"""Mask rules, made ready to be looked for.

Law: where two rules cover the same text, the stricter form wins: redact, then hash, then partial.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from coatcheck.masking.detectors import DETECTORS, Detector
from coatcheck.masking.paths import FieldPath, parse_path
from coatcheck.masking.plain import is_plain, may_be_odd, plain
from coatcheck.masking.strings import Span, may_hold_card_number
from coatcheck.policy.model import MaskForm, MaskRule

REDACTED = "[redacted]"
_STRICTEST_FIRST: tuple[MaskForm, ...] = ("redact", "hash", "partial")
_LARGE = 16 * 1024
"""Bytes from which on JSON text is not read plainly just to be told from one that holds something."""
_NEVER_ESCAPED = re.compile(r"[ !#-.0-\[\]-~]+")


@dataclass(frozen=True, slots=True)
class Find:
    """One `detect` entry of one rule."""

    rule: str
    form: MaskForm
    detector: Detector


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One `fields` entry of one rule; compared by identity, as states are compared often."""

    rule: str
    form: MaskForm
    path: FieldPath


class Rules:
    """What to find and which fields to cover, the strictest form first. `key` is for `as: hash`.

    Raises `ValueError` on an unknown detector or a path that cannot be parsed.
    """

    def __init__(self, rules: Sequence[MaskRule], *, key: bytes) -> None:
        unknown = {name for rule in rules for name in rule.detect} - DETECTORS.keys()
        if unknown:
            raise ValueError(f"unknown detector {min(unknown)!r}; there are {', '.join(sorted(DETECTORS))}")
        ordered = sorted(rules, key=lambda rule: _STRICTEST_FIRST.index(rule.form))
        self.finds = tuple(Find(rule.id, rule.form, DETECTORS[name]) for rule in ordered for name in rule.detect)
        self.fields = tuple(Field(rule.id, rule.form, parse_path(path)) for rule in ordered for path in rule.fields)
        self._key = key
        self._named = tuple((field.path.first_name or "", field) for field in self.fields)
        names = {name for name, _ in self._named}
        # A path that begins with no name can lead anywhere, and JSON in a string may write some names with escapes.
        self._may_hold_always = not all(map(_NEVER_ESCAPED.fullmatch, names))
        detectors = {find.detector.name: find.detector for find in self.finds}
        self._detectors = tuple(detectors.values())
        self._searches: tuple[Callable[[bytes], bool], ...] = (
            *(detector.may_hold for detector in detectors.values()),
            *(partial(_holds, name.encode()) for name in sorted(names)),
        )

    def may_hold(self, data: bytes, *, is_ascii: bool = False) -> bool:
        """Whether anything in a value, `serialised` as `data`, may have to be masked. `is_ascii`: its texts are."""
        return (
            self._may_hold_plainly(data)
            or (bool(self._detectors) and may_be_odd(data, is_ascii=is_ascii))
            or may_hold_card_number(data)
        )

    def may_hold_written(self, written: bytes) -> bool:
        """As `may_hold`, for JSON text."""
        if self._may_hold_plainly(written):
            return True
        if not self._detectors or not may_be_odd(written, is_ascii=written.isascii()):
            return False
        return len(written) > _LARGE or self._may_hold_plainly(plain(written.decode(errors="ignore")).text.encode())

    def _may_hold_plainly(self, data: bytes) -> bool:
        if self._may_hold_always or (b"\\" in data and b"\\u" in data):
            return True
        for search in self._searches:  # noqa: SIM110  # a loop costs half of `any`
            if search(data):
                return True
        return False

    def places(self, text: str) -> int:
        """How many places of a text detectors have to look at closely; to read eight places plainly costs as much."""
        read = plain(text)
        texts = (text, read.text) if read.odd else (text,)
        searched = [one.encode("utf-8", "surrogatepass") for one in texts]
        return read.odd // 8 + sum(detector.places(data) for data in searched for detector in self._detectors)

    def spans(self, text: str) -> list[Span]:
        """Every find in `text`, as it stands or read plainly, in order; where several start together, the stricter
        form first."""
        spans = self._spans(text)
        if is_plain(text) or not self.finds:
            return spans
        read = plain(text)
        if not read.odd:
            return spans
        return sorted(
            {*spans, *((read.place(start), read.place(end), at) for start, end, at in self._spans(read.text))}
        )

    def _spans(self, text: str) -> list[Span]:
        spans: list[Span] = []
        is_sorted = True
        for order, find in enumerate(self.finds):
            found = [(start, end, order) for start, end in find.detector.spans(text)]
            is_sorted = not (found and spans) and is_sorted
            spans += found
        if not is_sorted:
            spans.sort()
        return spans

    def fields_in(self, joined: str) -> list[Field]:
        """The fields that can be in a value whose member names are in `joined`."""
        may_be_escaped = "\\u" in joined
        return [field for name, field in self._named if may_be_escaped or name in joined]

    def shown(self, text: str, form: MaskForm, partial: str) -> str:
        """What stands for `text`; `partial` is its partial form."""
        match form:
            case "redact":
                return REDACTED
            case "hash":
                return f"hash:{hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:12]}"
            case "partial":
                return partial


def _holds(name: bytes, data: bytes) -> bool:
    return name in data
