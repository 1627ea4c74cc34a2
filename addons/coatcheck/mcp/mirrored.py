"""Headers that mirror the body of a POST (MCP 2026-07-28, streamable-http, "Standard Request Headers").

Law: the body decides; a header that says something else refuses the request.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from coatcheck.errors import HEADER_MISMATCH, INVALID_PARAMS, Refusal
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.methods import FIRST_STATELESS, METHODS, VERSION_META

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


def _mismatch(header: str, member: str) -> Refusal:
    return Refusal("header-mismatch", f"{header} does not agree with the body's {member}", code=HEADER_MISMATCH)
