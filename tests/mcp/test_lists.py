import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.mcp.lists import LISTS, filter_list


def seen_by(*allowed):
    return lambda kind, name: (kind, name) in allowed


SHAPES = {
    "tools/list": ("tools", "name", "tools"),
    "resources/list": ("resources", "uri", "resources"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate", "resources"),
    "prompts/list": ("prompts", "name", "prompts"),
}


@pytest.mark.parametrize("method", SHAPES)
def test_a_list_holds_only_what_may_be_seen(method):
    member, naming, kind = SHAPES[method]
    result = {member: [{naming: "a", "x": 1}, {naming: "b"}, {naming: "c"}], "nextCursor": ""}
    filtered, hidden = filter_list(method, result, seen_by((kind, "a"), (kind, "c")))
    assert filtered == {member: [{naming: "a", "x": 1}, {naming: "c"}], "nextCursor": ""}
    assert hidden == 1


def test_a_list_of_which_all_may_be_seen_is_the_same_object():
    result = {"tools": [{"name": "a"}], "nextCursor": "n"}
    filtered, hidden = filter_list("tools/list", result, seen_by(("tools", "a")))
    assert filtered is result
    assert hidden == 0


def test_an_empty_page_keeps_its_cursor():
    filtered, hidden = filter_list("tools/list", {"tools": [{"name": "a"}], "nextCursor": "n"}, seen_by())
    assert (filtered, hidden) == ({"tools": [], "nextCursor": "n"}, 1)


@pytest.mark.parametrize("entry", [None, "a", ["a"], {}, {"name": ""}, {"name": 5}, {"Name": "a"}, {"name": ["a"]}])
def test_an_entry_without_a_name_is_left_out(entry):
    filtered, hidden = filter_list("tools/list", {"tools": [entry, {"name": "a"}]}, lambda _kind, _name: True)
    assert (filtered, hidden) == ({"tools": [{"name": "a"}]}, 1)


@pytest.mark.parametrize("result", [None, [], "x", {}, {"tools": None}, {"tools": {"name": "a"}}])
def test_a_result_without_a_list_becomes_an_empty_one(result):
    assert filter_list("tools/list", result, lambda _kind, _name: True) == ({"tools": []}, 0)


@pytest.mark.parametrize("hints", [{"ttlMs": 60000, "cacheScope": "public"}, {"ttlMs": 5}, {"cacheScope": "public"}])
def test_a_list_that_may_be_cached_becomes_private_and_stale(hints):
    filtered, _ = filter_list("tools/list", {"tools": []} | hints, seen_by())
    assert filtered == {"tools": [], "ttlMs": 0, "cacheScope": "private"}


def test_an_older_list_gets_no_cache_hints():
    assert filter_list("tools/list", {"tools": []}, seen_by()) == ({"tools": []}, 0)


def test_a_method_that_lists_nothing_is_a_fault():
    with pytest.raises(KeyError):
        filter_list("tools/call", {}, seen_by())


@settings(max_examples=100)
@given(st.sampled_from(sorted(LISTS)), st.lists(st.text("abc", max_size=2)), st.sets(st.text("abc", max_size=2)))
def test_nothing_hidden_is_ever_shown_and_nothing_shown_is_moved(method, names, allowed):
    member, _, naming = LISTS[method]
    result = {member: [{naming: name} for name in names]}
    filtered, hidden = filter_list(method, result, lambda _kind, name: name in allowed)
    assert filtered[member] == [{naming: name} for name in names if name and name in allowed]
    assert hidden == len(names) - len(filtered[member])
