"""Payment card numbers (ISO/IEC 7812-1: 13 to 19 digits, Luhn check digit).

Law: a number counts when it stands alone: not inside a longer run of digits, in one piece or in the groups cards
are printed in (4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4) with one kind of separator.
Only numbers of payment networks (first digit 2 to 6) count: a timestamp in milliseconds begins with 1.
"""

import re
from collections.abc import Iterable, Iterator

_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")
_KINDS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))
_THIRTEEN = b"0" * 13
_GROUP = re.compile(r"[0-9]+")
_DOUBLED = bytes.maketrans(b"0123456789", bytes(sum(divmod(2 * digit, 10)) + 48 for digit in range(10)))
_LAYOUTS = frozenset(
    {(4, 6, 4), (4, 6, 5)} | {(4, 4, 4, last) for last in range(1, 5)} | {(4, 4, 4, 4, last) for last in range(1, 4)}
)


class CreditCard:
    """`4111 1111 1111 1111`, shown in part as `****1111`."""

    name = "credit-card"

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every card number, separators inside it included."""
        if _THIRTEEN not in text.encode(errors="replace").translate(_KINDS, b" -"):
            return ()  # a quarter of what the search costs, and most texts end here
        return [span for run in _RUN.finditer(text) for span in _cards(text, run.start(), run.end())]

    def partial(self, found: str) -> str:
        """The last four digits."""
        return f"****{_digits(found)[-4:]}"


def _cards(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The card numbers in one run of digits and single separators, all of them, overlapping ones too."""
    groups = [group.span() for group in _GROUP.finditer(text, start, end)]
    lengths = [stop - begin for begin, stop in groups]
    for first, (begin, stop) in enumerate(groups):
        if text[begin] not in "23456":
            continue
        if 13 <= lengths[first] <= 19 and _passes_luhn(text[begin:stop]):
            yield begin, stop
        if lengths[first] != 4:
            continue
        for count in (3, 4, 5):
            layout = tuple(lengths[first : first + count])
            if len(layout) == count and layout in _LAYOUTS:
                end = groups[first + count - 1][1]
                candidate = text[begin:end]
                if not (" " in candidate and "-" in candidate) and _passes_luhn(_digits(candidate)):
                    yield begin, end


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: from the right, every second digit doubled, digits summed, divisible by ten."""
    values = digits.encode()
    total = sum(values[::-2]) + sum(values[-2::-2].translate(_DOUBLED)) - 48 * len(values)
    return total % 10 == 0
