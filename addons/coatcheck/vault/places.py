"""The places of a request a secret may go to, found and rewritten byte for byte.

Law: what is not replaced keeps its bytes; a replacement is never looked at again (one pass).
Law: a placeholder is its exact bytes; another case, an escape or a split is not it.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from coatcheck.vault.bindings import pointer_segments

type Replacements = Mapping[bytes, bytes]
"""Placeholder to value."""

type Encode = Callable[[bytes], bytes]

type Headers = tuple[tuple[bytes, bytes], ...]
type BodyKind = Literal["form", "json"] | None

BASIC = re.compile(rb"(basic +)([A-Za-z0-9+/]+=*)[ \t]*", re.IGNORECASE)
SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


class AmbiguousBody(Exception):
    """A JSON body that two readers may read differently."""


def same(value: bytes) -> bytes:
    """No encoding."""
    return value


def url_encoded(value: bytes) -> bytes:
    """RFC 3986 percent-encoding of everything but the unreserved characters."""
    return quote_from_bytes(value, safe="").encode()


def json_escaped(value: bytes) -> bytes:
    """The inside of a JSON string (RFC 8259 section 7). Raises `ValueError` where it is not UTF-8."""
    return json.dumps(value.decode(), ensure_ascii=False)[1:-1].encode()


def replace(text: bytes, replacements: Replacements, encode: Encode = same) -> bytes:
    """Every exact placeholder replaced in one pass, so a value that holds a placeholder stays as it is."""
    if not any(placeholder in text for placeholder in replacements):
        return text
    pattern = re.compile(b"|".join(map(re.escape, replacements)))
    return pattern.sub(lambda found: encode(replacements[found[0]]), text)


def basic_pair(value: bytes) -> bytes | None:
    """The decoded `user:password` of a Basic header (RFC 7617); None where it is not one."""
    found = BASIC.fullmatch(value)
    if not found:
        return None
    try:
        return base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None


def replace_in_header(value: bytes, replacements: Replacements) -> bytes:
    """A header's value with placeholders replaced, as they are or inside a Basic pair."""
    pair = basic_pair(value)
    if pair is None:
        return replace(value, replacements)
    changed = replace(pair, replacements)
    found = BASIC.fullmatch(value)
    return value if changed == pair or not found else found[1] + base64.b64encode(changed)


def split_path(path: bytes) -> tuple[bytes, bytes | None]:
    """The path and its query; None where there is no `?`."""
    before, mark, query = path.partition(b"?")
    return before, query if mark else None


def fields(text: bytes) -> list[tuple[bytes, bytes]]:
    """The `name=value` parts of a query or a form: the name decoded, the whole part as it stands."""
    return [(unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")), part) for part in text.split(b"&")]


def replace_in_fields(text: bytes, by_name: Mapping[bytes, Replacements]) -> bytes:
    """A query or form with placeholders replaced in the values of the named fields, URL-encoded."""
    out = []
    for name, part in fields(text):
        head, mark, value = part.partition(b"=")
        out.append(head + mark + replace(value, by_name.get(name, {}), url_encoded))
    return b"&".join(out)


def set_field(query: bytes | None, name: bytes, value: bytes) -> bytes:
    """A query in which this value is the only one of its name."""
    kept = [part for other, part in fields(query or b"") if other != name and part]
    return b"&".join([*kept, url_encoded(name) + b"=" + url_encoded(value)])


def body_kind(headers: Headers) -> BodyKind:
    """What a body can be searched as; None where its type is another, not told once, or it is encoded."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    encodings = [value for name, value in headers if name.lower() == b"content-encoding"]
    if len(types) != 1 or any(value.strip().lower() != b"identity" for value in encodings):
        return None
    match types[0].partition(b";")[0].strip().lower():
        case b"application/x-www-form-urlencoded":
            return "form"
        case b"application/json":
            return "json"
        case _:
            return None


def pointed_span(body: bytes, pointer: str) -> tuple[int, int] | None:
    """Where in the bytes the string a JSON pointer names stands between its quotes (RFC 6901), if there is one.

    Raises `AmbiguousBody` where an object on the way has the name twice: readers differ on which one counts.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    span = _string_span(text, pointer)
    return None if span is None else (len(text[: span[0]].encode()), len(text[: span[1]].encode()))


def replace_pointed(body: bytes, by_pointer: Mapping[str, Replacements]) -> bytes:
    """A JSON body with placeholders replaced in the strings the pointers name.

    All are found first and replaced from the end, so no replacement moves or feeds another. Raises as `pointed_span`.
    """
    spans = [(span, swaps) for pointer, swaps in by_pointer.items() if (span := pointed_span(body, pointer))]
    for (start, end), swaps in sorted(spans, key=lambda item: item[0], reverse=True):
        body = body[:start] + replace(body[start:end], swaps, json_escaped) + body[end:]
    return body


def _string_span(body: str, pointer: str) -> tuple[int, int] | None:
    try:
        position = _skip(body, 0)
        for segment in pointer_segments(pointer):
            found = _member(body, position, segment)
            if found is None:
                return None
            position = found
        if body[position : position + 1] != '"':
            return None
        _, end = DECODER.raw_decode(body, position)
    except (json.JSONDecodeError, RecursionError):
        return None
    return position + 1, end - 1


def _skip(body: str, position: int) -> int:
    found = SPACE.match(body, position)
    return found.end() if found else position


def _member(body: str, position: int, segment: str) -> int | None:
    """Where the member of that name, or the item of that index, begins."""
    match body[position : position + 1]:
        case "{":
            return _object_member(body, position, segment)
        case "[" if segment == "0" or (segment.isdecimal() and segment.isascii() and segment[0] != "0"):
            return _array_item(body, position, int(segment))
        case _:
            return None


def _object_member(body: str, position: int, segment: str) -> int | None:
    found: int | None = None
    position = _skip(body, position + 1)
    while body[position : position + 1] == '"':
        name, end = DECODER.raw_decode(body, position)
        start = _skip(body, _skip(body, end) + 1)  # past the colon
        if name == segment:
            if found is not None:
                raise AmbiguousBody("the name is there twice")
            found = start
        _, end = DECODER.raw_decode(body, start)
        position = _skip(body, end)
        if body[position : position + 1] == ",":
            position = _skip(body, position + 1)
    return found


def _array_item(body: str, position: int, index: int) -> int | None:
    position = _skip(body, position + 1)
    for current in range(index + 1):
        if body[position : position + 1] in {"]", ""}:
            return None
        if current == index:
            return position
        _, end = DECODER.raw_decode(body, position)
        position = _skip(body, _skip(body, end) + 1)  # past the comma
    return None
