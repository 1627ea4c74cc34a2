import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.journal.encoding import MAX_DEPTH, MAX_RECORD, MAX_STRING, cap, encode_fields
from coatcheck.vault.secret import Secret

ANY_TEXT = st.text(st.characters(exclude_categories=()))
PLAIN_TEXT = st.text()
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
    max_leaves=12,
)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.binary()
    | st.datetimes()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(ANY_TEXT | st.integers() | st.binary(), inner, max_size=4)
    ),
    max_leaves=12,
)


class Rude(Mapping):
    """Raises whatever is asked of it."""

    def __getitem__(self, key):
        raise OSError(key)

    def __iter__(self):
        raise OSError

    def __len__(self):
        raise OSError


def decoded(fields) -> dict:
    text = encode_fields(fields)
    assert text.isascii()
    assert len(text.splitlines()) <= 1
    return json.loads("{" + text + "}", parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def strings(value):
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from strings(each)
        case dict():
            for key, each in value.items():
                yield from (key, *strings(each))


@given(st.dictionaries(ANY_TEXT, ODD, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_value_gives_one_line_of_valid_json(fields):
    for text in strings(decoded(fields)):
        text.encode()
        assert len(text.encode()) <= MAX_STRING + 100


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=8), PLAIN, max_size=5))
@settings(max_examples=100, deadline=None)
def test_ordinary_fields_are_written_as_they_are(fields):
    assert decoded(fields) == fields


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("a\nb", "a\nb", id="newline"),
        pytest.param("a\u2028b\u0085c", "a\u2028b\u0085c", id="unicode line separators"),
        pytest.param("a\0b", "a\0b", id="nul"),
        pytest.param("a\ud800b", "a\N{REPLACEMENT CHARACTER}b", id="lone surrogate"),
        pytest.param("\N{OK HAND SIGN}", "\N{OK HAND SIGN}", id="beyond the first plane"),
        pytest.param(math.nan, "nan", id="not a number"),
        pytest.param(-math.inf, "-inf", id="infinity"),
        pytest.param(10**5000, "<integer of 16610 bits>", id="an integer too long to print"),
        pytest.param({1}, [1], id="a set"),
        pytest.param((1, "a"), [1, "a"], id="a tuple"),
        pytest.param(MappingProxyType({"a": 1}), {"a": 1}, id="a read-only mapping"),
        pytest.param({b"k": 1, 2: 3}, {"<bytes>": 1, "2": 3}, id="keys that are no strings"),
        pytest.param(datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00", id="a moment"),
        pytest.param(Secret(b"hunter2"), "<Secret>", id="a secret"),
        pytest.param(Rude(), "<unreadable Rude>", id="a mapping that raises"),
    ],
)
def test_odd_values_are_written_in_a_form_that_can_be_read(value, written):
    assert decoded({"value": value}) == {"value": written}


def test_bytes_are_told_by_their_digest_alone():
    assert decoded({"value": b"hunter2"}) == {"value": f"<7 bytes sha256:{hashlib.sha256(b'hunter2').hexdigest()}>"}


def test_fields_that_cannot_be_read_at_all_still_give_a_record():
    assert decoded(Rude()) == {"fields": "<unreadable Rude>"}


def test_a_long_string_is_cut_and_its_digest_appended():
    text = "ü" * 1_000_000
    written = decoded({"text": text, "after": 1})
    assert written["text"] == "ü" * (MAX_STRING // 2) + "…sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert written["after"] == 1


@given(st.text(max_size=50), st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_two_long_strings_are_written_alike_only_where_they_are(text, times):
    long = text * times + "x" * MAX_STRING
    assert cap(long) != cap(long + "y")
    assert cap(long) == cap(str(long))


def test_the_chain_s_own_keys_cannot_be_set_by_a_field():
    assert decoded({"seq": 1, "prev": 2, "hash": 3, "at": 4, "kind": 5, "other": 6}) == {
        "seq_": 1,
        "prev_": 2,
        "hash_": 3,
        "at_": 4,
        "kind_": 5,
        "other": 6,
    }


def test_a_cycle_ends_as_an_ellipsis():
    cycle: dict = {"name": "a"}
    cycle["self"] = [cycle, cycle, cycle]
    text = encode_fields({"cycle": cycle})
    assert "\\u2026" in text
    assert len(text) < MAX_RECORD * 6


def test_nesting_ends_at_the_depth_allowed():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    text = encode_fields({"deep": deep})
    assert 0 < text.count("[") <= MAX_DEPTH


def test_a_record_of_many_strings_keeps_its_size():
    text = encode_fields({"many": ["x" * 4000 for _ in range(10_000)]})
    assert MAX_RECORD / 2 < len(text) < MAX_RECORD * 2
