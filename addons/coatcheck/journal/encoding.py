"""A record's fields as one line of JSON text.

Law: any value gives text; encoding never raises.
Law: the text is one line of ASCII, valid JSON, with no string over 4 KiB and no lone surrogate.

Ordinary fields take the first way, the C encoder at one pass. Whatever it cannot take, or could have let through
too long, is cleaned by a walk that has a budget, so that a cycle or a bomb ends as an ellipsis.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime

from coatcheck.mcp.call import Json

MAX_STRING = 4096
"""UTF-8 bytes of one string; a longer one is cut and its digest appended."""
MAX_RECORD = 256 * 1024
"""Characters and nodes a cleaned record may hold, about; what comes after is an ellipsis."""
MAX_DEPTH = 32
RESERVED = frozenset({"seq", "at", "kind", "prev", "hash"})
"""The chain's own keys; a field of that name is written with an underscore behind it."""

_compact = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_fields(fields: Mapping[str, Json]) -> str:
    """`"caller":"shop-ci","server":"github"`: the members of a JSON object, without its braces."""
    text = _ordinary(fields)
    return (_compact(_clean_fields(fields)) if text is None else text)[1:-1]


def cap(text: str) -> str:
    """The text, cut at 4 KiB of UTF-8 with `…sha256:<digest>` of the whole appended; surrogates replaced."""
    clean = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    if len(clean) * 4 <= MAX_STRING:
        return clean
    data = clean.encode()
    if len(data) <= MAX_STRING:
        return clean
    return f"{data[:MAX_STRING].decode(errors='ignore')}…sha256:{hashlib.sha256(data).hexdigest()}"


def _ordinary(fields: Mapping[str, Json]) -> str | None:
    """The object's text, where nothing in it can need cleaning."""
    try:
        plain = dict(fields)
        text = _compact(plain)
    except Exception:  # noqa: BLE001 - a value's own methods may raise anything; the walk then names what it was
        return None
    fine = RESERVED.isdisjoint(plain) and len(text) <= MAX_STRING and "\\ud" not in text
    return text if fine else None


def _clean_fields(fields: Mapping[str, Json]) -> dict[str, Json]:
    walk = _Walk()
    cleaned = walk.value(fields, 0)
    if not isinstance(cleaned, dict):
        return {"fields": cleaned}
    return {f"{key}_" if key in RESERVED else key: value for key, value in cleaned.items()}


class _Walk:
    """One pass over a record that gives plain JSON values, until its budget is spent."""

    def __init__(self) -> None:
        self._left = MAX_RECORD

    def value(self, value: object, depth: int) -> Json:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            return "…"
        try:
            return self._plain(value, depth)
        except Exception:  # noqa: BLE001 - a value's own methods may raise anything; the record must still be written
            return f"<unreadable {type(value).__name__}>"

    def _plain(self, value: object, depth: int) -> Json:
        match value:
            case None | True | False:
                return value
            case str():
                return self._text(str(value))
            case int():
                return int(value) if value.bit_length() <= 1024 else f"<integer of {value.bit_length()} bits>"
            case float():
                return float(value) if math.isfinite(value) else str(float(value))
            case datetime() | date():
                return value.isoformat()
            case bytes() | bytearray() | memoryview():
                return f"<{len(value)} bytes sha256:{hashlib.sha256(value).hexdigest()}>"
            case Mapping():
                return self._mapping(value, depth)
            case Sequence() | AbstractSet():
                return self._sequence(value, depth)
            case _:
                return f"<{type(value).__name__}>"

    def _text(self, text: str) -> str:
        capped = cap(text)
        self._left -= len(capped)
        return capped if self._left >= 0 else f"…sha256:{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, Json]:
        out: dict[str, Json] = {}
        for key, member in value.items():
            if self._left < 0:
                out["…"] = "…"
                break
            name = str(key) if isinstance(key, str | int | float) else f"<{type(key).__name__}>"
            out[self._text(name)] = self.value(member, depth + 1)
        return out

    def _sequence(self, value: Sequence[object] | AbstractSet[object], depth: int) -> list[Json]:
        out: list[Json] = []
        for member in value:
            out.append(self.value(member, depth + 1))
            if self._left < 0:
                break
        return out
