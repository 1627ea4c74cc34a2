"""JSON read so that every reader sees the same value (RFC 8259, I-JSON RFC 7493).

Law: what parses here parses to the same value in any language, or is refused: one encoding, no member twice
(nor twice by case, compatibility or NUL folding), no number that changes when written again.
Law: what is forwarded is `dump_json` of what was evaluated, never the bytes that came.
`parse_data` is for what servers give: nobody decides by it, and names and numbers in data are what they are.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from decimal import Decimal
from itertools import accumulate
from json.decoder import JSONDecoder
from json.encoder import JSONEncoder
from math import isinf
from types import MappingProxyType
from typing import NoReturn, cast

from coatcheck.errors import INVALID_REQUEST, PARSE_ERROR, Refusal
from coatcheck.mcp.call import Json

MAX_DEPTH = 64
"""Arrays and objects around a value."""
MAX_DIGITS = 4000
"""Digits of one number; Python itself gives up at 4,300, other parsers round or take quadratic time."""

_FEW = 8
"""Objects up to which it is quicker to check each one's names."""
_MINUS_ZERO = re.compile(r"-0(?![0-9.eE])")
_BRACKETS_ONLY = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_STEPS = MappingProxyType({ord("["): 1, ord("]"): -1})
_SLICE = 64 * 1024
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """The one value in `data`. `max_depth` counts arrays and objects around a value.

    Raises `Refusal` (400): code `PARSE_ERROR` with reason `malformed-json` or `not-utf8`; code `INVALID_REQUEST`
    with reason `too-deep`, `duplicate-member`, `twin-member`, `lone-surrogate` or `inexact-number`.
    """
    return _parsed(data, max_depth, _read)


def parse_data(data: bytes, *, twins_below: Collection[str] | None = None) -> Json:
    """As `parse_json`, but a number may be more precise than a double, and is read as the nearest one, as most clients
    read it; and members of an object may differ in case or Unicode form alone: everywhere, or only in the values of
    members with one of the names `twins_below`. Half of a surrogate pair, as a text has that was cut off in a
    character, is read as U+FFFD. A byte order mark before it is ignored (RFC 8259 section 8.1).
    """
    data = data.removeprefix(_BOMS[0])
    return _parsed(data, MAX_DEPTH, lambda text, _braces: _read_data(text, twins_below), mends=True)


def _parsed(data: bytes, max_depth: int, read: Callable[[str, int], Json], *, mends: bool = False) -> Json:
    if data.startswith(_BOMS) or b"\0" in data[:4]:
        raise Refusal("not-utf8", "the body must be UTF-8 without a byte order mark", code=PARSE_ERROR)
    braces = data.count(b"{")
    if data.count(b"[") + braces > max_depth and _is_deeper(data, max_depth):
        raise _invalid("too-deep", f"arrays and objects are nested deeper than {max_depth}")
    try:
        value = read(data.decode(), braces)
    except UnicodeDecodeError as error:
        raise Refusal("not-utf8", f"the body is not UTF-8 at byte {error.start}", code=PARSE_ERROR) from None
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg.lower()} at character {error.pos}"
        raise Refusal("malformed-json", message, code=PARSE_ERROR) from None
    except RecursionError:
        raise _invalid("too-deep", f"arrays and objects are nested deeper than {max_depth}") from None
    if b"\\u" in data and _SURROGATE_ESCAPE.search(data) and _has_lone_surrogate(value):
        if mends:
            return _parsed(_mended(value), max_depth, read)
        raise _invalid("lone-surrogate", "a string holds half of a surrogate pair")
    return value


def dump_json(value: Json) -> bytes:
    """`value` as compact UTF-8, members in their order. Raises `ValueError` on NaN, infinities and lone surrogates."""
    return _ENCODER.encode(value).encode()


def _is_deeper(data: bytes, depth: int) -> bool:
    """Whether brackets outside strings nest deeper than `depth`; without recursion, in slices so that threads go on."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    is_inside = False
    level = 0
    for start in range(0, len(plain), _SLICE):
        parts = plain[start : start + _SLICE].split(b'"')
        brackets = b"".join(parts[is_inside::2]).translate(_ONE_KIND, _BRACKETS_ONLY)
        is_inside ^= len(parts) % 2 == 0
        levels = list(accumulate(map(_STEPS.__getitem__, brackets), initial=level))
        if max(levels) > depth:
            return True
        level = levels[-1]
    return False


def _read(text: str, braces: int) -> Json:
    """The value in `text`. Names are checked object by object, or, where that is quicker, all of them together."""
    if braces <= _FEW:
        return _decoded(_SMALL, text)
    value, objects = _collected(text, _float)
    if not _are_distinct(set[str]().union(*objects)):
        for one in objects:
            _check_names(one)
    return value


def _read_data(text: str, twins_below: Collection[str] | None) -> Json:
    value, objects = _collected(text, _nearest)
    if twins_below is not None and not _are_distinct(set[str]().union(*objects)):
        for one in _objects_outside(value, twins_below):
            _check_names(one)
    return value


def _objects_outside(value: Json, names: Collection[str]) -> Iterator[dict[str, Json]]:
    """All objects but those in the values of members with one of these names."""
    todo = [value]
    for node in todo:  # which grows meanwhile
        if isinstance(node, list):
            todo += node
        elif isinstance(node, dict):
            yield node
            todo += [member for key, member in node.items() if key not in names]


def _collected(text: str, read_float: Callable[[str], float]) -> tuple[Json, list[dict[str, Json]]]:
    """The value in `text`, and all objects in it. Raises `Refusal` for a member twice."""
    objects: list[dict[str, Json]] = []

    def keep(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        value = {name: member for name, member in pairs}  # noqa: C416  # twice as quick as dict(pairs)
        if len(value) != len(pairs):
            raise _invalid("duplicate-member", "an object has a member twice")
        objects.append(value)
        return value

    # `int` reads what `_integer` reads, only quicker, where no number is too long and none is minus zero.
    is_plain = len(text) <= MAX_DIGITS and not ("-0" in text and _MINUS_ZERO.search(text))
    read_integer = int if is_plain else _integer
    decoder = JSONDecoder(
        object_pairs_hook=keep, parse_int=read_integer, parse_float=read_float, parse_constant=_constant
    )
    return _decoded(decoder, text), objects


def _decoded(decoder: JSONDecoder, text: str) -> Json:
    """As `decoder.decode`, which looks for white space where hardly any body has some."""
    if text[:1] in " \t\r\n":
        return cast("Json", decoder.decode(text))
    value, end = decoder.raw_decode(text)
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise json.JSONDecodeError("Extra data", text, end)
    return cast("Json", value)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = {name: member for name, member in pairs}  # noqa: C416  # twice as quick as dict(pairs)
    if len(value) != len(pairs):
        raise _invalid("duplicate-member", "an object has a member twice")
    _check_names(value)
    return value


def _are_distinct(names: set[str]) -> bool:
    """Whether no reader takes two of `names` for one, as far as a quick look can tell."""
    joined = "".join(names)
    return joined.isascii() and "\0" not in joined and len(set(map(str.lower, names))) == len(names)


def _check_names(value: dict[str, Json]) -> None:
    """Refuses an object of which some reader takes two members for one."""
    names = "".join(value)
    if "\0" in names:
        raise _invalid("twin-member", "a member's name holds a NUL")
    if names.isascii():
        if not names.islower() and len({name.lower() for name in value}) != len(value):
            raise _invalid("twin-member", "two members of an object differ only in case")
    elif len({folded(name) for name in value}) != len(value):
        raise _invalid("twin-member", "two members of an object differ only in case or in Unicode form")


def folded(name: str) -> str:
    """The name as the most lenient known reader compares it (CVE-2026-27896: `ſ` is `s`, the Kelvin sign is `k`)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).upper().casefold())


def _integer(literal: str) -> int | float:
    if len(literal) > MAX_DIGITS and len(literal.lstrip("-")) > MAX_DIGITS:
        raise _invalid("inexact-number", f"a number has more than {MAX_DIGITS} digits")
    return -0.0 if literal == "-0" else int(literal)


def _float(literal: str) -> float:
    value = float(literal) if len(literal) <= MAX_DIGITS else float("inf")
    written = repr(value)
    if written != literal and (written in {"inf", "-inf"} or Decimal(written) != Decimal(literal)):
        raise _invalid("inexact-number", "a number cannot be written again with the same value")
    return value


def _nearest(literal: str) -> float:
    value = float(literal) if len(literal) <= MAX_DIGITS else float("inf")
    if isinf(value):
        raise _invalid("inexact-number", "a number is too large, or has too many digits")
    return value


def _constant(_literal: str) -> NoReturn:
    raise Refusal("malformed-json", "NaN and Infinity are not JSON", code=PARSE_ERROR)


def _has_lone_surrogate(value: Json) -> bool:
    try:
        dump_json(value)
    except UnicodeEncodeError:
        return True
    return False


def _mended(value: Json) -> bytes:
    """`value` as JSON, with U+FFFD for each half of a surrogate pair."""
    return _ENCODER.encode(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _invalid(reason: str, message: str) -> Refusal:
    return Refusal(reason, message, code=INVALID_REQUEST)


_SMALL = JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_ENCODER = JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
