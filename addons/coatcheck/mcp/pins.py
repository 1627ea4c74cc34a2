"""Tool pins: a tool is what it was when it was first seen, until somebody accepts what it has become.

Law: what a model reads of a tool is pinned: name, title, description, schemas, annotations. What versions of the
protocol have and others leave out (`execution`, `icons`, `_meta`) is not, or a tool would change with its reader.
Law: of names that people could take for one another none is good; which of them is the true one is not guessed.
Law: a tool that is not listed keeps its pin.
"""

import difflib
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from coatcheck.mcp.call import Json
from coatcheck.mcp.inspect import MAX_NAME

PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
MAX_TEXT = 256 * 1024
"""Characters of a definition that are kept to show; the digest covers all of them."""
MAX_PINS = 10_000
"""Tools of one server; more are not shown and cannot be called."""
MAX_LINES = 2_000
"""Lines of a definition that are compared one by one."""

type Trouble = Literal["tool-changed", "tool-look-alike", "tool-not-pinned"]
type Event = Literal["first-seen", "changed", "as-pinned", "look-alike"]

_TWINS = str.maketrans(
    "асԁеһіјкӏмнорԛѕтуѵԝхвαβεηικμνορτυχγζϲϳıɡɑ‐‑‒–—−",
    "acdehijklmhopqstyvwxbabehikmvoptyxyzcjiga------",
)
"""Cyrillic, Greek and other letters, after case folding, that are drawn like a Latin one."""
_IGNORED = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks that draw nothing (Unicode Default_Ignorable_Code_Point), besides whole categories."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says of a tool: SHA-256 (hex) of its canonical JSON, and that, or "" where it is too long or not
    at hand.
    """

    digest: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """One tool of a server: how it was pinned, and what the server says of it now where that is something else.

    `approval` is the id of the question whether to accept `seen`.
    """

    server: str
    tool: str
    pinned: Definition
    seen: Definition | None = None
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """Something that was not so before, and the pin as it is with it."""

    event: Event
    pin: Pin


class Book:
    """The pins of one server, and which of them are in trouble."""

    def __init__(self, pins: Iterable[Pin] = ()) -> None:
        self.pins: dict[str, Pin] = {}
        self._alike: dict[str, set[str]] = {}
        self._troubled: dict[str, Trouble] = {}
        for pin in pins:
            self.put(pin)

    def put(self, pin: Pin) -> None:
        """Adds a pin, or takes its new state."""
        self.pins[pin.tool] = pin
        alike = likeness(pin.tool)
        names = self._alike.setdefault(alike, set())
        names.add(pin.tool)
        if len(names) > 1:
            self._troubled[alike] = "tool-look-alike"
        elif pin.seen is not None:
            self._troubled[alike] = "tool-changed"
        else:
            self._troubled.pop(alike, None)

    def trouble_with(self, tool: str) -> Trouble | None:
        """Why the tool of that name, or of one like it, is not what it seems; None where it is, or was never listed."""
        if self._troubled and (found := self._troubled.get(likeness(tool))) is not None:
            return found
        return "tool-not-pinned" if len(self.pins) >= MAX_PINS and tool not in self.pins else None

    def look(self, server: str, listed: Mapping[str, Sequence[Definition]]) -> list[Sight]:
        """Takes over what the server lists; returns what is new, in order."""
        sights: list[Sight] = []
        for tool, definitions in listed.items():
            pin = self.pins.get(tool)
            if pin is None:
                if len(self.pins) >= MAX_PINS:
                    continue
                pin = Pin(server, tool, definitions[0])
                self._note(sights, "first-seen", pin)
                alike = self._alike[likeness(tool)]
                sights += [Sight("look-alike", self.pins[name]) for name in sorted(alike) if len(alike) > 1]
            # of one name with several definitions any may be the one that is used
            other = next((each for each in definitions if each.digest != pin.pinned.digest), None)
            if (other and other.digest) != (pin.seen and pin.seen.digest):
                event: Event = "as-pinned" if other is None else "changed"
                self._note(sights, event, replace(pin, seen=other, approval=None))
        return sights

    def _note(self, sights: list[Sight], event: Event, pin: Pin) -> None:
        self.put(pin)
        sights.append(Sight(event, pin))


def define(tool: Mapping[str, Json]) -> Definition:
    """The definition of one entry of `tools/list`."""
    pinned = {member: tool[member] for member in PINNED if tool.get(member) is not None}
    text = json.dumps(pinned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Definition(digest, text if len(text) <= MAX_TEXT else "")


def definitions_of(tools: Json) -> dict[str, list[Definition]]:
    """The entries of a list's `tools` by name; what has no name, or none that can be called, is left out."""
    found: dict[str, list[Definition]] = {}
    for tool in tools if isinstance(tools, list) else ():
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(tool, dict) and isinstance(name, str) and 0 < len(name) <= MAX_NAME:
            found.setdefault(name, []).append(define(tool))
    return found


def likeness(name: str) -> str:
    """Equal for names that people could take for one another: by case, compatibility form (NFKC), letters of other
    alphabets, and characters that draw nothing.
    """
    if name.isascii() and name.isprintable() and " " not in name:
        return name.lower()
    before = None
    while name != before:  # each step may make something for another one
        before = name
        folded = unicodedata.normalize("NFKC", name).casefold().translate(_TWINS)
        name = unicodedata.normalize("NFKC", "".join(filter(_is_drawn, folded)))
    return name


def _is_drawn(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return unicodedata.category(character)[0] not in "CZ" and character not in _IGNORED and not is_selector


def digest_of_change(pin: Pin) -> str:
    """What an approval of the change is for: SHA-256 (hex) of server, tool and the definition to accept."""
    what = ["pin", pin.server, pin.tool, pin.seen.digest if pin.seen else None]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def difference(pinned: Json, seen: Json) -> str:
    """Two definitions compared line by line (unified diff); None for one that is too long to be kept."""
    if pinned is None or seen is None:
        return "the definition is too long to be shown"
    before, after = _lines(pinned), _lines(seen)
    if before == after:
        return "the change is in what a mask covers"
    if max(len(before), len(after)) > MAX_LINES:
        return "\n".join(["too long to compare; it is now:", *after])
    return "\n".join(difflib.unified_diff(before, after, "pinned", "now", lineterm="", n=1))


def _lines(definition: Json) -> list[str]:
    """Lines of JSON; the lines of a description are lines here too."""
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False).replace("\\n", "\\n\n").splitlines()
