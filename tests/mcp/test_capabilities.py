"""Tests of mcp/capabilities.py: a server is told only of what it may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.mcp.capabilities import ASKED_BY, CLIENT_CAPABILITIES, TASKS, without_undeclared


def initialize(capabilities) -> dict:
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": capabilities}}


def modern(capabilities) -> dict:
    meta = {CLIENT_CAPABILITIES: capabilities, "progressToken": 1}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "_meta": meta}}


def of(message) -> dict:
    params = message["params"]
    return params["capabilities"] if "capabilities" in params else params["_meta"][CLIENT_CAPABILITIES]


@pytest.mark.parametrize("form", [initialize, modern])
@pytest.mark.parametrize("name", ASKED_BY)
def test_a_capability_goes_where_its_method_may_not_be_asked(form, name) -> None:
    message = form({key: {} for key in ASKED_BY})
    kept = of(without_undeclared(message, lambda method: method != ASKED_BY[name]))
    assert kept == {key: {} for key in ASKED_BY.keys() - {name}}
    assert of(message) == {key: {} for key in ASKED_BY}


def test_the_tasks_extension_goes_with_tasks_and_other_extensions_stay() -> None:
    message = modern({"extensions": {TASKS: {}, "com.example/x": {}}})
    assert of(without_undeclared(message, lambda _: False)) == {"extensions": {"com.example/x": {}}}
    assert of(without_undeclared(message, lambda _: True)) == of(message)


@pytest.mark.parametrize("form", [initialize, modern])
def test_a_capability_goes_in_whatever_case_it_is_spelt(form) -> None:
    declared = {
        "Sampling": {},
        "\u017fampling": {},
        "ROOTS": {},
        "Extensions": {TASKS.upper(): {}, "com.example/x": {}},
    }
    seen = of(without_undeclared(form(declared), lambda _: False))
    assert seen == {"Extensions": {"com.example/x": {}}}
    assert of(without_undeclared(form(declared), lambda _: True)) == declared


ODD = [None, 1, [], {}, {"params": []}, initialize(None), initialize([]), modern("x"), modern({"extensions": []})]


@pytest.mark.parametrize("message", ODD, ids=repr)
def test_what_declares_nothing_is_the_same_object(message) -> None:
    assert without_undeclared(message, lambda _: False) is message


@given(st.sets(st.sampled_from(sorted(ASKED_BY))), st.sets(st.sampled_from(sorted(ASKED_BY))))
def test_what_is_left_is_what_was_declared_and_may_be_asked(declared, allowed) -> None:
    methods = {ASKED_BY[name] for name in allowed}
    seen = without_undeclared(initialize({key: {} for key in declared}), methods.__contains__)
    assert of(seen).keys() == declared & allowed
