"""International bank account numbers (ISO 13616: country, check digits, mod 97; the country says the length).

Law: a number counts when it stands alone, between characters that are neither letters nor digits. Upper case only,
as the standard writes it; single spaces may stand anywhere inside.
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
        country: re.compile(rf"[A-Z]{{2}}(?: ?[0-9]){{2}}(?: ?[A-Z0-9]){{{length - 4}}}(?![A-Za-z0-9])")
        for country, length in _LENGTHS.items()
    }
)
# Digits are rarer than letters, so the search jumps from digit to digit and looks back for the letters.
_HEAD = re.compile(r"[0-9](?<=[A-Z]{2}[0-9]) ?[0-9]")
_KINDS = bytes.maketrans(b"BCDEFGHIJKLMNOPQRSTUVWXYZ123456789", b"A" * 25 + b"0" * 9)
_AS_NUMBER = str.maketrans({chr(code): str(code - 55) for code in range(ord("A"), ord("Z") + 1)})


class Iban:
    """`GB82 WEST 1234 5698 7654 32`, shown in part as `****5432`."""

    name = "iban"

    def may_hold(self, data: bytes) -> bool:
        """Whether two capitals and two digits come after one another."""
        return b"AA00" in data.translate(_KINDS, b" ")

    def places(self, data: bytes) -> int:
        """Every country and check digits."""
        return data.translate(_KINDS, b" ").count(b"AA00")

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every IBAN, spaces inside it included."""
        found = []
        for head in matches(_HEAD, text, reach=3):
            start = head.start() - 2
            shape = _SHAPES.get(text[start : start + 2])
            if shape is None or (start and _is_word(text[start - 1])):
                continue
            number = shape.match(text, start)
            if number and _passes_mod_97(number[0].replace(" ", "")):
                found.append(number.span())
        return found

    def partial(self, found: str) -> str:
        """The last four characters."""
        return f"****{found.replace(' ', '')[-4:]}"


def _is_word(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _passes_mod_97(iban: str) -> bool:
    """ISO 7064 MOD 97-10: the first four characters moved to the end, letters as 10 to 35."""
    return int((iban[4:] + iban[:4]).translate(_AS_NUMBER)) % 97 == 1
