"""How much work a JSON body makes, counted before any of it is done.

Law: what passes here is read, searched and written by calls of which none holds the interpreter for long: what a body
costs goes by its values and escapes, not by its bytes, and one call of the JSON reader lets no other thread run.
Law: characters in strings are no values: a long text may hold any number of commas and brackets.
"""

from coatcheck.errors import INVALID_REQUEST, Refusal
from coatcheck.mcp.call import Json

MAX_VALUES = 100_000
"""Values, and members' names, of one body."""
MAX_ESCAPES = 1_000_000
MAX_LONG_NUMBERS = 1_000
"""Runs of `_LONG` digits: to write a number takes time with the square of its length."""

_LONG = b"0" * 64
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_STRUCTURE = b"[{,:"
_EDGES = {"[": "]", "{": "}", '"': '"'}
_SLICE = 256 * 1024


def check_size(data: bytes, *, most: int = MAX_VALUES) -> None:
    """Raises `Refusal` (400, `too-complex`) where JSON in `data` has more than `most` values, or is else costly."""
    if len(data) <= most:  # a value takes a byte at least, an escape two
        return
    if data.count(b"\\") > MAX_ESCAPES or data.translate(_DIGITS_ALIKE).count(_LONG) > MAX_LONG_NUMBERS:
        raise _too_complex("the JSON has too many escapes or too long numbers")
    if sum(data.count(structure) for structure in _BYTES) > most and _values(data) > most:
        raise _too_complex(f"the JSON has more than {most} values")


def check_nested(value: Json, *, most: int) -> None:
    """Raises `Refusal` as `check_size` where JSON in the strings of `value` may have more than `most` values in all.

    Written with escapes it can hide what it holds, so those count too.
    """
    todo = [value]
    left = most
    for node in todo:  # which grows meanwhile
        if isinstance(node, dict):
            todo += node.values()
        elif isinstance(node, list):
            todo += node
        elif isinstance(node, str) and _EDGES.get(node.lstrip(" \t\r\n")[:1]) == node.rstrip(" \t\r\n")[-1:]:
            left -= sum(map(node.count, ("[", "{", ",", ":", "\\u")))
    if left < 0:
        raise _too_complex(f"the JSON in strings has more than {most} values")


def _values(data: bytes) -> int:
    """The brackets, commas and colons outside strings, in slices, so that other threads go on."""
    found = 0
    is_inside = False
    start = 0
    while start < len(data):
        piece = data[start : start + _SLICE]
        start += len(piece)
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2 and start < len(data):  # the last one escapes what comes next
            piece, start = piece[:-1], start - 1
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        outside = b"".join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0
        found += sum(outside.count(structure) for structure in _BYTES)
    return found


def _too_complex(message: str) -> Refusal:
    return Refusal("too-complex", message, code=INVALID_REQUEST)


_BYTES = tuple(_STRUCTURE[at : at + 1] for at in range(len(_STRUCTURE)))
