"""Session tokens that were given out, in the database: SQLite or PostgreSQL, through SQLAlchemy Core.

Law: a revocation is durable before it is told, and no row of it is deleted while its token could still be shown.
Law: what a running gateway must notice raises the generation, in the same transaction.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, func, insert, select, update

from coatcheck.errors import TOO_MANY, Refusal
from coatcheck.identity.session_tables import CHANGES, KEYS, TOKENS, create_tables, transaction
from coatcheck.mcp.call import Json
from coatcheck.vault.crypto import Sealed

KEEP_SECONDS = 24 * 3600
"""How long an expired token is still listed."""
MAX_LIVE = 10_000
"""Unexpired session tokens of one identity."""

type State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What may be told about one session token. Times are whole seconds since 1970.

    `issuer`, `subject` and `token_id` are those of the token it was exchanged for, `run` the claims that tell the run.
    """

    jti: str
    identity: str
    issuer: str
    subject: str
    token_id: str
    run: dict[str, Json]
    issued_at: int
    expires_at: int
    revoked_at: int | None = None

    def state(self, *, now: datetime) -> State:
        """A revoked token stays revoked, also once it has expired."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now.timestamp() else "active"


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A signing key as stored."""

    kid: str
    created_at: int
    sealed: Sealed


class SessionStore:
    """The session tokens of one database. Synchronous: call it off the event loop.

    Every method raises `StateError` where the database fails.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create_tables(engine)

    def generation(self) -> int:
        """Grows with everything that a running gateway must notice."""
        with transaction(self._engine) as connection:
            return int(connection.execute(select(CHANGES.c.generation)).scalar_one())

    # -- tokens ------------------------------------------------------------------------------------------------

    def add(self, token: IssuedToken, claims: Sealed, *, now: datetime, limit: int = MAX_LIVE) -> None:
        """Stores a token before it is given out, and forgets those that are long expired.

        Raises `Refusal` (429 `too-many-tokens`) where its identity has `limit` that are not expired.
        """
        present = int(now.timestamp())
        with transaction(self._engine) as connection:
            connection.execute(delete(TOKENS).where(TOKENS.c.expires_at <= present - KEEP_SECONDS))
            live = (TOKENS.c.identity == token.identity) & (TOKENS.c.expires_at > present)
            if (connection.execute(select(func.count()).select_from(TOKENS).where(live)).scalar() or 0) >= limit:
                what = f"{token.identity} has {limit} session tokens that are not expired"
                raise Refusal("too-many-tokens", what, status=429, code=TOO_MANY, retryable=True)
            connection.execute(
                insert(TOKENS).values(
                    jti=token.jti,
                    identity=token.identity,
                    issuer=token.issuer,
                    subject=token.subject,
                    token_id=token.token_id,
                    run=json.dumps(token.run, sort_keys=True),
                    issued_at=token.issued_at,
                    expires_at=token.expires_at,
                    wrapped_key=claims.wrapped_key,
                    claims=claims.value,
                )
            )

    def find(self, jti: str) -> tuple[IssuedToken, Sealed] | None:
        """One token and its sealed claims; None where there is none of that id."""
        with transaction(self._engine) as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.jti == jti)).one_or_none()
        return None if row is None else (_issued(row), Sealed(row.wrapped_key, row.claims))

    def list(self, *, identity: str | None = None) -> Sequence[IssuedToken]:
        """All tokens, of one identity where it is given, the newest first."""
        query = select(TOKENS).order_by(TOKENS.c.issued_at.desc(), TOKENS.c.jti)
        with transaction(self._engine) as connection:
            rows = connection.execute(query if identity is None else query.where(TOKENS.c.identity == identity)).all()
        return [_issued(row) for row in rows]

    def revoke(self, *, jti: str, now: datetime) -> Sequence[IssuedToken]:
        """Takes back one token; the ones that were not revoked before, as they now are."""
        return self._revoke(TOKENS.c.jti == jti, now)

    def revoke_all(self, *, identity: str, now: datetime) -> Sequence[IssuedToken]:
        """Takes back every token of an identity that is not expired."""
        return self._revoke((TOKENS.c.identity == identity) & (TOKENS.c.expires_at > int(now.timestamp())), now)

    def _revoke(self, which: ColumnElement[bool], now: datetime) -> Sequence[IssuedToken]:
        change = update(TOKENS).where(which, TOKENS.c.revoked_at.is_(None)).values(revoked_at=int(now.timestamp()))
        with transaction(self._engine) as connection:
            rows = connection.execute(change.returning(TOKENS)).all()
            if rows:
                _raise_generation(connection)
        return [_issued(row) for row in rows]

    def unjournaled(self) -> Sequence[IssuedToken]:
        """Revoked tokens whose revocation is in no journal yet: the command line has none to write to."""
        is_due = TOKENS.c.revoked_at.is_not(None) & TOKENS.c.journaled_at.is_(None)
        with transaction(self._engine) as connection:
            return [_issued(row) for row in connection.execute(select(TOKENS).where(is_due)).all()]

    def set_journaled(self, jtis: Collection[str], *, now: datetime) -> None:
        """Their revocations are in the journal."""
        with transaction(self._engine) as connection:
            done = update(TOKENS).where(TOKENS.c.jti.in_(list(jtis)))
            connection.execute(done.values(journaled_at=int(now.timestamp())))

    # -- keys --------------------------------------------------------------------------------------------------

    def signing_keys(self) -> Sequence[SealedKey]:
        """All signing keys, the newest first."""
        with transaction(self._engine) as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at.desc(), KEYS.c.kid)).all()
        return [SealedKey(row.kid, row.created_at, Sealed(row.wrapped_key, row.private)) for row in rows]

    def add_key(self, key: SealedKey, *, drop_before: int) -> None:
        """Stores a new signing key, and drops those made before that second: nothing they signed is still good."""
        row = {"wrapped_key": key.sealed.wrapped_key, "private": key.sealed.value}
        with transaction(self._engine) as connection:
            connection.execute(delete(KEYS).where(KEYS.c.created_at < drop_before))
            connection.execute(insert(KEYS).values(kid=key.kid, created_at=key.created_at, **row))
            _raise_generation(connection)


def _raise_generation(connection: Connection) -> None:
    connection.execute(update(CHANGES).values(generation=CHANGES.c.generation + 1))


def _issued(row: Row[tuple[object, ...]]) -> IssuedToken:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's documented name for it
    return IssuedToken(
        jti=values["jti"],
        identity=values["identity"],
        issuer=values["issuer"],
        subject=values["subject"],
        token_id=values["token_id"],
        run=json.loads(values["run"]),
        issued_at=values["issued_at"],
        expires_at=values["expires_at"],
        revoked_at=values["revoked_at"],
    )
