"""How long a condition may run, told from its source and the values it is given.

Law: no arguments a caller can send make a condition hold the event loop; the work is bounded before it starts.

The CEL library loops in native code and cannot be interrupted; it stops by itself after 10,000 turns of all loops.
What costs there, as measured: each turn of a loop; each look at all of a container that is named inside a loop
(`in`, `==`, `+`, at every turn); each look at all of a text; each regular expression (compiled at every use). `map` and
`filter` gather what they make, so they are refused outright.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coatcheck.policy import regex
from coatcheck.policy.expressions import literal_text

BUDGET_MICROSECONDS = 20_000
MAX_SERIALISED = 64 * 1024
MAX_VALUES = 8_192
MAX_LEVELS = 128
MAX_TURNS = 10_000.0
MAX_INTEGER = 2**53 - 1
"""Beyond it, servers and JSON libraries disagree on a number's value (RFC 8259 6), and so would a comparison."""

LOOPS = frozenset({"all", "exists", "exists_one", "existsOne"})
COPIES = frozenset({"map", "filter"})

_SEARCHES = frozenset({"contains", "startsWith", "endsWith", "size", "string", "bytes"})
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<text>[bB]?(?:[rR](?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|"[^"\n]*"|'[^'\n]*')
        |\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'''(?:\\[\s\S]|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<quoted>`[^`\n]*`)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<mark>\S)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is `text` (a string literal), `name`, `quoted` (a member in backticks) or `mark` (any other
    character).
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """One step of an expression: `depth` is how many loops run it again for each of their elements.

    `kind` is `loop`, `outer` (a variable's value, found by `path`), `bound` (a loop's element), `matches`, `search` or
    `compare`. `steps` is the size of a regular expression.
    """

    depth: int
    kind: str
    path: tuple[str, ...] = ()
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """An expression's steps, and by how much its own literals and `+` can make a list longer than any it is given."""

    terms: tuple[Term, ...]
    literal_items: int
    joins: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is to look at: values in all, the longest container, the longest string (bytes of UTF-8)."""

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
            literal = found[at + 2].text if at + 2 < len(found) and found[at + 2].kind == "text" else "''"
            yield Term(depth, "matches", steps=regex.steps(literal_text(literal)))
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

    def times(depth: int) -> float:
        return min(turns**depth, MAX_TURNS)

    for term in work.terms:
        match term.kind:
            case "loop":
                total += times(term.depth + 1) * 0.5
            case "outer":
                total += times(term.depth) * (0.5 + 0.1 * _values_at(given, term.path))
            case "bound":
                each = 0.3 * turns + 0.1 * extent.values  # a loop's elements are together no more than all values
                total += min(times(max(term.depth - 1, 0)) * each, MAX_TURNS * (0.3 + 0.1 * extent.values))
            case "matches":
                total += times(term.depth) * regex.microseconds(term.steps, extent.longest_text)
            case "search":
                total += times(term.depth) * (0.2 + 0.0015 * extent.longest_text)
            case _:
                total += times(term.depth) * (0.2 + 0.00005 * extent.longest_text)
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
    """The extent of JSON-shaped arguments. Raises `TooMuch` over 64 KiB, over 8,192 values (member names count too),
    over 128 levels, for an integer past 2**53 - 1, and for text that is no Unicode.

    The size is that of compact JSON at least, counted without making it.
    """
    container = text = values = size = levels = 0
    level: list[object] = [value]
    while level:
        levels += 1
        below: list[object] = []
        for item in level:
            values += 1
            if isinstance(item, str):
                length = _bytes_in(item)
                text = max(text, length)
                size += 3 + length
            elif isinstance(item, dict | list | tuple):
                container = max(container, len(item))
                below.extend(item.values() if isinstance(item, dict) else item)
                below.extend(item if isinstance(item, dict) else ())
                size += 2
            else:
                if isinstance(item, int) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                    raise TooMuch("a number it is given is past 2**53 - 1")
                size += 2
            if values + len(below) > MAX_VALUES or size > MAX_SERIALISED:
                raise TooMuch(f"the arguments are over {MAX_SERIALISED // 1024} KiB or {MAX_VALUES:,} values")
        if levels > MAX_LEVELS:
            raise TooMuch(f"the arguments are nested deeper than {MAX_LEVELS} levels")
        level = below
    return Extent(values, container, text)


def _bytes_in(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise TooMuch("a text it is given is no Unicode") from None
