"""The vault's rows in memory, sealed; a value is opened where it is used.

Law: a snapshot holds ciphertext; each `open` decrypts anew and keeps nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from coatcheck.errors import VaultError
from coatcheck.vault.bindings import Binding, bindings_digest
from coatcheck.vault.crypto import Sealed, Sealer, associated_data
from coatcheck.vault.secret import Secret


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be told about a secret's version. `fingerprint` is keyed, 16 hexadecimal digits."""

    name: str
    version: int
    placeholder: str
    bindings: tuple[Binding, ...]
    created_at: datetime
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Credential:
    """One opened version of a secret."""

    info: SecretInfo
    secret: Secret

    @property
    def name(self) -> str:
        """The secret's name."""
        return self.info.name

    @property
    def placeholder(self) -> str:
        """The harmless string that stands for it."""
        return self.info.placeholder

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Where it may go."""
        return self.info.bindings


@dataclass(frozen=True, slots=True)
class Row:
    """One active version as read: what may be told, and what is sealed."""

    info: SecretInfo
    sealed: Sealed


def sealed_facts(info: SecretInfo, vault_id: str) -> Mapping[str, str | int]:
    """What a version is sealed with: change one of these in the database and it does not open."""
    return {
        "vault": vault_id,
        "name": info.name,
        "version": info.version,
        "placeholder": info.placeholder,
        "bindings": bindings_digest(info.bindings),
    }


class Snapshot:
    """The active versions of all secrets at one generation. Immutable; safe to share between requests."""

    __slots__ = ("_bound", "_placeholders", "_prefix", "_rows", "_sealer", "generation")

    def __init__(self, rows: Iterable[Row], sealer: Sealer, vault_id: str, generation: int) -> None:
        self._sealer = sealer
        self._rows: dict[str, tuple[Row, bytes, bytes]] = {}
        for row in rows:
            facts = sealed_facts(row.info, vault_id)
            self._rows[row.info.name] = (row, associated_data("data-key", facts), associated_data("value", facts))
        self._placeholders = MappingProxyType(
            {row.info.placeholder.encode(): name for name, (row, _, _) in self._rows.items()}
        )
        self._prefix = _common_beginning(self._placeholders)
        self._bound: dict[str, dict[str, tuple[Binding, ...]]] = {}
        for name, (row, _, _) in self._rows.items():
            for binding in row.info.bindings:
                bound = self._bound.setdefault(binding.server, {})
                bound[name] = (*bound.get(name, ()), binding)
        self.generation = generation

    def names(self) -> frozenset[str]:
        """The names of all secrets."""
        return frozenset(self._rows)

    def info(self, name: str) -> SecretInfo | None:
        """What may be told about one secret's active version; None for an unknown name."""
        found = self._rows.get(name)
        return found[0].info if found else None

    def open(self, name: str) -> Credential:
        """Decrypts one secret (a few microseconds). Raises `KeyError` for an unknown name, `VaultError` else."""
        row, key_data, value_data = self._rows[name]
        try:
            secret = self._sealer.open_with(row.sealed, key_data, value_data)
        except VaultError as error:
            raise VaultError(f"secret {name!r} {error.problems[0].what}") from None
        return Credential(row.info, secret)

    def placeholders(self) -> Mapping[bytes, str]:
        """Each placeholder's bytes, and the name of the secret it stands for."""
        return self._placeholders

    def placeholders_in(self, text: bytes) -> dict[bytes, str]:
        """Those of `placeholders` that stand in some bytes. What all of them begin with is looked for first."""
        if self._prefix not in text:
            return {}
        return {placeholder: name for placeholder, name in self._placeholders.items() if placeholder in text}

    def may_be_in(self, lower: bytes) -> bool:
        """Whether some placeholder may stand in bytes of which the letters were made small."""
        return self._prefix.lower() in lower

    def bound_to(self, server: str) -> Mapping[str, tuple[Binding, ...]]:
        """The secrets that may go to one server, each with its bindings for it."""
        return self._bound.get(server, {})

    def __repr__(self) -> str:
        return f"Snapshot(generation={self.generation}, secrets={len(self._rows)})"


def _common_beginning(texts: Iterable[bytes]) -> bytes:
    """What all of them begin with: whatever the first and the last in order share, all between them do too."""
    ordered = sorted(texts)
    if not ordered:
        return b""
    first, last = ordered[0], ordered[-1]
    return next((first[:n] for n in range(len(first), 0, -1) if last.startswith(first[:n])), b"")
