import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.strings import are_in_values, is_card_sized, may_hold_card_number, serialised

texts = st.text(max_size=20)
values = st.recursive(
    texts | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for member in value.values():
            yield from strings_of(member)
    elif isinstance(value, list):
        for element in value:
            yield from strings_of(element)


@settings(max_examples=100)
@given(values)
def test_every_string_stands_whole_in_a_chunk(value):
    chunks = serialised(value)
    for text in strings_of(value):
        assert any(text.encode() in chunk for chunk in chunks)


def test_a_large_value_is_written_in_chunks_that_split_no_string():
    strings = [f"{number:08d}" * 20 for number in range(5_000)] + ["x" * 200_000, "é" * 100_000]
    chunks = serialised(strings)
    assert len(chunks) > 10
    for text in strings:
        assert any(text.encode() in chunk for chunk in chunks)


cards = st.integers(10**12, 10**19 - 2048)


@settings(max_examples=100)
@given(cards | cards.map(float) | cards.map(lambda number: -number) | cards.map(lambda number: -float(number)))
def test_a_number_as_long_as_a_cards_is_seen(number):
    assert is_card_sized(number)
    for value in (number, [number], {"a": number}, [1, number, "x"], {"a": [number, None], "b": number, "c": [[]]}):
        assert any(map(may_hold_card_number, serialised(value)))


@settings(max_examples=100)
@given(cards, values, values, values)
def test_a_number_as_long_as_a_cards_is_seen_whatever_stands_beside_it(number, first, second, third):
    value = [first, {"a": second, "b": number, "c": third}]
    assert any(map(may_hold_card_number, serialised(value)))
    assert any(map(may_hold_card_number, serialised([number, *[third] * 3])))


def test_a_number_as_long_as_a_cards_is_seen_at_the_end_of_a_chunk():
    for number in (4111111111111111, 4111111111111111.0):
        rows = [[number]] * 30_000
        chunks = serialised([list(row) for row in rows])
        assert len(chunks) > 2
        assert all(map(may_hold_card_number, chunks))


def test_rows_with_small_numbers_are_no_reason_to_look_closer():
    rows = [{"id": number, "name": f"row {number}", "size": number / 4} for number in range(1_000)]
    assert not any(map(may_hold_card_number, serialised(rows)))


@pytest.mark.parametrize("number", [0, 1, -7, 65_536, 2**31 - 1, 1.5, 1e6, -0.25, 1e300])
def test_a_number_of_ordinary_size_is_no_reason_to_look_closer(number):
    assert not any(may_hold_card_number(chunk) for chunk in serialised({"a": [number, "text"]}))


WHERE = {
    "a value": ('{"a":"x!"}', True),
    "two values": ('{"a":"x!","b":["!"]}', True),
    "twice in one value": ('{"a":"! and !"}', True),
    "a name": ('{"!":"x"}', False),
    "a name with white space after it": ('{"a!" \n: 1}', False),
    "a value, then a name": ('{"a":"!","!":"x"}', False),
    "a number": ('{"a":!}', False),
    "a number after a value": ('{"a":"!","b":!}', False),
    "an array in a value": ('{"a":" [!]"}', False),
    "an object in a value": ('{"a":"{!"}', False),
    "a string that is left open": ('{"a":"!}', False),
}


@pytest.mark.parametrize(("text", "expected"), WHERE.values(), ids=WHERE)
def test_only_finds_in_string_values_may_be_replaced_where_they_stand(text, expected):
    spans = [(at, at + 1, 0) for at, letter in enumerate(text) if letter == "!"]
    assert are_in_values(text, spans) is expected
