"""Headers that mirror the body of a POST (MCP 2026-07-28, streamable-http, "Standard Request Headers").

Law: the body decides; a header that says something else refuses the request.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from coatcheck.errors import HEADER_MISMATCH, INVALID_PARAMS, Refusal
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.methods import FIRST_STATELESS, METHODS, VERSION_META

PARAMETER = "mcp-param-"
"""How headers that mirror a tool's arguments begin."""

_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)


def check_mirrored(message: Json, call: Call, headers: Mapping[str, str], claimed: str | None) -> str | None:
    """The version the message claims, once header and body agree (streamable-http, "Server Validation").

    Under a version whose servers do not check the mirrored headers they need not be there, but what they say must be
    true all the same: whatever reads them downstream would trust a value that the body never carried.
    Raises `Refusal`: `header-mismatch`, `missing-version`.
    """
    declared = _declared_version(message)
    if declared is not _ABSENT and declared != claimed:
        raise _mismatch("mcp-protocol-version", "_meta")
    method, name = headers.get("mcp-method"), headers.get("mcp-name")
    if claimed is None or claimed < FIRST_STATELESS:
        if method not in (None, call.method):
            raise _mismatch("mcp-method", "method")
        if name is not None and (call.name is None or decode_mirrored(name) != call.name):
            raise _mismatch("mcp-name", "named thing")
        return claimed
    if call.id is not None and declared is _ABSENT:
        raise Refusal("missing-version", f"params._meta must hold {VERSION_META}", code=INVALID_PARAMS)
    if method != call.method and not (method is None and call.id is None):
        raise _mismatch("mcp-method", "method")
    known = METHODS.get(call.method)
    required = known is not None and known.mirrored
    if (name is not None or required) and (call.name is None or decode_mirrored(name) != call.name):
        raise _mismatch("mcp-name", "named thing")
    return claimed


_ABSENT = object()


def _declared_version(message: Json) -> object:
    """`params._meta`'s protocol version, or `_ABSENT`; a null there is a value like any other."""
    params = message.get("params") if isinstance(message, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta.get(VERSION_META, _ABSENT) if isinstance(meta, dict) else _ABSENT


def decode_mirrored(value: str | None) -> str | None:
    """What a mirrored header says (streamable-http, "Value Encoding"); None where it is absent or malformed.

    Either visible ASCII as it stands, or `=?base64?…?=` with canonical base64 of UTF-8; the markers are lower case.
    """
    if value is None or not value.isascii() or not value.replace("\t", " ").isprintable():
        return None
    sentinel = _SENTINEL.fullmatch(value)
    if sentinel is None:
        return value
    try:
        decoded = base64.b64decode(sentinel[1], validate=True)
        return decoded.decode() if base64.b64encode(decoded).decode() == sentinel[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def check_parameters(call: Call, headers: Mapping[str, str], definition: str) -> None:
    """Checks the `Mcp-Param-*` headers of a tool's call against its arguments (streamable-http, "Custom Headers").

    `definition` is the tool's JSON as `tools/list` gave it, "" where it is not known. A header that the tool's schema
    gives to an argument must say what that is. Any other passes, unless it has an argument's name and no argument's
    value: some schema that was not seen here may give it to that argument. Raises `Refusal` (`header-mismatch`).
    """
    given = {name.removeprefix(PARAMETER): value for name, value in headers.items() if name.startswith(PARAMETER)}
    if not given:
        return
    places = _annotated(definition)
    named = list(_primitives(call.arguments))
    for name, value in given.items():
        if name in places:
            is_true = _says(value, _at(call.arguments, places[name]))
        else:
            plain = name.replace("-", "_")
            is_named = any(one.lower().replace("-", "_") == plain for one, _ in named)
            is_true = not is_named or any(_says(value, one) for _, one in named)
        if not is_true:
            raise _mismatch(f"{PARAMETER}{name}", "arguments")


@lru_cache(maxsize=64)
def _annotated(definition: str) -> Mapping[str, tuple[str, ...]]:
    """Where the argument of each header is, by the end of the header's name in lower case."""
    tool = json.loads(definition) if definition else {}
    found: dict[str, tuple[str, ...]] = {}
    todo: list[tuple[tuple[str, ...], object]] = [((), tool.get("inputSchema"))]
    for path, schema in todo:  # which grows meanwhile
        properties = schema.get("properties") if isinstance(schema, dict) else None
        for name, property_schema in properties.items() if isinstance(properties, dict) else ():
            header = property_schema.get("x-mcp-header") if isinstance(property_schema, dict) else None
            if isinstance(header, str):
                found[header.lower()] = (*path, name)
            todo.append(((*path, name), property_schema))
    return MappingProxyType(found)


def _at(arguments: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    value: Json = dict(arguments)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _primitives(arguments: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """The texts, numbers and booleans that are reached by members alone, each with its own member's name."""
    todo = list(arguments.items())
    for name, value in todo:  # which grows meanwhile
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, str | int | float):
            yield name, value


def _says(header: str, value: Json) -> bool:
    """Whether a header is how a client writes this value; one that is null or not there has no header."""
    text = decode_mirrored(header)
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, int | float) and text is not None:
        try:
            return text.isascii() and float(text) == value
        except (ValueError, OverflowError):
            return False
    return isinstance(value, str) and text == value


def _mismatch(header: str, member: str) -> Refusal:
    return Refusal("header-mismatch", f"{header} does not agree with the body's {member}", code=HEADER_MISMATCH)
