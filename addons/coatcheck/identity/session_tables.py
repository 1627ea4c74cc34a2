"""The tables of session tokens and of the keys that sign them (SQLAlchemy Core).

Law: no token stands here, in no form; what a token's claims say, and the keys, are sealed by their writers.
Times are whole seconds since 1970, as in tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coatcheck.errors import StateError

METADATA = MetaData()

CHANGES = Table(
    "session_changes",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: a second row cannot be
    Column("generation", BigInteger, nullable=False),
)
"""`generation` grows whenever a running gateway must look again: a token was revoked, a key was made."""

TOKENS = Table(
    "session_tokens",
    METADATA,
    Column("jti", String(32), primary_key=True),
    Column("identity", String(100), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("token_id", String(64), nullable=False),
    Column("run", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("journaled_at", BigInteger),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("claims", LargeBinary, nullable=False),
    Index("session_tokens_by_identity", "identity", "expires_at"),
    Index("session_tokens_by_expiry", "expires_at"),
)
"""`issuer` is the URL of the first token's issuer; `journaled_at` is set once a revocation is in the journal."""

KEYS = Table(
    "session_keys",
    METADATA,
    Column("kid", String(64), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("private", LargeBinary, nullable=False),
)


def create_tables(engine: Engine) -> None:
    """Makes what is not there. Raises `StateError`."""
    with suppress(StateError):
        _create(engine)
        return
    _create(engine)  # PostgreSQL: another gateway made the tables in the same moment; now they are there


def _create(engine: Engine) -> None:
    with transaction(engine) as connection:
        METADATA.create_all(connection)
        if connection.execute(select(CHANGES.c.id)).first() is None:
            connection.execute(insert(CHANGES).values(id=1, generation=0))


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed whole or not at all. The database's errors become `StateError`."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        # The statement and its parameters stay out; the driver's own first line says what is wrong.
        reason = (str(error.orig).splitlines() or ["unknown"])[0]
        raise StateError(f"the database of session tokens failed: {reason}") from None
    except SQLAlchemyError as error:
        raise StateError(f"the database of session tokens failed: {type(error).__name__}") from None
