"""A POSTed body read into the calls it makes.

Law: what is evaluated is what is forwarded; a body that two readers could take for two things is refused.
Law: the body decides. Headers that mirror it (MCP 2026-07-28) must agree with it, and are refused where no server
would check them.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeIs

from coatcheck.errors import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, UNSUPPORTED_VERSION, Refusal
from coatcheck.mcp.call import Call, Json, RequestId
from coatcheck.mcp.methods import (
    BATCH_VERSION,
    FIRST_STATELESS,
    METHODS,
    VERSION_META,
    VERSIONS,
    Method,
    is_notification,
)
from coatcheck.mcp.strict_json import dump_json, parse_json

MAX_BATCH = 50
MAX_NAME = 256
"""Characters of a tool's or prompt's name and of a task's id."""
MAX_URI = 8192
"""Characters of a resource's URI."""
MAX_ID = 2**53 - 1
"""Beyond this a JavaScript server rounds an id, and two requests could get one answer."""

_JSON_TYPE = re.compile(r'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?', re.IGNORECASE | re.ASCII)
_METHOD = re.compile(r"[A-Za-z0-9_/$.-]{1,128}")
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Inspected:
    """One POST, understood.

    `calls` holds one call, or several for a batch; `body` the canonical bytes to forward, exactly what was
    evaluated; `version` the protocol version the message claims (None where it claims none, as `initialize` does);
    `ids` the ids that must be answered; `value` what `body` says, None where it was not read as JSON.
    """

    calls: tuple[Call, ...]
    body: bytes
    kind: Literal["request", "notification", "batch"]
    version: str | None
    ids: tuple[RequestId, ...]
    value: Json = None


class UnsupportedVersion(Refusal):
    """A protocol version that is not known: 400 and -32022, with the known ones to choose from (MCP 2026-07-28)."""

    def __init__(self, requested: str) -> None:
        shown = requested if re.fullmatch(r"[0-9A-Za-z.-]{1,32}", requested) else "?"
        super().__init__(
            "unsupported-version",
            f"protocol version {shown} is not known",
            code=UNSUPPORTED_VERSION,
            details={"supported": list(VERSIONS), "requested": shown},
        )


def inspect_post(body: bytes, headers: Mapping[str, str]) -> Inspected:
    """Reads one POST to an MCP endpoint. `headers`: lower-case names, single values.

    Raises `Refusal`: 415 for a body that is not plain `application/json`, 400 for everything else. The reasons are
    those of `parse_json` and `unsupported-media-type`, `not-a-message`, `response-not-accepted`,
    `batch-not-accepted`, `bad-id`, `bad-method`, `bad-params`, `missing-version`, `unsupported-version`,
    `header-mismatch`. Follows JSON-RPC 2.0 and the Streamable HTTP transport of every version.
    """
    _check_media_type(headers)
    claimed = headers.get("mcp-protocol-version")
    if claimed is not None and claimed not in VERSIONS:
        raise UnsupportedVersion(claimed)
    message = parse_json(body)
    if isinstance(message, list):
        return _inspect_batch(message, headers, claimed)
    call = _read_message(message)
    version = _check_headers(message, call, headers, claimed)
    return Inspected(
        calls=(call,),
        body=dump_json(message),
        kind="notification" if call.id is None else "request",
        version=version,
        ids=() if call.id is None else (call.id,),
        value=message,
    )


def peek_id(body: bytes) -> RequestId | None:
    """The id to answer a refused body with: that of a strictly parseable object, else None."""
    try:
        message = parse_json(body)
    except Refusal:
        return None
    if not isinstance(message, dict):
        return None
    found = message.get("id")
    return found if _is_id(found) else None


def _check_media_type(headers: Mapping[str, str]) -> None:
    media_type = headers.get("content-type", "")
    if media_type != "application/json" and not _JSON_TYPE.fullmatch(media_type.strip(" \t")):
        raise Refusal("unsupported-media-type", "content-type must be application/json in UTF-8", status=415)
    if "content-encoding" in headers:
        raise Refusal("unsupported-media-type", "a compressed body is not accepted", status=415)


def _inspect_batch(messages: list[Json], headers: Mapping[str, str], claimed: str | None) -> Inspected:
    """A JSON-RPC batch (2025-03-26 only): every element is read; one bad element refuses all."""
    if claimed != BATCH_VERSION:
        raise _invalid("batch-not-accepted", f"arrays are accepted only under protocol version {BATCH_VERSION}")
    if not 1 <= len(messages) <= MAX_BATCH:
        raise _invalid("batch-not-accepted", f"a batch holds 1 to {MAX_BATCH} messages")
    calls = []
    for message in messages:
        call = _read_message(message)
        if call.method == "initialize":
            raise _invalid("batch-not-accepted", "initialize must not be part of a batch")
        _check_headers(message, call, headers, claimed)
        calls.append(call)
    ids = tuple(call.id for call in calls if call.id is not None)
    if len({str(one) for one in ids}) != len(ids):  # clients take 1 and "1" for the same id
        raise _invalid("bad-id", "two requests of the batch have the same id")
    return Inspected(tuple(calls), dump_json(messages), "batch", claimed, ids, messages)


def _read_message(message: Json) -> Call:
    """One request or notification (JSON-RPC 2.0 sections 4 and 4.1), nothing else in it."""
    if not isinstance(message, dict):
        raise _invalid("not-a-message", "the body is not a JSON-RPC object")
    if "result" in message or "error" in message:
        raise _invalid("response-not-accepted", "responses to a server's requests are not accepted")
    if message.get("jsonrpc") != "2.0":
        raise _invalid("not-a-message", 'jsonrpc must be "2.0"')
    if not message.keys() <= _MEMBERS:
        raise _invalid("not-a-message", "a message has only the members jsonrpc, id, method and params")
    method = message.get("method")
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise _invalid("bad-method", "method must be a plain string of 1 to 128 characters")
    request_id = _read_id(message, method)
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise _invalid("bad-params", "params must be an object")
    return _read_call(method, params, request_id)


def _read_id(message: dict[str, Json], method: str) -> RequestId | None:
    if is_notification(method):
        if "id" in message:
            raise _invalid("bad-id", "a notification has no id")
        return None
    if "id" not in message:
        raise _invalid("bad-id", f"{method} is a request and must carry an id")
    found = message["id"]
    if not _is_id(found):
        raise _invalid("bad-id", "id must be a string or a whole number below 2^53")
    return found


def _is_id(value: Json) -> TypeIs[RequestId]:
    """A string or an integer; `true` is an `int` to Python, so types are compared exactly."""
    return type(value) is str or (type(value) is int and -MAX_ID <= value <= MAX_ID)


def _read_call(method: str, params: dict[str, Json], request_id: RequestId | None) -> Call:
    """The call of one message; `_meta` belongs to the transport, not to what is asked for."""
    if not isinstance(params.get("_meta", {}), dict):
        raise _invalid("bad-params", "params._meta must be an object")
    asked = {name: value for name, value in params.items() if name != "_meta"}
    known = METHODS.get(method)
    if known is None or known.param is None:
        return Call("mcp", method, params=asked, id=request_id)
    name = _read_name(known, known.param, asked)
    arguments = asked.get("arguments", {}) if known.arguments else {}
    if not isinstance(arguments, dict):
        raise _invalid("bad-params", "params.arguments must be an object")
    return Call("mcp", method, name, arguments, asked, request_id)


def _read_name(method: Method, param: str, params: dict[str, Json]) -> str:
    """What the call asks for, by name: a tool, prompt or task, a resource's URI, or a completion's reference."""
    if method.names == "completion":
        reference = params.get("ref")
        if not isinstance(reference, dict) or reference.get("type") not in ("ref/prompt", "ref/resource"):
            raise _invalid("bad-params", "params.ref must be a prompt or resource reference")
        param = "name" if reference["type"] == "ref/prompt" else "uri"
        params = reference
    name = params.get(param)
    if not isinstance(name, str) or not 1 <= len(name) <= (MAX_URI if param == "uri" else MAX_NAME):
        raise _invalid("bad-params", f"{method.name} needs {param} as a string that is neither empty nor very long")
    return name


def _check_headers(message: Json, call: Call, headers: Mapping[str, str], claimed: str | None) -> str | None:
    """The version the message claims, once header and body agree (streamable-http, "Server Validation").

    Under a version whose servers do not check the mirrored headers they are refused, not ignored: whatever reads
    them downstream would trust a value that the body never carried.
    """
    declared = _declared_version(message)
    if declared is not _ABSENT and declared != claimed:
        raise _mismatch("mcp-protocol-version", "_meta")
    method, name = headers.get("mcp-method"), headers.get("mcp-name")
    if claimed is None or claimed < FIRST_STATELESS:
        if method is not None or name is not None:
            raise _mismatch("mcp-method and mcp-name", "protocol version, which does not have them")
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


def _invalid(reason: str, message: str) -> Refusal:
    return Refusal(reason, message, code=INVALID_REQUEST)
