"""The tables of tool pins (SQLAlchemy Core).

Law: no text of a server can upset a database: it is stored as ASCII JSON, and found by its digest.
"""

import hashlib
import json
from functools import partial

from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, String, Table, Text

from coatcheck import database
from coatcheck.database import open_tables

PART = "tool pins"

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
    """Makes what is not there. Raises `StateError`, also where what is there is of a newer format."""
    open_tables(engine, PART, METADATA, first={CHANGES: {"id": 1, "generation": 0}})


transaction = partial(database.transaction, part=PART)
