import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.paths import FieldPath, Segment, parse_path

PATHS = {
    "$": (),
    "$.a.b": (Segment("a"), Segment("b")),
    "$..ssn": (Segment("ssn", descends=True),),
    "$.rows[*].ssn": (Segment("rows"), Segment(), Segment("ssn")),
    "$.*": (Segment(),),
    "$..*": (Segment(descends=True),),
    "$..[*]": (Segment(descends=True),),
    "$.rows[0]": (Segment("rows"), Segment(index=0)),
    "$..[12]": (Segment(index=12, descends=True),),
    "$['first-name']": (Segment("first-name"),),
    "$[\"a b\"][ 'c' ]": (Segment("a b"), Segment("c")),
    "$..['x']": (Segment("x", descends=True),),
    "$['it\\'s']": (Segment("it's"),),
    "$['\\u00e9\\n']": (Segment("é\n"),),
    "$.größe._x1": (Segment("größe"), Segment("_x1")),
    "$.a..b": (Segment("a"), Segment("b", descends=True)),
}


@pytest.mark.parametrize("text", PATHS)
def test_a_path_is_read_into_its_segments(text):
    assert parse_path(text) == FieldPath(text, PATHS[text])


REFUSED = {
    "ssn": r"begins with '\$': \$\.ssn",
    "": "begins with",
    "$['\\ud800']": "half of a surrogate pair",
    "$ssn": "unexpected 's' .* at character 2",
    "$.": "expected a name",
    "$...a": "expected a name",
    "$.first-name": "quote unusual names",
    "$.1a": "expected a name",
    "$.a[": "expected \\[\\*\\]",
    "$.a[x]": "expected \\[\\*\\]",
    "$.a[01]": "expected \\[\\*\\]",
    "$.a['b": "expected \\[\\*\\]",
    "$['\\q']": "expected \\[\\*\\]",
    "$.a[-1]": "negative indexes are not supported",
    "$.a[0:2]": "slices are not supported",
    "$.a[::2]": "slices are not supported",
    "$.a[?@.b]": "filters are not supported",
    "$..[?@.b]": "filters are not supported",
    "$['a','b']": "expected \\[\\*\\]",
    "$.a ": "unexpected ' '",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_path_that_cannot_be_followed_exactly_is_refused_in_words(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        parse_path(text)


@settings(max_examples=100)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=4))
def test_any_name_can_be_quoted(names):
    path = "$" + "".join(f"[{json.dumps(name)}]" for name in names)
    assert [segment.name for segment in parse_path(path).segments] == names


@settings(max_examples=100)
@given(st.text("$.[]*'\"a0-:?\\u ", max_size=12))
def test_any_text_is_a_path_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert parse_path("$" + text).text == "$" + text
