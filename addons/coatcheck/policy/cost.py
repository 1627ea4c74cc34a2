"""How long a condition may run, told from its source and the values it is given.

Law: no arguments a caller can send make a condition hold the event loop; the work is bounded before it starts.

The CEL library loops in native code and cannot be interrupted. What costs there, as measured: each element of a
loop; each copy of a container that is named inside a loop (at every turn); each regular expression (compiled at
every use). `map` and `filter` copy what they have gathered at every step, so they are refused outright.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

BUDGET_MICROSECONDS = 20_000
MAX_SERIALISED = 64 * 1024
MAX_VALUES = 8_192
MAX_INTEGER = 2**53 - 1
"""Beyond it, servers and JSON libraries disagree on a number's value (RFC 8259 6), and so would a comparison."""

LOOPS = frozenset({"all", "exists", "exists_one", "existsOne"})
COPIES = frozenset({"map", "filter"})

_SEARCHES = frozenset({"contains", "startsWith", "endsWith", "size", "string", "bytes"})
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<text>[bB]?(?:[rR](?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|"[^"\n]*"|'[^'\n]*')
        |\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'''(?:\\[\s\S]|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<name>[A-Za-z_]\w*)
      | (?P<mark>\S)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is `text` (a string literal), `name` or `mark` (any other character)."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """One step of an expression: `depth` is how many loops run it again for each of their elements.

    `kind` is `loop`, `outer` (a variable's value, found by `path`), `bound` (a loop's element), `matches`, `search` or
    `compare`.
    """

    depth: int
    kind: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """An expression's steps, and by how much its own literals and `+` can make a list longer than any it is given."""

    terms: tuple[Term, ...]
    literal_items: int
    joins: int

    @property
    def loops(self) -> bool:
        """Whether it has a loop at all."""
        return any(term.kind == "loop" for term in self.terms)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is to look at: values in all, the longest container, the longest string (characters)."""

    values: int
    longest_container: int
    longest_text: int


class TooMuch(ValueError):
    """What a condition was given is more than it may look at; the text says which limit."""


def tokens(source: str) -> list[Token]:
    """The tokens of a CEL expression that is known to parse; comments and white space are left out."""
    return [
        Token(match.lastgroup or "mark", match.group()) for match in _TOKEN.finditer(source) if match["comment"] is None
    ]


def macros(found: list[Token]) -> list[int]:
    """Positions of the macro names: `.all(`, `.exists(` and so on."""
    return [
        at
        for at in range(1, len(found) - 1)
        if found[at].text in LOOPS | COPIES and found[at - 1].text == "." and found[at + 1].text == "("
    ]


def work_of(found: list[Token], variables: frozenset[str]) -> Work:
    """The steps of an expression; `variables` are the names that are not bound by its loops."""
    starts = {at + 1 for at in macros(found)}
    bound = {found[at + 1].text for at in starts if at + 1 < len(found)}
    open_brackets: list[bool] = []
    depth = 0
    terms: list[Term] = []
    for at, token in enumerate(found):
        if token.kind == "mark" and token.text in "([{":
            if at in starts:
                terms.append(Term(depth, "loop"))
            open_brackets.append(at in starts)
            depth += at in starts
        elif token.kind == "mark" and token.text in ")]}":
            depth -= open_brackets.pop() if open_brackets else False
        else:
            terms.extend(_step(found, at, depth, bound, variables))
    marks = [token.text for token in found if token.kind == "mark"]
    return Work(tuple(terms), marks.count(",") + 1, marks.count("+"))


def _step(found: list[Token], at: int, depth: int, bound: set[str], variables: frozenset[str]) -> Iterator[Term]:
    token = found[at]
    is_member = at > 0 and found[at - 1].text == "."
    if token.kind == "mark" and token.text in "+=<>":
        yield Term(depth, "search" if token.text == "+" else "compare")
    elif token.kind != "name":
        return
    elif is_member or token.text in _SEARCHES:
        if token.text == "matches":
            yield Term(depth, "matches")
        elif token.text in _SEARCHES:
            yield Term(depth, "search")
    elif token.text in bound:
        yield Term(depth, "bound")
    elif token.text in variables:
        yield Term(depth, "outer", tuple(_path(found, at)))


def _path(found: list[Token], at: int) -> Iterator[str]:
    """`args.items` of `args.items.size()`: the members named one after another, without a method's name."""
    yield found[at].text
    while at + 2 < len(found) and found[at + 1].text == "." and found[at + 2].kind == "name":
        at += 2
        if at + 1 < len(found) and found[at + 1].text == "(":
            return
        yield found[at].text


def microseconds(work: Work, extent: Extent, given: Mapping[str, object]) -> float:
    """About how long an expression takes at worst on these values (measured constants, rounded up)."""
    turns = float(max(extent.longest_container, work.literal_items) * (1 + work.joins))
    total = 0.0
    for term in work.terms:
        match term.kind:
            case "loop":
                total += turns ** (term.depth + 1) * 0.3
            case "outer":
                total += turns**term.depth * (0.2 + 0.15 * _values_at(given, term.path))
            case "bound":
                total += turns ** max(term.depth - 1, 0) * 0.15 * (turns + extent.values)
            case "matches":
                total += turns**term.depth * (300.0 + 0.02 * extent.longest_text)
            case "search":
                total += turns**term.depth * (0.1 + 0.0005 * extent.longest_text)
            case _:
                total += turns**term.depth * (0.1 + 0.00005 * extent.longest_text)
    return total


def _values_at(given: Mapping[str, object], path: tuple[str, ...]) -> int:
    """How many values a copy of what the path names would hold; 0 where there is nothing."""
    value: object = given
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return 0
        value = value[name]
    return _count(value)


def _count(value: object) -> int:
    values = 0
    left = [value]
    while left:
        item = left.pop()
        values += 1
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
    return values


def measure(value: object) -> Extent:
    """The extent of JSON-shaped arguments. Raises `TooMuch` over 64 KiB, over 8,192 values
    (member names count too), or for an integer past 2**53 - 1.

    The size is that of compact JSON at least, counted without making it.
    """
    container = text = values = size = 0
    left: list[object] = [value]
    while left:
        item = left.pop()
        values += 1
        if isinstance(item, str):
            text = max(text, len(item))
            size += 3 + (len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass")))
        elif isinstance(item, dict):
            container = max(container, len(item))
            left.extend(item.values())
            left.extend(item)
            size += 2
        elif isinstance(item, list | tuple):
            container = max(container, len(item))
            left.extend(item)
            size += 2
        else:
            if isinstance(item, int) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise TooMuch("a number it is given is past 2**53 - 1")
            size += 2
        if values + len(left) > MAX_VALUES or size > MAX_SERIALISED:
            raise TooMuch(f"the arguments are over {MAX_SERIALISED // 1024} KiB or {MAX_VALUES:,} values")
    return Extent(values, container, text)
