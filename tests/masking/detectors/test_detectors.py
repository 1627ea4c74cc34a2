import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.detectors import DETECTORS


def found(name, text):
    return [text[start:end] for start, end in DETECTORS[name].spans(text)]


def test_detectors_are_found_by_their_names_in_policy():
    assert {name: detector.name for name, detector in DETECTORS.items()} == {
        "email": "email",
        "credit-card": "credit-card",
        "iban": "iban",
    }


pieces = st.lists(
    st.sampled_from(
        (
            *(
                "bob",
                "@",
                "a@b.co",
                ".",
                "example.com",
                " ",
                "-",
                "4111",
                "4111111111111111",
                "1111",
                "378282246310005",
            ),
            *("GB82WEST12345698765432", "GB82", "WEST 1234 5698 7654 32", "DE89370400440532013000", "x", "7", "é", '"'),
            *(
                "de89-3704-0044-0532-0130-00",
                "gb82west12345698765432",
                "4111.1111.1111.1111",
                "1111/",
                "4222 222 222 222",
            ),
        )
    ),
    max_size=8,
).map("".join)


@settings(max_examples=150)
@pytest.mark.parametrize("name", sorted(DETECTORS))
@given(pieces, pieces, st.sampled_from('\n"'))
def test_line_feeds_and_quotes_are_edges(name, before, after, edge):
    before, after = (part.replace('"', "") for part in (before, after))
    spans = DETECTORS[name].spans
    shift = len(before) + 1
    expected = [*spans(before), *((start + shift, end + shift) for start, end in spans(after))]
    assert list(spans(f"{before}{edge}{after}")) == expected


@settings(max_examples=150)
@pytest.mark.parametrize("name", sorted(DETECTORS))
@given(pieces, st.binary(max_size=4), st.binary(max_size=4))
def test_what_cannot_hold_a_find_holds_none(name, text, before, after):
    if list(DETECTORS[name].spans(text)):
        assert DETECTORS[name].may_hold(before + text.encode() + after)


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_most_texts_are_told_apart_at_once(name):
    assert not DETECTORS[name].may_hold("Größe 12, order A-1001 of 2026-11-24, 3 pieces at 1999.50".encode())


@settings(max_examples=150)
@pytest.mark.parametrize("name", sorted(DETECTORS))
@given(pieces)
def test_the_partial_form_needs_no_escape_in_json(name, text):
    for find in found(name, text):
        shown = DETECTORS[name].partial(find)
        assert json.dumps(shown, ensure_ascii=False) == f'"{shown}"'


ADVERSARIAL = {
    "one digit over and over": "4",
    "card groups": "4111 ",
    "short groups": "4 ",
    "card-long runs": "4111111111111-",
    "letters": "a",
    "at signs": "a@",
    "addresses": "a@b.co ",
    "half addresses": "@a.b",
    "dots": "a.",
    "hyphens": "-",
    "iban heads": " GB82",
    "ibans that fail": " GB82WEST12345698765431",
    "base64": "QmFzZTY0IGVuY29kZWQgYmxvYg",
    "hex": "9f86d081884c7d659a2feaa0c55ad015",
}


@pytest.mark.parametrize("name", sorted(DETECTORS))
@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_time_grows_with_the_length_of_the_text(name, unit):
    spans = DETECTORS[name].spans

    def seconds(length):
        text = f"x@{(unit * length)[:length]}"
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            list(spans(text))
            best = min(best, time.thread_time() - began)
        return best

    # Eight times the text: a linear search takes about eight times as long, a quadratic one 64 times.
    assert seconds(100_000) < 24 * seconds(12_500) + 0.002
