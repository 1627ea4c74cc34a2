"""What a body costs is known before it is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.mcp.size import MAX_ESCAPES, MAX_LONG_NUMBERS, MAX_VALUES, check_nested, check_size

WORDS = st.text(st.sampled_from('ab\\",:[]{} é'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=30,
)


def members(value: object) -> int:
    """Values in arrays and objects, and the names of members, as they are counted: an empty one counts as one."""
    if isinstance(value, list):
        return max(1, len(value)) + sum(map(members, value))
    if isinstance(value, dict):
        return max(1, len(value)) + len(value) + sum(map(members, value.values()))
    return 0


def is_refused(data: bytes, most: int) -> bool:
    try:
        check_size(data, most=most)
    except Refusal:
        return True
    return False


@given(VALUES)
def test_values_are_counted_and_what_stands_in_strings_is_not(value) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    count = members(value)
    assert not is_refused(data, count)
    if count and len(data) > count - 1:
        assert is_refused(data, count - 1)


@pytest.mark.parametrize("at", range(262_136, 262_152))
@pytest.mark.parametrize("ending", [b"\\\\", b'\\"', b'\\\\\\"'], ids=["backslash", "quote", "both"])
def test_an_escape_on_the_edge_of_a_slice_is_not_taken_apart(at, ending) -> None:
    text = b'["' + b"x" * (at - 2) + ending + b',,,,", 1, 2]'
    json.loads(text)
    assert not is_refused(text, 3)
    assert is_refused(text, 2)


def test_a_long_text_may_hold_anything() -> None:
    check_size(json.dumps({"csv": "1,2,3\n" * 500_000}).encode())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" + b",".join([b"[]"] * MAX_VALUES) + b"]", id="values"),
        pytest.param(b'"' + b"\\n" * (MAX_ESCAPES + 1) + b'"', id="escapes"),
        pytest.param(b"[" + b",".join([b"7" * 1280] * (MAX_LONG_NUMBERS // 20 + 30)) + b"]", id="long numbers"),
    ],
)
def test_what_would_hold_the_interpreter_is_refused(data) -> None:
    with pytest.raises(Refusal) as caught:
        check_size(data)
    assert caught.value.reason == "too-complex"


def test_json_in_strings_counts_however_it_is_written() -> None:
    plain, hidden = "[" + "[]," * 50 + "1]", "[" + "\\u005b" * 50 + "]"
    for value in ({"a": [plain]}, [hidden], [plain, plain]):
        check_nested(value, most=250)
        with pytest.raises(Refusal):
            check_nested(value, most=30)
    check_nested(["a, b, c: [d]" * 100, "[11:02] a, b: c\n" * 100], most=5)  # texts, not JSON
