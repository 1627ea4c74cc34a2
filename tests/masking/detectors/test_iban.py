import pytest

from coatcheck.masking.detectors.iban import Iban

FOUND = {
    "united kingdom": ("GB82WEST12345698765432", ["GB82WEST12345698765432"]),
    "printed": ("to GB82 WEST 1234 5698 7654 32, please", ["GB82 WEST 1234 5698 7654 32"]),
    "germany": ("DE89370400440532013000", ["DE89370400440532013000"]),
    "norway, the shortest": ("NO9386011117947", ["NO9386011117947"]),
    "malta, the longest": ("MT84MALT011000012345MTLCAST001S", ["MT84MALT011000012345MTLCAST001S"]),
    "before capitals": ("DE89 3704 0044 0532 0130 00 AND MORE", ["DE89 3704 0044 0532 0130 00"]),
    "two in a row": (
        "GB82WEST12345698765432 DE89370400440532013000",
        ["GB82WEST12345698765432", "DE89370400440532013000"],
    ),
    "in lower case": ("iban=gb82west12345698765432", ["gb82west12345698765432"]),
    "in lower case, printed": ("de89 3704 0044 0532 0130 00.", ["de89 3704 0044 0532 0130 00"]),
    "with dashes": ("DE89-3704-0044-0532-0130-00", ["DE89-3704-0044-0532-0130-00"]),
    "with dots, the shortest": ("No93.8601.1117.947", ["No93.8601.1117.947"]),
    "after an escaped line's end": (r"IBAN:\nGB82WEST12345698765432", ["GB82WEST12345698765432"]),
    "after a control character in JSON": (r"a\u0009GB82WEST12345698765432", ["GB82WEST12345698765432"]),
    "after a line's end in a URL": ("?q=a%0D%0agb82west12345698765432", ["gb82west12345698765432"]),
    "in json": ('{"iban":"DE89370400440532013000"}', ["DE89370400440532013000"]),
}


@pytest.mark.parametrize(("text", "numbers"), FOUND.values(), ids=FOUND)
def test_an_iban_is_found_as_written_and_as_printed(text, numbers):
    assert [text[start:end] for start, end in Iban().spans(text)] == numbers


ALONE = {
    "wrong check digits": "GB83WEST12345698765432",
    "too short for its country": "GB82WEST1234569876543",
    "too long for its country": "GB82WEST123456987654321",
    "inside a word": "XGB82WEST12345698765432",
    "no such country": "XX82WEST12345698765432",
    "two spaces": "GB82  WEST 1234 5698 7654 32",
    "groups of other sizes in lower case": "gb82 we st12 3456 9876 5432",
    "two kinds of separators": "GB82-WEST.1234-5698.7654-32",
    "nothing": "",
}


@pytest.mark.parametrize("text", ALONE.values(), ids=ALONE)
def test_what_is_no_iban_is_left_alone(text):
    assert list(Iban().spans(text)) == []


def test_the_partial_form_shows_the_last_four_characters():
    assert Iban().partial("GB82 WEST 1234 5698 7654 32") == "****5432"
