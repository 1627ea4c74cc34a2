"""Where a field is: the part of JSONPath (RFC 9535) that names fields.

Law: a path that cannot be followed exactly is refused, with what would be understood instead.
`$.a.b`, `$..name`, `$.rows[*].ssn`, `$['quoted name']`, `$.rows[0]`; no filters, slices, unions or negative indexes.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """One step. `name` or `index`, or neither: a wildcard. `descends`: at any depth below, not just one step."""

    name: str | None = None
    index: int | None = None
    descends: bool = False

    @property
    def is_wildcard(self) -> bool:
        """Whether it takes every member and element."""
        return self.name is None and self.index is None


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A parsed path; `text` as it was written."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def first_name(self) -> str | None:
        """The member name without which the path leads nowhere; None where it begins with no name."""
        return self.segments[0].name if self.segments else None


_STEP = re.compile(
    r"""
      (?P<dots>\.\.?)(?P<name>[^\W\d][\w]*|\*)
    | (?P<deep>\.\.)?\[\s*(?:
          (?P<star>\*) | (?P<index>0|[1-9][0-9]{0,8})
        | '(?P<single>(?:[^'\\]|\\[bfnrt/\\'"]|\\u[0-9a-fA-F]{4})*)'
        | "(?P<double>(?:[^"\\]|\\[bfnrt/\\'"]|\\u[0-9a-fA-F]{4})*)"
      )\s*\]
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def parse_path(text: str) -> FieldPath:
    """The path in `text`. Raises `ValueError` with where and what was not understood."""
    if not text.startswith("$"):
        raise ValueError(f"a path begins with '$': $.{text.lstrip('.') or 'name'}")
    segments = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise ValueError(f"{_fault(text, at)} at character {at + 1} of {text!r}")
        segments.append(_segment(step))
        at = step.end()
    return FieldPath(text, tuple(segments))


def _segment(step: re.Match[str]) -> Segment:
    descends = step["dots"] == ".." or step["deep"] is not None
    if step["index"] is not None:
        return Segment(index=int(step["index"]), descends=descends)
    quoted = step["single"] if step["single"] is not None else step["double"]
    if quoted is not None:
        return Segment(name=_unquoted(quoted), descends=descends)
    name = step["name"]
    return Segment(name=None if name in (None, "*") else name, descends=descends)


def _unquoted(text: str) -> str:
    """A quoted name with its escapes read; an escaped surrogate pair is one character, as in JSON."""
    name = _ESCAPE.sub(_unescaped, text).encode("utf-16-le", "surrogatepass")
    try:
        return name.decode("utf-16-le")
    except UnicodeDecodeError:
        raise ValueError("a quoted name holds half of a surrogate pair") from None


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    return _SHORT_ESCAPES.get(escape[2], escape[2])


def _fault(text: str, at: int) -> str:
    """What is wrong at `at`, in words."""
    rest = text[at:]
    if rest.startswith(("[?", "..[?")):
        return "filters are not supported"
    if re.match(r"(?:\.\.)?\[\s*-?[0-9]*\s*:", rest):
        return "slices are not supported, use [*]"
    if re.match(r"(?:\.\.)?\[\s*-", rest):
        return "negative indexes are not supported"
    if rest.startswith("["):
        return "expected [*], [0] or ['name']"
    if rest.startswith("."):
        return "expected a name or '*' after the dot (quote unusual names: ['first-name'])"
    return f"unexpected {rest[0]!r} (quote unusual names: ['first-name'])"
