"""A policy file's text as a tree of nodes, each with its position.

Law: a file is read only where it can be read one way: one YAML 1.2 document, no anchors, aliases, tags,
merges or directives, no duplicate keys, no tabs or control characters, at most 1 MB and 64 levels.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from coatcheck.errors import Problem

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64

type ScalarKind = Literal["text", "integer", "number", "boolean", "null"]
"""`number` is every numeric form but a plain decimal integer: floats, octals, leading zeros, infinities."""

type ScalarSource = Literal["written", "filled", "unfilled"]
"""Whether the text is the file's own, or was filled in from the environment, or could not be (and is reported)."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; `text` as written. A quoted or block value is always of kind `text`."""

    text: str
    kind: ScalarKind
    at: str
    source: ScalarSource = "written"
    inset: int | None = field(default=None, compare=False)
    """Columns from `at` to the text's first character, where the text stands in the file as it is, on one line."""

    @property
    def shown(self) -> str:
        """The text quoted, for messages; what the environment gave stays there."""
        return repr(self.text) if self.source == "written" else "the environment's value"


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence."""

    items: tuple["Node", ...]
    at: str


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping; its keys are unique, in the order written."""

    fields: dict[str, tuple[Scalar, "Node"]]
    at: str


type Node = Scalar | Items | Fields

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
# YAML 1.2.2, 10.3.2 (core schema), and the number forms of YAML 1.1 that other readers still accept
_NUMBER = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOLEANS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# Besides controls: bidirectional overrides and isolates (UAX 9), which show a reviewer another policy than is loaded,
# and the separators that some readers take for line ends.
_UNWANTED = re.compile("[\x00-\x08\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


class _Unreadable(Exception):
    def __init__(self, at: str, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.problem = Problem(at, what, hint)


def read_source(data: bytes, name: str) -> tuple[Fields | None, list[Problem]]:
    """The top-level mapping of a file's bytes, and what is wrong; `name` is the file's name in positions.

    Returns None with at least one problem where the file cannot be read. Positions are `name:line:col`, from 1.
    """
    try:
        return _Reader(name).read(_decode(data, name))
    except _Unreadable as error:
        return None, [error.problem]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{name}:1:1"
        what = " ".join(str(part).strip() for part in (error.problem, error.context) if part)
        return None, [Problem(at, f"not YAML: {what}")]
    except (YAMLError, RecursionError, ValueError):
        return None, [Problem(f"{name}:1:1", "not YAML that can be read")]


def _decode(data: bytes, name: str) -> str:
    """Strict UTF-8, a leading byte order mark dropped."""
    if len(data) > MAX_BYTES:
        raise _Unreadable(name, "the file is larger than 1 MB")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Unreadable(f"{name}:{line}:1", "not UTF-8 text", "save the file as UTF-8") from None
    found = _UNWANTED.search(text)
    if found:
        line_start = text.rfind("\n", 0, found.start()) + 1
        at = f"{name}:{text.count('\n', 0, found.start()) + 1}:{found.start() - line_start + 1}"
        if found.group() == "\t":
            raise _Unreadable(at, "a tab", "indent with spaces")
        raise _Unreadable(at, f"a control character (U+{ord(found.group()):04X})", "remove it")
    return text


class _Reader:
    """Builds the tree from parser events; open collections are on a stack, never on Python's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: list[Problem] = []
        self._open: list[_OpenFields | _OpenItems] = []
        self._root: Node | None = None
        self._documents = 0

    def read(self, text: str) -> tuple[Fields | None, list[Problem]]:
        for event in YAML(typ="safe", pure=True).parse(text):
            self._take(event)
        match self._root:
            case None:
                raise _Unreadable(f"{self._name}:1:1", "the file is empty", "a policy starts with: coatcheck: 1")
            case Fields() as fields:
                return fields, self._problems
            case Scalar(kind="null", at=at):
                raise _Unreadable(at, "the file is empty", "a policy starts with: coatcheck: 1")
            case other:
                raise _Unreadable(other.at, "the file is not a mapping", "a policy starts with: coatcheck: 1")

    def _at(self, event: Event) -> str:
        mark = event.start_mark
        return f"{self._name}:{mark.line + 1}:{mark.column + 1}"

    def _take(self, event: Event) -> None:
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if event.version or event.tags:
                    raise _Unreadable(self._at(event), "a YAML directive", "remove the line that starts with %")
                if self._documents > 1:
                    raise _Unreadable(self._at(event), "a second document", "put it into a file of its own")
            case AliasEvent():
                raise _Unreadable(self._at(event), "an alias (*name)", "write the value out")
            case NodeEvent():
                self._refuse_properties(event)
                self._node(event)
            case SequenceEndEvent() | DocumentEndEvent():
                if isinstance(event, SequenceEndEvent):
                    self._close()
            case _ if type(event).__name__ == "MappingEndEvent":
                self._close()
            case _:
                pass

    def _refuse_properties(self, event: NodeEvent) -> None:
        if event.anchor is not None:
            raise _Unreadable(self._at(event), "an anchor (&name)", "write the value out where it is needed")
        if getattr(event, "ctag", None) is not None:
            raise _Unreadable(self._at(event), "a tag (!name)", "remove it")

    def _node(self, event: NodeEvent) -> None:
        at = self._at(event)
        match event:
            case ScalarEvent():
                plain = bool(event.implicit[0])
                self._add(Scalar(event.value, _kind(event.value) if plain else "text", at, inset=_inset(event)))
            case SequenceStartEvent():
                self._push(_OpenItems(at))
            case MappingStartEvent():
                self._push(_OpenFields(at))

    def _push(self, opened: "_OpenFields | _OpenItems") -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _Unreadable(opened.at, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(top := self._open[-1] if self._open else None, _OpenFields) and top.key is None:
            raise _Unreadable(opened.at, "a key that is a list or a mapping", "a key is a plain word")
        self._open.append(opened)

    def _close(self) -> None:
        self._add(self._open.pop().done())

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        top = self._open[-1]
        if isinstance(top, _OpenItems):
            top.items.append(node)
        elif top.key is None:
            self._take_key(top, node)
        else:
            key, top.key = top.key, None
            if isinstance(node, Scalar) and node.text == "" and node.kind == "null":
                node = Scalar("", "null", key.at)  # a value that is not there has no place of its own
            top.fields.setdefault(key.text, (key, node))

    def _take_key(self, top: "_OpenFields", node: Node) -> None:
        """A key: text, not seen before in this mapping; every duplicate is reported, the first is kept."""
        if not isinstance(node, Scalar) or node.kind != "text":
            shown = repr(node.text) if isinstance(node, Scalar) else "it"
            raise _Unreadable(node.at, f"a key that is not a word: {shown}", "quote it where it is meant as a name")
        if node.text == "<<":
            raise _Unreadable(node.at, "a merge key (<<)", "write the values out")
        if node.text in top.fields:
            first = top.fields[node.text][0].at.rpartition(":")[0].rpartition(":")[2]
            self._problems.append(Problem(node.at, f"duplicate key {node.text!r}", f"it is already on line {first}"))
        top.key = node


@dataclass(slots=True)
class _OpenItems:
    at: str
    items: list[Node]

    def __init__(self, at: str) -> None:
        self.at = at
        self.items = []

    def done(self) -> Node:
        return Items(tuple(self.items), self.at)


@dataclass(slots=True)
class _OpenFields:
    at: str
    fields: dict[str, tuple[Scalar, Node]]
    key: Scalar | None

    def __init__(self, at: str) -> None:
        self.at = at
        self.fields = {}
        self.key = None

    def done(self) -> Node:
        return Fields(self.fields, self.at)


def _inset(event: ScalarEvent) -> int | None:
    start, end = event.start_mark, event.end_mark
    quotes = 0 if event.style in {None, ""} else 1
    is_as_written = start.line == end.line and end.column - start.column == len(event.value) + 2 * quotes
    return quotes if is_as_written else None


def _kind(text: str) -> ScalarKind:
    """What a plain scalar is in the core schema (YAML 1.2.2, 10.3.2): `no`, `off` and `12:30` are text."""
    if text in _NULLS:
        return "null"
    if text in _BOOLEANS:
        return "boolean"
    if _INTEGER.fullmatch(text):
        return "integer"
    return "number" if _NUMBER.fullmatch(text) else "text"
