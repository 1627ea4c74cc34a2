"""One value on its way through the rules.

Law: masking changes values, never types: a string stays a string, a number becomes 0, `true` false; null stays.
Law: a value that is not of the kind a field path expects is masked whole, not skipped.
"""

from collections import Counter
from collections.abc import Callable
from operator import is_
from typing import Any

from coatcheck.masking.embedded import embedded_in, may_embed
from coatcheck.masking.plain import is_plain, plain
from coatcheck.masking.protected import NOTHING, Protected
from coatcheck.masking.rules import REDACTED, Field, Rules
from coatcheck.masking.schemas import with_texts
from coatcheck.masking.states import State, descending, further, is_elsewhere
from coatcheck.masking.strings import (
    Span,
    Strings,
    are_in_values,
    document_in,
    is_card_sized,
    is_readable,
    looks_like_json,
)
from coatcheck.mcp.call import Json
from coatcheck.mcp.strict_json import dump_json

type MaskApart = Callable[[Json, Counter[str], int, tuple[State, ...] | None], Json]
"""Masks a value that has not been searched yet: counting finds, at a level of JSON in strings, by fields and by these
paths that have been followed to here, or without any.
"""

_EDGES = ("", "\n", '"')


class Walk:
    """One value on its way through, with the field paths that can apply to it and the strings to look at.

    `found` holds the strings that hold something: where the finds are, or nothing for JSON to look into.
    """

    def __init__(
        self,
        rules: Rules,
        roots: tuple[State, ...],
        found: dict[str, list[Span]],
        strings: Strings,
        hits: Counter[str],
        level: int,
        mask_apart: MaskApart,
    ) -> None:
        self.roots = roots
        self._rules = rules
        self._mask_apart = mask_apart
        self._found = found
        self._strings = strings
        self._has_names = not found.keys().isdisjoint(strings.names)
        self._has_numbers = not found.keys().isdisjoint(strings.numbers)
        self._hits = hits
        self._level = level

    def node(self, value: Json, states: tuple[State, ...], keep: Protected) -> Json:
        """`value`, reached by field paths as far as `states` say."""
        for field, followed in states:
            if followed == len(field.path.segments) or (followed and is_elsewhere(field.path, followed, value)):
                return self._cover(value, field, keep)
        if isinstance(value, str):
            below = descending(states) if states else ()
            return self._string(value, below) if value in self._found or (below and _is_json(value)) else value
        if not states and keep is NOTHING:
            return self._plain(value)
        if isinstance(value, dict):
            return self._object(value, states, keep)
        if isinstance(value, list):
            masked = [self.node(element, further(states, index=index), keep) for index, element in enumerate(value)]
            return value if all(map(is_, masked, value)) else masked
        return self._plain(value)

    def _plain(self, value: Json) -> Json:
        """`value` where neither a field path leads nor the protocol needs anything, copied only where it changes."""
        found = self._found
        masked: Any = None
        members: Any
        new: Json
        if type(value) is dict:
            if self._has_names and not found.keys().isdisjoint(value):
                return self._object(value, (), NOTHING)
            members = value.items()
        elif type(value) is list:
            if id(value) in self._strings.skipped:
                return value
            members = enumerate(value)
        else:
            return self._number(value)
        for name, member in members:
            kind = type(member)  # compared exactly: this runs for every value of most messages with a find
            if kind is str:
                if member not in found:
                    continue
                new = self._string(member)
            elif kind is dict or kind is list:
                new = self._plain(member)
            elif self._has_numbers and (kind is int or kind is float):
                new = self._number(member)
            else:
                continue
            if new is not member:
                masked = masked or value.copy()
                masked[name] = new
        return value if masked is None else masked

    def _object(self, value: dict[str, Json], states: tuple[State, ...], keep: Protected) -> Json:
        masked: dict[str, Json] = {}
        changed = False
        times: dict[str, int] = {}
        for name, member in value.items():
            if name in keep.kept:
                masked[name] = member
                continue
            new_name = self._name(name, value, times) if self._found.get(name) else name
            new_member = masked[new_name] = self._member(name, member, states, keep)
            if new_member is not member or new_name is not name:
                changed = True
        return masked if changed else value

    def _member(self, name: str, member: Json, states: tuple[State, ...], keep: Protected) -> Json:
        if name in keep.schemas and isinstance(member, dict | list):
            return with_texts(member, self._schema_text)
        inside = keep.below(name)
        reached = further(states, name=name) if states else ()
        if inside.is_root and self.roots:
            reached = tuple(dict.fromkeys((*reached, *self.roots)))
        return self.node(member, reached, inside)

    def _name(self, name: str, value: dict[str, Json], times: dict[str, int]) -> str:
        """A name that holds a find, masked; names that look alike then are numbered, so none is lost."""
        masked = self._text(name, self._found[name])
        while True:
            number = times[masked] = times.get(masked, 0) + 1
            unique = masked if number == 1 else f"{masked}#{number}"
            if unique not in value:
                return unique

    def _string(self, text: str, below: tuple[State, ...] = ()) -> str:
        """A string, as JSON where it is JSON, else as text. Paths `below` look in that JSON for what they name next."""
        spans = self._found.get(text, [])
        document = self._strings.documents.get(text)
        if document is not None:
            return _written(text, document, self.node(document, (*self.roots, *below), NOTHING))
        if not is_readable(text, self._level):
            return self._unread(text, spans, below) if _is_json(text) else self._text(text, spans)
        if looks_like_json(text):
            if spans and not self.roots and not below and "\\" not in text and are_in_values(text, spans):
                return self._text(text, spans)
            document = document_in(text)
            if document is not None:
                return _written(text, document, self._mask_apart(document, self._hits, self._level + 1, below))
        return self._around(text, below) if may_embed(text) else self._text(text, spans)

    def _around(self, text: str, below: tuple[State, ...]) -> str:
        """Text with JSON documents in it. No find crosses a bracket, so what stands between them is read on its own."""
        parts = []
        done = 0
        for start, end, document in embedded_in(text):
            piece = text[start:end]
            if document is None:
                written = self._unread(piece, self._rules.spans(piece), below)
            else:
                written = _written(piece, document, self._mask_apart(document, self._hits, self._level + 1, below))
            parts += [self._found_in(text[done:start]), written]
            done = end
        return "".join([*parts, self._found_in(text[done:])])

    def _unread(self, text: str, spans: list[Span], below: tuple[State, ...]) -> str:
        """JSON that is not read here, or not as some client may read it: all of it covered, if a field may be in it."""
        fields = self._rules.fields_in(text) if self.roots else []
        fields += [field for field, followed in below if _may_be_in(text, field.path.segments[followed].name)]
        if not fields:
            return self._text(text, spans)
        self._hits[fields[0].rule] += 1
        return self._rules.shown(text, fields[0].form, "***")

    def _found_in(self, text: str) -> str:
        return self._text(text, self._rules.spans(text))

    def _schema_text(self, text: str) -> str:
        """A title or description: data of nobody, so no field path applies, not even inside JSON in it."""
        if text not in self._found:
            return text
        masked = self._mask_apart(text, self._hits, self._level, None)
        return masked if isinstance(masked, str) else text

    def _text(self, text: str, spans: list[Span]) -> str:
        """`text` with every find replaced. A find taken away can leave another one standing alone, so it is read
        again unless all reached from edge to edge; two rounds are the most that happens."""
        for _ in range(3):
            if not spans:
                break
            text, is_done = self._replaced(text, spans)
            if is_done:
                break
            spans = self._rules.spans(text)
        return text

    def _replaced(self, text: str, spans: list[Span]) -> tuple[str, bool]:
        """Finds that overlap are replaced as one, in the strictest form among them. Also whether each find filled the
        text between two edges (detectors' law), so that nothing beside it can be read otherwise now."""
        merged: list[Span] = []
        for start, end, order in spans:
            if merged and start < merged[-1][1]:
                begin, stop, strictest = merged[-1]
                merged[-1] = (begin, max(stop, end), min(strictest, order))
            else:
                merged.append((start, end, order))
        parts = []
        done = 0
        is_done = True
        for start, end, order in merged:
            find, found = self._rules.finds[order], text[start:end]
            if not is_plain(found):
                found = plain(found).text
            parts += [text[done:start], self._rules.shown(found, find.form, find.detector.partial(found))]
            self._hits[find.rule] += 1
            done = end
            is_done = is_done and text[start - 1 : start] in _EDGES and text[end : end + 1] in _EDGES
        return "".join([*parts, text[done:]]), is_done

    def _number(self, value: Json) -> Json:
        """A card number may come as a number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_card_sized(value):
            return value
        for _, _, order in self._found.get(str(int(abs(value))), ())[:1]:
            self._hits[self._rules.finds[order].rule] += 1
            return 0
        return value

    def _cover(self, value: Json, field: Field, keep: Protected) -> Json:
        """`value` masked because a field path leads to it, leaf by leaf."""
        covered = self._covered(value, field, keep)
        if covered == value:
            return value
        self._hits[field.rule] += 1
        return covered

    def _covered(self, value: Json, field: Field, keep: Protected) -> Json:
        match value:
            case dict():
                covered: dict[str, Json] = {}
                times: dict[str, int] = {}
                for name, member in value.items():
                    if name in keep.kept:
                        covered[name] = member
                        continue
                    new_name = self._name(name, value, times) if self._found.get(name) else name
                    if name in keep.schemas and isinstance(member, dict | list):
                        covered[new_name] = with_texts(member, self._schema_text)
                    else:
                        covered[new_name] = self._covered(member, field, keep.below(name))
                return covered
            case list():
                return [self._covered(element, field, keep) for element in value]
            case str():
                if value == REDACTED:
                    return value
                return self._rules.shown(value, field.form, f"{value[0]}***{value[-1]}" if len(value) > 4 else "***")
            case bool():
                return False
            case None:
                return None
            case _:
                return 0


def _is_json(text: str) -> bool:
    return may_embed(text) or looks_like_json(text)


def _may_be_in(text: str, name: str | None) -> bool:
    return name is None or name in text or "\\u" in text


def _written(text: str, document: Json, masked: Json) -> str:
    return text if masked is document else dump_json(masked).decode()
