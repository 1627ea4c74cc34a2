"""International bank account numbers (ISO 13616: country, check digits, mod 97; the country says the length).

Law: a number counts when it stands alone, between characters that are neither letters nor digits; an escape of a
control character, as of a line's end, is none of its letters. As the standard
writes it, in upper case, single spaces may stand anywhere inside; in any case it is found in one piece or in groups of
four with one kind of separator.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from coatcheck.masking.detectors.slices import matches

_LENGTHS: Mapping[str, int] = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO",
            16: "BE",
            18: "DK FI FK FO GL NL SD",
            19: "MK SI",
            20: "AT BA EE KZ LT LU MN XK",
            21: "CH HR LI LV",
            22: "BG BH CR DE GB GE IE ME RS VA",
            23: "AE GI IL IQ OM SO TL",
            24: "AD CZ ES MD PK RO SA SE SK TN VG",
            25: "LY PT ST",
            26: "IS TR",
            27: "BI DJ FR GR IT MC MR SM",
            28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
            29: "BR EG PS QA UA",
            30: "JO KW MU YE",
            31: "MT SC",
            32: "LC",
            33: "RU",
        }.items()
        for country in countries.split()
    }
)
"""Characters of an IBAN, by country (SWIFT IBAN registry)."""

_SHAPES: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        country: re.compile(
            rf"(?:[A-Z]{{2}}(?: ?[0-9]){{2}}(?: ?[A-Z0-9]){{{length - 4}}}"
            rf"|[A-Za-z]{{2}}[0-9]{{2}}([ ./+_-]?)(?:[A-Za-z0-9]{{4}}\1){{{(length - 5) // 4}}}"
            rf"[A-Za-z0-9]{{{(length - 5) % 4 + 1}}})(?![A-Za-z0-9])"
        )
        for country, length in _LENGTHS.items()
    }
)
# Digits are rarer than letters, so the search jumps from digit to digit and looks back for the letters.
_HEAD = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9]) ?[0-9]")
_KINDS = bytes.maketrans(
    b"BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz123456789", b"A" * 25 + b"a" * 25 + b"0" * 9
)
_ALIKE = bytes.maketrans(b"BCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz123456789", b"A" * 51 + b"0" * 9)
_CONTROL = re.compile(r"(?:\\(?:[bfnrtv]|(?:u00|x)[01][0-9A-Fa-f])|%[01][0-9A-Fa-f])\Z")
_LONGEST_CONTROL = 6
_COUNTRIES = frozenset(country.encode() for country in _LENGTHS)
_BEGINNING = re.compile(rb"([ ./+_-]?)[A-Za-z0-9]{4}\1[A-Za-z0-9]{4}\1[A-Za-z0-9]{3}")
_SEPARATORS = str.maketrans("", "", " ./+_-")
_AS_NUMBER = str.maketrans({chr(code): str(code - 55) for code in range(ord("A"), ord("Z") + 1)})


class Iban:
    """`GB82 WEST 1234 5698 7654 32`, shown in part as `****5432`."""

    name = "iban"

    def may_hold(self, data: bytes) -> bool:
        """Whether check digits come after a country, and after one in small letters also what may follow."""
        kinds = data.translate(_KINDS)
        at = kinds.find(b"A0", 1)
        while at > 0:
            if kinds.startswith((b"00", b"0 0"), at + 1) and data[at - 1 : at + 1].upper() in _COUNTRIES:
                return True
            at = kinds.find(b"A0", at + 2)
        at = kinds.find(b"a00", 1)
        while at > 0:
            if data[at - 1 : at + 1].upper() in _COUNTRIES and _BEGINNING.match(data, at + 3):
                return True
            at = kinds.find(b"a00", at + 3)
        return False

    def places(self, data: bytes) -> int:
        """Every country and check digits."""
        return data.translate(_ALIKE, b" ").count(b"AA00")

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every IBAN, separators inside it included."""
        found = []
        for head in matches(_HEAD, text, reach=3):
            start = head.start() - 2
            shape = _SHAPES.get(text[start : start + 2].upper())
            if shape is None or (start and _is_word(text[start - 1]) and not _is_after_control(text, start)):
                continue
            number = shape.match(text, start)
            if number and _passes_mod_97(number[0].translate(_SEPARATORS).upper()):
                found.append(number.span())
        return found

    def partial(self, found: str) -> str:
        """The last four characters."""
        return f"****{found.translate(_SEPARATORS)[-4:]}"


def _is_word(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _is_after_control(text: str, start: int) -> bool:
    """Whether an escape ends here that stands for a control character, in JSON that is not read, a log or a URL."""
    return _CONTROL.search(text[max(0, start - _LONGEST_CONTROL) : start]) is not None


def _passes_mod_97(iban: str) -> bool:
    """ISO 7064 MOD 97-10: the first four characters moved to the end, letters as 10 to 35."""
    return int((iban[4:] + iban[:4]).translate(_AS_NUMBER)) % 97 == 1
