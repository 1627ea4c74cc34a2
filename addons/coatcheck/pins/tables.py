"""The tables of tool pins (SQLAlchemy Core).

Law: no text of a server can upset a database: it is stored as ASCII JSON, and found by its digest.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, MetaData, String, Table, Text, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from coatcheck.errors import StateError

METADATA = MetaData()

CHANGES = Table(
    "pin_changes",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: a second row cannot be
    Column("generation", BigInteger, nullable=False),
)
"""`generation` grows with every change, so that other gateways look again."""

PINS = Table(
    "pins",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("server", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("definition", Text, nullable=False),
    Column("seen_digest", String(64)),
    Column("seen_definition", Text),
    Column("approval", String(10)),
    Column("pinned_at", BigInteger, nullable=False),
)
"""`id` is `pin_id`; `seen_…` is null where the server says what is pinned; times are seconds since 1970."""

NOTES = Table(
    "pin_notes",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("note", Text, nullable=False),
)
"""What was done where no journal is at hand: on the command line. A gateway journals it and takes it out."""


def pin_id(server: str, tool: str) -> str:
    """SHA-256 (hex) of both names."""
    return hashlib.sha256(json.dumps([server, tool]).encode()).hexdigest()


def create_tables(engine: Engine) -> None:
    """Makes what is not there. Raises `StateError`."""
    with suppress(StateError, IntegrityError):
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
    """One transaction. Raises `StateError`; the database's own message may quote what was stored, so it stays out."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise StateError(f"the database of tool pins failed: {type(error).__name__}") from None
