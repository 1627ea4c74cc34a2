from datetime import UTC, datetime, timedelta, timezone

import pytest

from coatcheck.errors import JournalError
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.read import caller_name, last_records, records
from coatcheck.journal.tape import Tape


@pytest.fixture
def journal(folder, clock):
    """Six records over two days and two files."""
    tape = Tape(folder)
    tape.open(clock())
    for kind, fields in [
        ("request", {"caller": {"name": "shop-ci"}, "server": "github"}),
        ("outcome", {}),
        ("refusal", {"caller": "shop-ci", "server": None}),
        ("request", {"caller": {"name": "etl"}, "server": "warehouse"}),
        ("request", {"caller": None, "server": "github"}),
        ("request", {"caller": {"name": "shop-ci"}, "server": "warehouse"}),
    ]:
        tape.append([(kind, encode_fields(fields))], clock())
        clock.move(hours=4)
    tape.close()
    return folder


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({}, [1, 2, 3, 4, 5, 6, 7, 8], id="everything"),
        pytest.param({"kind": "request"}, [2, 5, 7, 8], id="a kind"),
        pytest.param({"kind": "req"}, [], id="a part of a kind"),
        pytest.param({"caller": "shop-ci"}, [2, 4, 8], id="a caller, whole or by name"),
        pytest.param({"server": "warehouse"}, [5, 8], id="a server"),
        pytest.param({"caller": "shop-ci", "server": "github"}, [2], id="both"),
        pytest.param({"kind": "file"}, [1, 6], id="the links"),
        pytest.param({"since": datetime(2026, 11, 25, 2, 15, tzinfo=UTC)}, [6, 7, 8], id="from a moment on"),
        pytest.param(
            {"since": datetime(2026, 11, 25, 4, 15, tzinfo=timezone(timedelta(hours=2)))}, [6, 7, 8], id="in any zone"
        ),
        pytest.param({"since": datetime(2027, 1, 1, tzinfo=UTC)}, [], id="from the future"),
    ],
)
def test_records_that_match_everything_asked_are_found_in_order(journal, asked, found):
    assert [record["seq"] for record in records(journal, **asked)] == found


@pytest.mark.parametrize(("count", "found"), [(1, [8]), (4, [5, 6, 7, 8]), (99, [1, 2, 3, 4, 5, 6, 7, 8])])
def test_the_last_records_are_read_across_files(journal, count, found):
    assert [record["seq"] for record in last_records(journal, count)] == found


def test_lines_that_are_no_records_are_passed_over(journal):
    with max(journal.glob("*.jsonl")).open("ab") as file:
        file.write(b'garbage\n[1]\n{"seq":9,"at":"torn')
    assert len(list(records(journal))) == 8
    assert [record["seq"] for record in last_records(journal, 1)] == [8]


def test_a_missing_folder_is_an_operator_s_error(folder):
    with pytest.raises(JournalError):
        list(records(folder / "gone"))


@pytest.mark.parametrize(
    ("caller", "name"), [({"name": "a"}, "a"), ("a", "a"), (None, None), ({"name": 1}, None), ([], None)]
)
def test_a_caller_s_name_is_found_in_either_form(caller, name):
    assert caller_name({"caller": caller}) == name
