"""Tables of several parts in one database, and the formats they are in."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from coatcheck.database import FORMATS, check_format, open_tables, transaction
from coatcheck.errors import StateError
from coatcheck.pins.tables import CHANGES, METADATA
from coatcheck.state import StateDirectory

FIRST = {CHANGES: {"id": 1, "generation": 0}}


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    return state.open_database()


def test_tables_of_the_format_that_is_known_are_opened_again_and_keep_what_they_hold(engine) -> None:
    open_tables(engine, "pins", METADATA, first=FIRST)
    with transaction(engine, "pins") as connection:
        connection.execute(update(CHANGES).values(generation=7))
    open_tables(engine, "pins", METADATA, first=FIRST)
    with transaction(engine, "pins") as connection:
        assert connection.execute(select(CHANGES.c.generation)).scalars().all() == [7]


@pytest.mark.parametrize("found", [0, 2, 99])
def test_tables_of_another_format_are_refused_before_anything_is_made(engine, found) -> None:
    check_format(engine, "pins", newest=found)
    with pytest.raises(StateError, match=f"the format {found} of pins is not known"):
        open_tables(engine, "pins", METADATA, first=FIRST)
    with pytest.raises(StateError, match="failed"), transaction(engine, "pins") as connection:
        connection.execute(select(CHANGES))


def test_each_part_has_a_format_of_its_own(engine) -> None:
    check_format(engine, "pins", newest=2)
    check_format(engine, "approvals", newest=1)
    with transaction(engine, "pins") as connection:
        assert set(map(tuple, connection.execute(select(FORMATS)))) == {("pins", 2), ("approvals", 1)}


def test_gateways_that_open_a_new_database_at_once_all_succeed(engine) -> None:
    with ThreadPoolExecutor(8) as threads:
        for opened in [threads.submit(open_tables, engine, "pins", METADATA, first=FIRST) for _ in range(8)]:
            opened.result()
    with transaction(engine, "pins") as connection:
        assert connection.execute(select(CHANGES.c.generation)).scalars().all() == [0]
