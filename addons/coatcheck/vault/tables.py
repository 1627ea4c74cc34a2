"""The vault's tables (SQLAlchemy Core; SQLite and PostgreSQL) and the one way their errors are told.

Law: a column holds nothing that reveals a value; names, placeholders and bindings are readable on purpose.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coatcheck.errors import VaultError

METADATA = MetaData()

VAULT = Table(
    "vault",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: a second row cannot be
    Column("format", Integer, nullable=False),
    Column("vault_id", String(32), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("sentinel", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False),
)

SECRETS = Table(
    "vault_secrets",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("active_version", Integer, nullable=False),
    Column("placeholder", String(200), nullable=False),
    UniqueConstraint("placeholder"),
)

VERSIONS = Table(
    "vault_versions",
    METADATA,
    Column("name", String(100), ForeignKey("vault_secrets.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("bindings", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed whole or not at all. The database's errors become `VaultError`."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        # The statement and its parameters stay out; the driver's own first line says what is wrong.
        reason = (str(error.orig).splitlines() or ["unknown"])[0]
        raise VaultError(f"the vault's database failed: {reason}") from None
    except SQLAlchemyError as error:
        raise VaultError(f"the vault's database failed: {type(error).__name__}") from None
