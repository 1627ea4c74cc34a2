"""Reading README: its fenced blocks, and what the output it shows means.

In shown output `…` stands for anything within a line, or alone for any lines; runs of blanks count as one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORTS = ("8080", "8081", "8082", "8090", "9000")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """One `sh` block and the output shown directly after it, None where nothing is shown."""

    line: int
    commands: str
    shown: str | None


def blocks(text: str, language: str) -> Iterator[tuple[int, str, int]]:
    """Each block of this language: where it starts (in characters), its text, and where it ends."""
    for found in _BLOCK.finditer(text):
        if found[1] == language:
            yield found.start(), found[2], found.end()


def steps(text: str) -> list[Step]:
    """The `sh` blocks in order, each with the `text` block that follows at once."""
    out = []
    for start, commands, end in blocks(text, "sh"):
        following = _BLOCK.match(text, end)
        shown = following[2] if following is not None and following[1] == "text" else None
        out.append(Step(text.count("\n", 0, start) + 1, commands, shown))
    return out


def with_ports(text: str, ports: Mapping[str, int]) -> str:
    """The text with README's ports replaced by free ones."""
    return re.sub(rf"(?<=[ :])({'|'.join(PORTS)})\b", lambda found: str(ports[found[1]]), text)


def pattern_of(shown: str) -> re.Pattern[str]:
    """What the shown output means, over printed output made `plain`."""
    lines = []
    for line in plain(shown).splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(map(re.escape, line.split("…"))) + r"\n")
    return re.compile("".join(lines))


def plain(text: str) -> str:
    """The text without blank ends, and with runs of blanks as one."""
    return "".join(re.sub(r"[ \t]+", " ", line).strip() + "\n" for line in text.splitlines())
