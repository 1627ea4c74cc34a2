"""The files of a policy, in the order they are read: a folder's by name, each followed by what it includes.

Law: each file is read once; a file is never taken from outside the policy's folder, by no path and no link.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coatcheck.errors import PolicyError, Problem
from coatcheck.policy.shape import Findings, read_items, read_text
from coatcheck.policy.source import MAX_BYTES, Fields, Node, read_source

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_FILES = 256


@dataclass(frozen=True, slots=True)
class Source:
    """One file as read: `fields` is None where it cannot be read, and `fault` says why."""

    path: Path
    data: bytes
    fields: Fields | None
    fault: Problem | None = None


def is_test_file(path: Path) -> bool:
    """Whether it holds a policy's tests, by its name: `*.test.yaml`, not hidden."""
    return path.name[:1] != "." and path.suffix in SUFFIXES and path.stem.endswith(".test")


def policy_files(path: Path) -> list[Path]:
    """The files of a policy, by name, without those they include. Raises `PolicyError` where there are none."""
    if path.is_file():
        return [path]
    try:
        names = sorted(entry for entry in path.iterdir() if _is_policy_file(entry))
    except OSError as error:
        raise PolicyError(f"cannot read the policy: {error.strerror}", where=str(path)) from error
    if not names:
        raise PolicyError("no policy files here", where=str(path), hint="a policy is *.yaml; start with: coatcheck: 1")
    return names


def read_files(path: Path, findings: Findings) -> list[Source]:
    """Every file of the policy in `path`, with what they include. Problems are added to `findings`.

    Raises `PolicyError` where there are no files, or one cannot be read at all.
    """
    roots = policy_files(path)
    reader = _Reader(path if path.is_dir() else path.parent, roots, findings)
    return [source for root in roots for source in reader.read(root, ())]


def read_bytes(file: Path) -> bytes:
    """At most one byte more than a policy may have; only regular files, so that no pipe can keep us waiting."""
    try:
        if not file.is_file():
            raise PolicyError("not a file", where=str(file))
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"cannot read the file: {error.strerror}", where=str(file)) from error


def _is_policy_file(path: Path) -> bool:
    return path.name[0] != "." and path.suffix in SUFFIXES and not is_test_file(path)


class _Reader:
    """Reads files and follows their includes, depth first."""

    def __init__(self, folder: Path, roots: list[Path], findings: Findings) -> None:
        self._folder = folder.resolve()
        self._findings = findings
        self._seen = {root.resolve(): "by its folder" for root in roots}

    def read(self, file: Path, chain: tuple[Path, ...]) -> Iterator[Source]:
        """The file, then what it includes; `chain` are the resolved files it is included from."""
        data = read_bytes(file)
        fields, problems = read_source(data, str(file))
        self._findings.problems.extend(problems)
        yield Source(file, data, fields, problems[0] if fields is None else None)
        if fields is None or "include" not in fields.fields:
            return
        chain = (*chain, file.resolve())
        node = fields.fields["include"][1]
        for included in read_items(node, self._findings, self._reader_for(file, chain), what="include"):
            yield from self.read(included, chain)

    def _reader_for(self, file: Path, chain: tuple[Path, ...]) -> "_IncludeReader":
        return _IncludeReader(file, chain, self._folder, self._seen)


@dataclass(frozen=True, slots=True)
class _IncludeReader:
    """Reads one item of `include`: a path relative to its file."""

    file: Path
    chain: tuple[Path, ...]
    folder: Path
    seen: dict[Path, str]

    def __call__(self, node: Node, findings: Findings) -> Path | None:
        text = read_text(node, findings, what="include")
        if text is None:
            return None
        path = self.file.parent / text
        try:
            target = path.resolve()
            problem = self._fault(text, target)
        except (OSError, ValueError, RuntimeError):
            problem = f"no such file: {text}", "paths are relative to the file they stand in"
        if problem is not None:
            findings.report(node.at, f"include: {problem[0]}", problem[1])
            return None
        self.seen[target] = f"by {node.at}"
        return path

    def _fault(self, text: str, target: Path) -> tuple[str, str] | None:
        if Path(text).is_absolute() or not target.is_relative_to(self.folder):
            return f"{text} is outside the policy's folder", f"a policy's files are under {self.folder}"
        if target in self.chain:
            names = " → ".join(file.name for file in (*self.chain[self.chain.index(target) :], target))
            return f"a cycle: {names}", "remove one of the includes"
        if target in self.seen:
            return f"{text} is read already, {self.seen[target]}", "remove this include"
        if not target.is_file():
            return f"no such file: {text}", "paths are relative to the file they stand in"
        if not _is_policy_file(target):
            return f"{text} is not a policy file", "policy files are *.yaml, and not *.test.yaml"
        if len(self.seen) >= MAX_FILES:
            return f"more than {MAX_FILES} files", "put sections together"
        return None
