"""What the readers of the sections share: where entries stand, and which names are declared.

Law: a name counts as declared even where its entry is wrong, so that one mistake is reported once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coatcheck.policy.shape import Findings, suggest
from coatcheck.policy.source import Node


@dataclass(frozen=True, slots=True)
class Entry:
    """One named entry of a section, or one item of a list (then `name` is empty). `folder` holds its file."""

    name: str
    at: str
    node: Node
    folder: Path


@dataclass(slots=True)
class Sections:
    """The sections of all files, merged. Problems are added to `findings` as entries are read."""

    findings: Findings
    gateway: Entry | None = None
    issuers: dict[str, Entry] = field(default_factory=dict)
    identities: dict[str, Entry] = field(default_factory=dict)
    reviewers: dict[str, Entry] = field(default_factory=dict)
    servers: dict[str, Entry] = field(default_factory=dict)
    rules: list[Entry] = field(default_factory=list)
    masks: list[Entry] = field(default_factory=list)
    secrets: Collection[str] | None = None

    def is_known(self, name: str, declared: Collection[str] | Mapping[str, object], at: str, *, what: str) -> bool:
        """Whether `name` is declared; reports it where it is not (`unknown server 'shpo'`)."""
        if name in declared:
            return True
        self.findings.report(at, f"unknown {what} {name!r}", suggest(name, declared) or f"no {what} is declared")
        return False
