"""Families of names: which recorded names one glob may stand for.

Law: a family's glob matches every one of its names and none that was not allowed; a family has one glob, and at least
`MINIMUM` names were seen of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from coatcheck.policy.asked import Aspect
from coatcheck.policy.globs import denies_name, denies_path, denies_uri, matches, matches_path, matches_uri
from coatcheck.policy.model import HttpPattern
from coatcheck.policy.read_patterns import PATTERN_READERS, read_http_pattern
from coatcheck.policy.shape import Findings
from coatcheck.policy.source import Scalar

MINIMUM = 3

_WORD = re.compile(r"([A-Za-z0-9]+[_.-])[A-Za-z0-9_.-]+")
_LAST_SEGMENT = re.compile(r"(.+[^/ ]/)[^/?#]+")


def families(aspect: Aspect, names: Sequence[str], others: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Glob to the allowed `names` it stands for; no glob touches any of `others`, however a deny might read it."""
    found: dict[str, list[str]] = {}
    for name in names:
        glob = _glob(aspect, name)
        if glob is not None and _MATCHES[aspect](glob, name):
            found.setdefault(glob, []).append(name)
    return {
        glob: tuple(members)
        for glob, members in found.items()
        if len(members) >= MINIMUM
        and is_expressible(aspect, glob, as_glob=True)
        and not any(_TOUCHES[aspect](glob, other) for other in others)
    }


def is_expressible(aspect: Aspect, name: str, *, as_glob: bool = False) -> bool:
    """Whether a rule's pattern can be exactly this name: the loader takes it, and no sign in it is a wildcard."""
    if not as_glob and "*" in name:
        return False
    findings = Findings()
    node = Scalar(name, "text", "")
    read = read_http_pattern if aspect == "http" else PATTERN_READERS[aspect]
    pattern = read(node, findings)
    return pattern is not None and not findings.problems and (as_glob or _MATCHES[aspect](name, name))


def _glob(aspect: Aspect, name: str) -> str | None:
    """`get_*` for a tool or prompt, the folder (never the root) for a resource or path; methods have no families."""
    if aspect == "methods":
        return None
    found = (_WORD if aspect in {"tools", "prompts"} else _LAST_SEGMENT).fullmatch(name)
    return f"{found[1]}*" if found is not None else None


def _http(match: Callable[[HttpPattern, str, str], bool]) -> Callable[[str, str], bool]:
    def matches_text(pattern: str, name: str) -> bool:
        wanted, path = pattern.split(" ", 1)
        method, _, asked = name.partition(" ")
        return match(HttpPattern(wanted, path), method, asked)

    return matches_text


def _same(pattern: str, name: str) -> bool:
    return pattern == name


_MATCHES: Mapping[Aspect, Callable[[str, str], bool]] = MappingProxyType(
    {"tools": matches, "prompts": matches, "resources": matches_uri, "methods": _same, "http": _http(matches_path)}
)
_TOUCHES: Mapping[Aspect, Callable[[str, str], bool]] = MappingProxyType(
    {
        "tools": denies_name,
        "prompts": denies_name,
        "resources": denies_uri,
        "methods": _same,
        "http": _http(denies_path),
    }
)
