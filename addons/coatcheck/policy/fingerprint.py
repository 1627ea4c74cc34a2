"""What a policy's files hold now, to see that they changed, and that they stopped changing.

Law: two fingerprints are equal only where a load would read the same bytes at the same paths.
Law: a path that was no link when the gateway started and is one now is not followed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coatcheck.errors import PolicyError
from coatcheck.policy.files import policy_files, read_bytes
from coatcheck.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Stamp:
    """One file: where it lies, inode, size in bytes, modified and changed (ns), SHA-256. All but `path` are None
    where it cannot be read.
    """

    path: Path
    inode: int | None = None
    size: int | None = None
    modified: int | None = None
    changed: int | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Every file of a policy, in the order of names. Empty where there is no policy at the path."""

    files: tuple[Stamp, ...] = ()


def links_in(path: Path) -> frozenset[Path]:
    """Those parts of an absolute path that are symbolic links."""
    return frozenset(part for part in (path, *path.parents) if part.is_symlink())


def files_read(policy: Policy) -> frozenset[Path]:
    """What was read when `policy` was loaded: its files, included ones too, and the certificates of SAML issuers."""
    trusts = [spec.saml for spec in policy.issuers.values() if spec.saml is not None]
    return frozenset((*policy.files, *(trust.file for trust in trusts if trust.file is not None)))


def fingerprint(path: Path, known: Iterable[Path]) -> Fingerprint:
    """Of the policy in `path` (a file or a folder) and the files `known` to belong to it. Blocks on the disk."""
    try:
        files = {*policy_files(path), *known}
    except (PolicyError, OSError):
        return Fingerprint()
    return Fingerprint(tuple(_stamp(file) for file in sorted(files)))


def _stamp(file: Path) -> Stamp:
    try:
        data, found = read_bytes(file), file.stat()
    except (PolicyError, OSError):
        return Stamp(file)
    digest = hashlib.sha256(data).digest()
    return Stamp(file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, digest)
