"""The tables of session tokens and of the keys that sign them (SQLAlchemy Core).

Law: no token stands here, in no form; what a token's claims say, and the keys, are sealed by their writers.
Times are whole seconds since 1970, as in tokens.
"""

from functools import partial

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from coatcheck import database
from coatcheck.database import open_tables

PART = "session tokens"

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
    """Makes what is not there. Raises `StateError`, also where what is there is of a newer format."""
    open_tables(engine, PART, METADATA, first={CHANGES: {"id": 1, "generation": 0}})


transaction = partial(database.transaction, part=PART)
