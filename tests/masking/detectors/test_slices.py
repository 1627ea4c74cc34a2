import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.detectors import DETECTORS, email, slices
from coatcheck.masking.detectors.slices import matches

BLOCK = "4111 1111 1111 1111 bob@example.com GB82 WEST 1234 5698 7654 32 "


@settings(max_examples=50)
@given(st.integers(-40, 40), st.sampled_from(sorted(DETECTORS)))
def test_a_find_on_the_edge_of_a_slice_is_found_once_and_whole(shift, name):
    gap = "." * (slices.SLICE + shift - 20)
    alone = list(DETECTORS[name].spans(BLOCK))
    start = len(gap)
    assert list(DETECTORS[name].spans(f"{gap}{BLOCK}")) == [(start + begin, start + end) for begin, end in alone]


def test_slices_find_what_one_search_finds():
    pattern = re.compile("ab?a?b")
    text = "abab" * slices.SLICE
    assert [match.span() for match in matches(pattern, text, reach=4)] == [
        match.span() for match in pattern.finditer(text)
    ]


@pytest.mark.parametrize("length", [64, slices.SLICE - 1, slices.SLICE, 3 * slices.SLICE])
def test_an_address_of_any_length_is_found_whole(length):
    text = f"<{'x' * length}@example.com>"
    assert list(email.Email().spans(text)) == [(1, len(text) - 1)]
