import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.detectors.credit_card import CreditCard

FOUND = {
    "visa": ("4111111111111111", ["4111111111111111"]),
    "visa in groups": ("card 4111 1111 1111 1111.", ["4111 1111 1111 1111"]),
    "visa with dashes": ("4111-1111-1111-1111", ["4111-1111-1111-1111"]),
    "visa with dots": ("4111.1111.1111.1111", ["4111.1111.1111.1111"]),
    "visa with slashes": ("4111/1111/1111/1111", ["4111/1111/1111/1111"]),
    "visa from a form": ("card=4111+1111+1111+1111&x=1", ["4111+1111+1111+1111"]),
    "visa with two spaces": ("4111  1111  1111  1111", ["4111  1111  1111  1111"]),
    "visa with spaced dashes": ("4111 - 1111 - 1111 - 1111", ["4111 - 1111 - 1111 - 1111"]),
    "visa of 13 digits in groups": ("4222 222 222 222", ["4222 222 222 222"]),
    "amex with dashes": ("3782-822463-10005", ["3782-822463-10005"]),
    "visa of 13 digits": ("4222222222222", ["4222222222222"]),
    "mastercard": ("5555555555554444", ["5555555555554444"]),
    "mastercard, new range": ("2223003122003222", ["2223003122003222"]),
    "amex": ("3782 822463 10005", ["3782 822463 10005"]),
    "diners": ("3056 930902 5904", ["3056 930902 5904"]),
    "19 digits": ("6304000000000000000", ["6304000000000000000"]),
    "after another number": ("qty 2 4111111111111111", ["4111111111111111"]),
    "after another group": ("1234 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
    "next to letters": ("PAN4111111111111111x", ["4111111111111111"]),
    "two": ("4111111111111111,5555555555554444", ["4111111111111111", "5555555555554444"]),
}


@pytest.mark.parametrize(("text", "cards"), FOUND.values(), ids=FOUND)
def test_a_card_number_is_found_in_the_forms_it_is_written_in(text, cards):
    assert [text[start:end] for start, end in CreditCard().spans(text)] == cards


ALONE = {
    "a wrong check digit": "4111111111111112",
    "inside a longer run": "94111111111111111111",
    "too short": "411111111111",
    "a timestamp in milliseconds": "1732424321123",
    "zeros": "0000 0000 0000 0000",
    "mixed separators": "4111 1111-1111 1111",
    "groups no card has": "41 11 11 11 11 11 11 11",
    "three spaces": "4111   1111   1111   1111",
    "digits of other scripts": "٤١١١١١١١١١١١١١١١",
}


@pytest.mark.parametrize("text", ALONE.values(), ids=ALONE)
def test_what_is_no_card_number_is_left_alone(text):
    assert list(CreditCard().spans(text)) == []


def test_the_partial_form_shows_the_last_four_digits():
    assert CreditCard().partial("4111 1111 1111 1234") == "****1234"


@settings(max_examples=100)
@given(st.integers(2 * 10**14, 7 * 10**14 - 1), st.integers(0, 14), st.integers(1, 9))
def test_one_wrong_digit_is_no_card_number(digits, place, difference):
    body = f"{digits:015d}"
    doubled = [sum(divmod(int(d) * (2 if at % 2 == 0 else 1), 10)) for at, d in enumerate(body)]
    number = body + str(-sum(doubled) % 10)
    assert list(CreditCard().spans(number)) == [(0, 16)]
    wrong = f"{number[:place]}{(int(number[place]) + difference) % 10}{number[place + 1 :]}"
    assert list(CreditCard().spans(wrong)) == []
