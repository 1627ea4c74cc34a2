"""The vault: secrets by name, each with versions and bindings, sealed in a database.

Law: a change is one transaction and one new generation; readers see all of it or none of it.
Law: the placeholder outlives a version, so callers need not change when a value does.
Limit: whoever can write the database can still put an old version back, unseen; the journal names secrets, no versions.
"""

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Self

from sqlalchemy import Connection, Engine, RowMapping, func, insert, inspect, select, update

from coatcheck.errors import VaultError
from coatcheck.vault.bindings import Binding, bindings_text, parse_bindings
from coatcheck.vault.crypto import FORMAT, Sealed, Sealer, fingerprint, opens_sentinel, seal_sentinel
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, Row, SecretInfo, Snapshot, sealed_facts
from coatcheck.vault.tables import METADATA, SECRETS, VAULT, VERSIONS, transaction

__all__ = ["Credential", "SecretInfo", "Snapshot", "Vault", "default_placeholder"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PLACEHOLDER = re.compile(r"[A-Za-z0-9._~-]{8,200}")
"""RFC 3986 unreserved characters: the same bytes in a header, a URL, a form and JSON."""

SHORTEST_VALUE = 8
LONGEST_VALUE = 16 * 1024
type Infos = list[SecretInfo]

CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def default_placeholder(name: str) -> str:
    """`coat_` and the name with `-` as `_`."""
    return "coat_" + name.replace("-", "_")


class Vault:
    """The secrets of one gateway, or of several that share a database."""

    def __init__(self, engine: Engine, key: MasterKey, vault_id: str) -> None:
        self._engine = engine
        self._vault_id = vault_id
        self._sealer = Sealer(key.derive("kek"))
        self._fingerprint_key = key.derive("fingerprint")

    @classmethod
    def create(cls, engine: Engine, key: MasterKey) -> Self:
        """Makes the vault; keeps one that exists under the same key. Raises `VaultError` for another key."""
        with transaction(engine) as connection:
            METADATA.create_all(connection)
            if connection.execute(select(VAULT.c.id)).first() is None:
                vault_id = secrets.token_hex(16)
                row = {
                    "id": 1,
                    "format": FORMAT,
                    "vault_id": vault_id,
                    "key_id": _key_id(key),
                    "sentinel": seal_sentinel(key.derive("sentinel"), vault_id),
                    "generation": 0,
                }
                connection.execute(insert(VAULT).values(row))
        return cls.open(engine, key)

    @classmethod
    def open(cls, engine: Engine, key: MasterKey) -> Self:
        """Opens a vault. Raises `VaultError`: `no vault`, `wrong master key`, or what is damaged."""
        with transaction(engine) as connection:
            row = None
            if inspect(connection).has_table(VAULT.name):
                row = connection.execute(select(VAULT)).one_or_none()
        if row is None:
            raise VaultError("no vault", hint="make it with: coatcheck vault init")
        if row.format != FORMAT:
            raise VaultError(f"the vault's format {row.format} is not known", hint="use the coatcheck that made it")
        if row.key_id != _key_id(key):
            raise VaultError("wrong master key", hint="give the key the vault was made with")
        if not opens_sentinel(key.derive("sentinel"), row.vault_id, row.sentinel):
            raise VaultError("the vault is damaged", hint="restore the database from a copy")
        return cls(engine, key, row.vault_id)

    def set(
        self,
        name: str,
        value: Secret,
        bindings: Sequence[Binding],
        *,
        now: datetime,
        placeholder: str | None = None,
        unsafe_short: bool = False,
    ) -> SecretInfo:
        """Stores a new version and makes it the active one, in one transaction. Raises `VaultError`.

        Without `placeholder` the secret keeps the one it has; a new one gets `default_placeholder`. `now` is UTC.
        `unsafe_short` lets a value under 8 bytes in: it can only be scrubbed as it is, and may mask innocent text.
        """
        _check(name, value, bindings, unsafe_short=unsafe_short)
        if now.tzinfo is None:
            raise ValueError("now is timezone-aware")
        with transaction(self._engine) as connection:
            # First of all, so that writers queue here: SQLite's write lock, PostgreSQL's row lock.
            connection.execute(update(VAULT).values(generation=VAULT.c.generation + 1))
            known = connection.execute(select(SECRETS.c.placeholder).where(SECRETS.c.name == name)).scalar()
            info = SecretInfo(
                name=name,
                version=_next_version(connection, name),
                placeholder=_free_placeholder(connection, name, placeholder or known or default_placeholder(name)),
                bindings=tuple(bindings),
                created_at=now.astimezone(UTC),
                fingerprint=fingerprint(self._fingerprint_key, value),
            )
            self._write(connection, info, self._sealer.seal(value, sealed_facts(info, self._vault_id)))
        return info

    @property
    def id(self) -> str:
        """Names this vault: random, and the same for its life."""
        return self._vault_id

    def list(self) -> Infos:
        """The active version of every secret, by name."""
        return [row.info for row in self._rows()[0]]

    def snapshot(self) -> Snapshot:
        """All active versions, sealed, read at once. Blocks on the database: call it off the event loop."""
        rows, generation = self._rows()
        return Snapshot(rows, self._sealer, self._vault_id, generation)

    def generation(self) -> int:
        """Grows with every change: a snapshot of the same generation is up to date."""
        with transaction(self._engine) as connection:
            return _generation(connection)

    def _rows(self) -> tuple[Sequence[Row], int]:
        """One statement reads the rows; the generation before them can only be older, so nothing is missed."""
        active = (SECRETS.c.name == VERSIONS.c.name) & (SECRETS.c.active_version == VERSIONS.c.version)
        query = select(SECRETS.c.name, SECRETS.c.placeholder, *VERSIONS.c[1:]).outerjoin_from(SECRETS, VERSIONS, active)
        with transaction(self._engine) as connection:
            generation = _generation(connection)
            try:
                found = connection.execute(query.order_by(SECRETS.c.name)).mappings().all()
            except (TypeError, ValueError):  # a column of a type the vault never wrote
                raise VaultError("the vault is damaged", hint="restore the database from a copy") from None
        return [_row(row) for row in found], generation

    @staticmethod
    def _write(connection: Connection, info: SecretInfo, sealed: Sealed) -> None:
        active = {"active_version": info.version, "placeholder": info.placeholder}
        if connection.execute(update(SECRETS).where(SECRETS.c.name == info.name).values(active)).rowcount == 0:
            connection.execute(insert(SECRETS).values(name=info.name, **active))
        connection.execute(
            insert(VERSIONS).values(
                name=info.name,
                version=info.version,
                bindings=bindings_text(info.bindings),
                wrapped_key=sealed.wrapped_key,
                value=sealed.value,
                fingerprint=info.fingerprint,
                created_at=info.created_at,
            )
        )


def _row(row: RowMapping) -> Row:
    name: str = row["name"]
    try:
        places = parse_bindings(row["bindings"])
    except (ValueError, TypeError):  # not JSON, not bindings, or the active version's row is gone
        raise VaultError(f"secret {name!r} is damaged", hint="restore the database from a copy") from None
    # SQLite gives naive datetimes back; they were stored in UTC.
    at: datetime = row["created_at"]
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    info = SecretInfo(name, row["version"], row["placeholder"], places, at, row["fingerprint"])
    return Row(info, Sealed(row["wrapped_key"], row["value"]))


def _key_id(key: MasterKey) -> str:
    return key.derive("key-id")[:8].hex()


def _generation(connection: Connection) -> int:
    generation: int | None = connection.execute(select(VAULT.c.generation)).scalar()
    if generation is None:
        raise VaultError("no vault", hint="make it with: coatcheck vault init")
    return generation


def _next_version(connection: Connection, name: str) -> int:
    newest: int | None = connection.execute(
        select(func.max(VERSIONS.c.version)).where(VERSIONS.c.name == name)
    ).scalar()
    return (newest or 0) + 1


def _free_placeholder(connection: Connection, name: str, placeholder: str) -> str:
    """The placeholder itself, where no other secret's is equal to it, part of it, or has it as a part."""
    hint = "choose one with --placeholder"
    if not PLACEHOLDER.fullmatch(placeholder):
        what = f"the placeholder {placeholder!r} is not 8 to 200 letters, digits, '-', '.', '_' or '~'"
        raise VaultError(what, hint=hint)
    others = select(SECRETS.c.name, SECRETS.c.placeholder).where(SECRETS.c.name != name)
    for other, taken in connection.execute(others):
        if placeholder in taken or taken in placeholder:
            what = f"the placeholder {placeholder!r} cannot be told from {taken!r} of secret {other!r}"
            raise VaultError(what, hint=hint)
    return placeholder


def _check(name: str, value: Secret, bindings: Sequence[Binding], *, unsafe_short: bool) -> None:
    """What no secret may be. Says what is wrong with a value, never the value."""
    if not NAME.fullmatch(name):
        raise VaultError(f"not a secret's name: {name!r}", hint="letters, digits, '-', '_' and '.', 100 at most")
    if not bindings:
        raise VaultError(f"secret {name!r} is bound to no server", hint="say where it may go with --server")
    for one, other in combinations(bindings, 2):
        if one.overlaps(other):
            raise VaultError(f"secret {name!r} has two bindings for server {one.server!r} and the same caller")
    size = len(value)
    if size == 0 or (size < SHORTEST_VALUE and not unsafe_short):
        hint = f"fewer than {SHORTEST_VALUE} bytes cannot be scrubbed safely; --unsafe-short takes them all the same"
        raise VaultError(f"the value of {name!r} is too short", hint=hint if size else None)
    if size > LONGEST_VALUE:
        raise VaultError(f"the value of {name!r} is longer than {LONGEST_VALUE} bytes")
    plain = value.reveal()
    if any(binding.header is not None for binding in bindings) and CONTROL.search(plain):
        hint = "a line end at the end is often a copying mistake"
        raise VaultError(f"the value of {name!r} has control characters, which no header takes", hint=hint)
    if any(binding.pointer is not None for binding in bindings) and not _is_text(plain):
        raise VaultError(f"the value of {name!r} is not UTF-8, which a JSON body needs")


def _is_text(plain: bytes) -> bool:
    try:
        plain.decode()
    except UnicodeDecodeError:
        return False
    return True
