"""The tables that parts of the gateway keep in one database, and the formats they are in.

Law: tables of a newer format are refused and left as they are: what is not understood is neither read nor rewritten.
Law: the database's own message may quote what was stored, so it never becomes part of an error.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, exists, insert, literal, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from coatcheck.errors import StateError

FORMATS = Table(
    "formats",
    MetaData(),
    Column("part", String(50), primary_key=True),
    Column("format", Integer, nullable=False),
)
"""Which format a part's tables are in; tables without a row are of format 1."""


@contextmanager
def transaction(engine: Engine, part: str) -> Iterator[Connection]:
    """One transaction: committed whole or not at all. Raises `StateError`, and `IntegrityError` as it is."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise StateError(f"the database of {part} failed: {type(error).__name__}") from None


def open_tables(
    engine: Engine, part: str, metadata: MetaData, *, newest: int = 1, first: Mapping[Table, Mapping[str, int]]
) -> None:
    """Makes what is not there of a part's tables, whose format is `newest`; `first` are rows that must be there.

    Raises `StateError` where they are of another format, before anything is made or changed.
    """
    check_format(engine, part, newest=newest)
    with suppress(StateError, IntegrityError):
        _make(engine, part, metadata, first)
        return
    _make(engine, part, metadata, first)  # another gateway made them in the same moment; now they are there


def check_format(engine: Engine, part: str, *, newest: int = 1) -> None:
    """Notes the format of a part's tables where none is noted. Raises `StateError` where it is another."""
    try:
        found = _format(engine, part, newest)
    except (StateError, IntegrityError):
        found = _format(engine, part, newest)  # another gateway noted it in the same moment; now it is there
    if found != newest:
        raise StateError(f"the format {found} of {part} is not known", hint="use the coatcheck that made it")


def _format(engine: Engine, part: str, newest: int) -> int:
    """Begins by writing, so that a second one waits and then sees what the first did."""
    row = select(literal(part), literal(newest)).where(~exists().where(FORMATS.c.part == part))
    with transaction(engine, part) as connection:
        connection.execute(CreateTable(FORMATS, if_not_exists=True))
        connection.execute(insert(FORMATS).from_select(["part", "format"], row))
        return int(connection.execute(select(FORMATS.c.format).where(FORMATS.c.part == part)).scalar_one())


def _make(engine: Engine, part: str, metadata: MetaData, first: Mapping[Table, Mapping[str, int]]) -> None:
    with transaction(engine, part) as connection:
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
        for table, row in first.items():
            values = select(*map(literal, row.values())).where(~exists().select_from(table))
            connection.execute(insert(table).from_select(list(row), values))
