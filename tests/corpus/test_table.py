"""The table of attacks says what is tested, and every attack in it is."""

from pathlib import Path

import pytest
import table
from cases import CASES, NOT_APPLICABLE, SHOWN_ELSEWHERE

pytestmark = pytest.mark.corpus

ROOT = Path(__file__).parents[2]


def test_every_case_is_shown_by_a_test() -> None:
    shown = table.shown_by()
    assert [case_id for case_id in CASES if not shown[case_id] and case_id not in NOT_APPLICABLE] == []


def test_a_reason_names_a_case_and_is_not_empty() -> None:
    assert NOT_APPLICABLE.keys() <= CASES.keys()
    assert all(NOT_APPLICABLE.values())


def test_every_mark_names_a_case() -> None:
    assert table.shown_by().keys() | NOT_APPLICABLE.keys() <= CASES.keys()


def test_the_tests_named_elsewhere_exist() -> None:
    for test in {test for tests in SHOWN_ELSEWHERE.values() for test in tests}:
        file, _, name = test.partition("::")
        assert name in [name for name, _ in table.test_names(ROOT / file)], test


def test_the_table_is_up_to_date() -> None:
    assert table.TABLE.read_text() == table.render(), "run python tests/corpus/table.py"
