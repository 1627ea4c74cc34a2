"""Payment card numbers (ISO/IEC 7812-1: 13 to 19 digits, Luhn check digit).

Law: a number counts when it stands alone: not inside a longer run of digits, in one piece or in the groups cards
are printed in (4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4, 4-3-3-3) with one kind of separator.
Only numbers of payment networks (first digit 2 to 6) count: a timestamp in milliseconds begins with 1.
"""

import re
from collections.abc import Iterable

from coatcheck.masking.detectors.slices import SLICE, matches

# The first digit of a group, and what begins with it and may be a card: the number in one piece, or its first groups.
# Only that digit is consumed, so numbers that overlap are found too. That no digit stands before it is looked at after
# it, because a search for a digit is quicker.
_START = re.compile(
    r"""
    [2-6] (?<! [0-9][2-6]) (?= (
        [0-9]{3} (?: [0-9]{9,15} | ([ ]{1,2}|[ ]?[./+_-][ ]?) (?:
            [0-9]{6} \2 [0-9]{4,5} | [0-9]{4} \2 [0-9]{4} \2 [0-9]{1,4} | [0-9]{3} \2 [0-9]{3} \2 [0-9]{3}
        ) )
    ) (?! [0-9]) )
    """,
    re.VERBOSE,
)
_FIFTH_GROUP = re.compile(r"[0-9]{1,3}(?![0-9])")
_MAY_BE = re.compile(
    rb"[2-6][0-9]{3}(?:[0-9]{9}| ?[ ./+_-] ?(?:[0-9]{6} ?[ ./+_-] ?[0-9]{4}|[0-9]{3,4} ?[ ./+_-] ?[0-9]{3}))"
)
_REACH = 40
_SEPARATORS = b" ./+_-"
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_SHORTEST = b"0" * 13
_WITHOUT = str.maketrans("", "", _SEPARATORS.decode())
_DOUBLED = bytes.maketrans(b"0123456789", bytes(sum(divmod(2 * digit, 10)) + 48 for digit in range(10)))


class CreditCard:
    """`4111 1111 1111 1111`, shown in part as `****1111`."""

    name = "credit-card"

    def may_hold(self, data: bytes) -> bool:
        """Whether there are 13 digits with nothing but separators between them, which begin as a card's."""
        if _SHORTEST not in data.translate(_DIGITS_ALIKE, _SEPARATORS):
            return False
        # one search lets no other thread run; a shorter text is told from one of timestamps, say
        return len(data) > SLICE or _MAY_BE.search(data) is not None

    def places(self, data: bytes) -> int:
        """Every 13 digits, separators or not."""
        return data.translate(_DIGITS_ALIKE, _SEPARATORS).count(_SHORTEST)

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every card number, separators inside it included."""
        found: list[tuple[int, int]] = []
        for match in matches(_START, text, reach=_REACH):
            start, end = match.start(), match.end(1)
            if _passes_luhn(text[start:end]):
                found.append((start, end))
            separator = match[2]
            if separator and end - start == 16 + 3 * len(separator) and text.startswith(separator, end):
                fifth = _FIFTH_GROUP.match(text, end + len(separator))
                if fifth and _passes_luhn(text[start : fifth.end()]):
                    found.append((start, fifth.end()))
        return found

    def partial(self, found: str) -> str:
        """The last four digits."""
        return f"****{_digits(found)[-4:]}"


def _digits(text: str) -> str:
    return text.translate(_WITHOUT)


def _passes_luhn(number: str) -> bool:
    """ISO/IEC 7812-1 annex B: from the right, every second digit doubled, digits summed, divisible by ten."""
    values = _digits(number).encode()
    total = sum(values[::-2]) + sum(values[-2::-2].translate(_DOUBLED)) - 48 * len(values)
    return total % 10 == 0
