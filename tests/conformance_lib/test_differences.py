"""Tests of conformance_lib/differences.py: two ways agree only where every check came out the same, as often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance_lib.differences import differences, table
from conformance_lib.suite import Check

PASSED = Check("tools-list", "tools-list", "SUCCESS")
FAILED = Check("tools-list", "tools-list", "FAILURE", "no tools")
OTHER = Check("ping", "ping", "SUCCESS")

checks = st.lists(st.sampled_from([PASSED, FAILED, OTHER, Check("ping", "wire", "WARNING")]), max_size=6)


def test_the_same_checks_in_another_order_agree() -> None:
    assert differences({"direct": [PASSED, OTHER], "proxy": [OTHER, PASSED]}) == []


@pytest.mark.parametrize(
    ("there", "words"),
    [
        pytest.param([FAILED], "proxy: tools-list tools-list: FAILURE, direct SUCCESS: no tools", id="another status"),
        pytest.param([], "proxy: tools-list tools-list: absent, direct SUCCESS", id="absent"),
        pytest.param(
            [PASSED, PASSED], "proxy: tools-list tools-list: SUCCESS/SUCCESS, direct SUCCESS", id="more often"
        ),
        pytest.param([PASSED, OTHER], "proxy: ping ping: SUCCESS, direct absent", id="one that was not there direct"),
    ],
)
def test_a_check_that_came_out_otherwise_is_told(there, words) -> None:
    assert [str(one) for one in differences({"direct": [PASSED], "proxy": there})] == [words]


def test_a_failure_that_is_there_direct_too_is_no_difference() -> None:
    assert differences({"direct": [FAILED], "proxy": [FAILED], "reverse": [FAILED]}) == []


@given(checks, checks)
def test_ways_agree_exactly_where_scenario_id_and_status_are_the_same(one, other) -> None:
    def told(found):
        return sorted((check.scenario, check.id, check.status) for check in found)

    assert (differences({"direct": one, "proxy": other}) == []) == (told(one) == told(other))


def test_the_table_marks_what_differs() -> None:
    lines = table("0.1", {"direct": [PASSED, OTHER], "proxy": [FAILED, OTHER]}).splitlines()
    assert lines[0].split() == ["0.1", "direct", "proxy"]
    assert [line.split() for line in lines[1:]] == [
        ["ping", "1/0", "1/0"],
        ["tools-list", "1/0", "0/1!"],
        ["passed/failed", "2/0", "1/1"],
    ]
