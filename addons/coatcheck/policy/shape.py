"""Typed reading of nodes: every wrong type, unknown key and missing key is reported, none stops the rest.

Law: a misspelt key never becomes a wider rule; an empty list is an error, never "everything" or "nothing".

A reader returns None (or leaves an item out) only after it has reported a problem, so what is made from its
results may be used only when `Findings.problems` is empty.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Concatenate

from coatcheck.errors import Problem
from coatcheck.policy.source import Fields, Items, Node, Scalar

_DURATION = re.compile(r"(0|[1-9][0-9]{0,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INTERPOLATION = re.compile(r"\$\{")
_KINDS = {"integer": "a number", "number": "a number", "boolean": "true or false", "null": "nothing", "text": "text"}


@dataclass(slots=True)
class Findings:
    """The problems found so far, in the order found."""

    problems: list[Problem] = field(default_factory=list)

    def report(self, at: str, what: str, hint: str | None = None) -> None:
        """Adds one problem; `at` is `file:line:col`."""
        self.problems.append(Problem(at, what, hint))


def describe(node: Node) -> str:
    """What a node is, for messages: `a list`, `a number`."""
    match node:
        case Items():
            return "a list"
        case Fields():
            return "a mapping"
        case Scalar():
            return _KINDS[node.kind]


def suggest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean 'tools'?`, or what is known where nothing is close and there are few."""
    names = sorted(known)
    longer = [name for name in names if word and name.lower().startswith(word.lower())]
    close = (
        longer
        if len(longer) == 1
        else difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        or [name for name in names if name.lower() == word.lower()]
    )
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 16 else None


@dataclass(frozen=True, slots=True)
class Form:
    """The known fields of one mapping."""

    fields: dict[str, tuple[Scalar, Node]]
    findings: Findings
    at: str
    is_spelt_right: bool = True
    """Whether it is a mapping without unknown keys: then a key that is not there was not meant."""

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def at_key(self, key: str) -> str:
        """Where the key stands, or the mapping where it is not given."""
        return self.fields[key][0].at if key in self.fields else self.at

    def at_value(self, key: str) -> str:
        """Where the value stands, or the mapping where it is not given."""
        return self.fields[key][1].at if key in self.fields else self.at

    def read[T, **P](
        self, key: str, reader: Callable[Concatenate[Node, Findings, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """What `reader` makes of the value; None where the key is not given."""
        pair = self.fields.get(key)
        return None if pair is None else reader(pair[1], self.findings, *args, **kwargs)

    def read_list[T](self, key: str, read: Callable[[Node, Findings], T | None]) -> tuple[T, ...]:
        """A non-empty list, each item read by `read`; `()` where the key is not given."""
        pair = self.fields.get(key)
        return () if pair is None else read_items(pair[1], self.findings, read, what=key)

    def report(self, at: str, what: str, hint: str | None = None) -> None:
        """Adds one problem."""
        self.findings.report(at, what, hint)


def read_form(
    node: Node, findings: Findings, *, required: Collection[str] = (), optional: Collection[str] = (), what: str
) -> Form:
    """The known fields of a mapping; `what` names it in messages (`a rule`)."""
    if not isinstance(node, Fields):
        findings.report(node.at, f"{what} is a mapping, not {describe(node)}")
        return Form({}, findings, node.at, is_spelt_right=False)
    known = {*required, *optional}
    for name, (key, _) in node.fields.items():
        if name not in known:
            findings.report(key.at, f"unknown key {name!r}", suggest(name, known))
    for name in required:
        if name not in node.fields:
            findings.report(node.at, f"missing key {name!r} in {what}")
    fields = {name: pair for name, pair in node.fields.items() if name in known}
    return Form(fields, findings, node.at, is_spelt_right=len(fields) == len(node.fields))


def read_names(node: Node, findings: Findings, *, what: str) -> Iterator[tuple[str, Scalar, Node]]:
    """The entries of a section: a mapping by name. Yields name, key, value; an empty section is reported."""
    if not isinstance(node, Fields):
        findings.report(node.at, f"{what} are a mapping by name, not {describe(node)}")
        return
    if not node.fields:
        findings.report(node.at, f"no {what} here", "leave the section out, or fill it")
    for name, (key, value) in node.fields.items():
        if name == "any" or not _NAME.fullmatch(name):
            findings.report(key.at, f"not a name: {name!r}", "letters, digits, '.', '_' and '-', at most 64; not 'any'")
        else:
            yield name, key, value


def read_text(node: Node, findings: Findings, *, what: str, expands: bool = False) -> str | None:
    """A non-empty text value, printable but for line ends. `expands`: a `${…}` in it is its own business."""
    if not isinstance(node, Scalar) or node.kind == "null":
        findings.report(node.at, f"{what} is text, not {describe(node)}")
        return None
    if node.source == "unfilled":
        return None
    if node.kind != "text":
        findings.report(node.at, f"{what} is text, not {describe(node)}", f'quote it: "{node.text}"')
        return None
    if not node.text.strip():
        findings.report(node.at, f"{what} is empty")
        return None
    if _INTERPOLATION.search(node.text) and not expands:
        findings.report(
            node.at, f"{what} holds '${{'", "variables are filled in only in URLs and the audience; write the value"
        )
        return None
    return node.text


def read_name(node: Node, findings: Findings, *, what: str) -> str | None:
    """A name as `read_names` takes them."""
    text = read_text(node, findings, what=what)
    if text is not None and not _NAME.fullmatch(text):
        findings.report(node.at, f"not a name: {text!r}", "letters, digits, '.', '_' and '-', at most 64")
        return None
    return text


def read_choice(node: Node, findings: Findings, choices: Collection[str], *, what: str) -> str | None:
    """One of the words."""
    text = read_text(node, findings, what=what)
    if text is not None and text not in choices:
        findings.report(node.at, f"{what} cannot be {text!r}", suggest(text, choices))
        return None
    return text


def read_boolean(node: Node, findings: Findings, *, what: str) -> bool | None:
    """`true` or `false`; `yes`, `no`, `on` and `off` are words (YAML 1.2)."""
    if isinstance(node, Scalar) and node.kind == "boolean":
        return node.text.lower() == "true"
    findings.report(node.at, f"{what} is true or false, not {describe(node)}", "write true or false, unquoted")
    return None


def read_integer(node: Node, findings: Findings, *, what: str, low: int, high: int) -> int | None:
    """A plain decimal integer within bounds; no leading zeros, underscores, other bases or fractions."""
    if not isinstance(node, Scalar) or node.kind != "integer":
        findings.report(node.at, f"{what} is a plain whole number", f"from {low} to {high}, such as {low}")
        return None
    value = int(node.text)
    if not low <= value <= high:
        findings.report(node.at, f"{what} is out of range: {value}", f"from {low} to {high}")
        return None
    return value


def read_duration(node: Node, findings: Findings, *, what: str, low: timedelta, high: timedelta) -> timedelta | None:
    """`45s`, `15m`, `2h` or `1d`, within bounds."""
    found = _DURATION.fullmatch(node.text) if isinstance(node, Scalar) and node.kind == "text" else None
    if found is None:
        is_bare = isinstance(node, Scalar) and node.kind == "integer" and node.source == "written"
        hint = f"with its unit, such as {node.text}s" if isinstance(node, Scalar) and is_bare else None
        findings.report(node.at, f"{what} is a time such as 45s, 15m, 2h or 1d", hint)
        return None
    value = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if not low <= value <= high:
        findings.report(node.at, f"{what} is out of range: {found[0]}", f"from {shown(low)} to {shown(high)}")
        return None
    return value


def shown(duration: timedelta) -> str:
    """A duration as policies write it, in its largest whole unit."""
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def read_items[T](
    node: Node, findings: Findings, read: Callable[[Node, Findings], T | None], *, what: str
) -> tuple[T, ...]:
    """A non-empty list, each item read by `read`; an item given twice is reported."""
    if not isinstance(node, Items):
        findings.report(node.at, f"{what} is a list, not {describe(node)}", _as_list(node))
        return ()
    if not node.items:
        findings.report(node.at, f"{what} is an empty list", "leave the key out, or fill the list")
    out: list[T] = []
    for item in node.items:
        value = read(item, findings)
        if value is None:
            continue
        if value in out:
            findings.report(item.at, f"given twice in {what}")
        out.append(value)
    return tuple(out)


def _as_list(node: Node) -> str | None:
    return f"write [{node.text}]" if isinstance(node, Scalar) and node.kind != "null" and len(node.text) < 60 else None
