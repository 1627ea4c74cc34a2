"""A POSTed body read into the calls it makes.

Law: what is evaluated is what is forwarded; a body that two readers could take for two things is refused.
Law: the body decides. Headers that mirror it (MCP 2026-07-28) must agree with it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from coatcheck.errors import INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, Refusal
from coatcheck.mcp.call import Call, Json, RequestId
from coatcheck.mcp.capabilities import without_undeclared
from coatcheck.mcp.client_answers import ClientAnswer, read_answer, settle
from coatcheck.mcp.correlation import AskedOfClient
from coatcheck.mcp.methods import BATCH_VERSION, FIRST_STATELESS, METHODS, VERSIONS, Method, is_notification
from coatcheck.mcp.mirrored import check_mirrored
from coatcheck.mcp.request_ids import is_request_id
from coatcheck.mcp.spelling import has_twins
from coatcheck.mcp.strict_json import dump_json, parse_json

MAX_BATCH = 50
MAX_NAME = 256
"""Characters of a tool's or prompt's name and of a task's id."""
MAX_URI = 8192
"""Characters of a resource's URI."""
MAX_LISTENED = 500
"""Resources that one `subscriptions/listen` is about."""

_JSON_TYPE = re.compile(r'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?', re.IGNORECASE | re.ASCII)
_METHOD = re.compile(r"[A-Za-z0-9_/$.-]{1,128}")
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_PROTOTYPE = b'"__proto__":'
"""In what `dump_json` writes this stands at a member of that name; inside a text its last quote would be escaped."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """One POST, understood.

    `calls` holds one call, or several for a batch; `body` the canonical bytes to forward, exactly what was
    evaluated; `version` the protocol version the message claims (None where it claims none, as `initialize` does);
    `ids` the ids that must be answered; `value` what `body` says, None where it was not read as JSON. `answers` are
    the client's answers to what the server asked: no calls until `settle_answers` has found out what they answer.
    """

    calls: tuple[Call, ...]
    body: bytes
    kind: Literal["request", "notification", "batch"]
    version: str | None
    ids: tuple[RequestId, ...]
    value: Json = None
    answers: tuple[ClientAnswer, ...] = ()


class UnsupportedVersion(Refusal):
    """A protocol version that is not known: 400 and -32022, with the known ones to choose from (MCP 2026-07-28)."""

    def __init__(self, requested: str, supported: Sequence[str] = VERSIONS) -> None:
        shown = requested if re.fullmatch(r"[0-9A-Za-z.-]{1,32}", requested) else "?"
        super().__init__(
            "unsupported-version",
            f"protocol version {shown} is not known",
            code=UNSUPPORTED_VERSION,
            details={"supported": list(supported), "requested": shown},
        )


def _anything(_method: str) -> bool:
    return True


def inspect_post(
    body: bytes,
    headers: Mapping[str, str],
    *,
    may_ask: Callable[[str], bool] = _anything,
    supported: Sequence[str] = VERSIONS,
    negotiated: Collection[str] = (),
) -> Inspected:
    """Reads one POST to an MCP endpoint. `headers`: lower-case names, single values.

    Client capabilities whose methods the server may not ask (`may_ask`) are taken out. `supported` are the versions
    to name where the request's is not known; `negotiated` those its conversation has agreed on.
    Raises `Refusal`: 415 for a body that is not plain `application/json`, 404 for a method that the version does not
    have, 400 for everything else. The reasons are those of `parse_json` and `unsupported-media-type`,
    `not-a-message`, `response-not-accepted`, `batch-not-accepted`, `bad-id`, `bad-method`, `bad-params`,
    `unknown-method`, `missing-version`, `unsupported-version`, `header-mismatch`, `reserved-member`. Follows
    JSON-RPC 2.0 and the Streamable HTTP transport of every version.
    """
    _check_media_type(headers)
    claimed = headers.get("mcp-protocol-version")
    if claimed is not None and claimed not in VERSIONS:
        raise UnsupportedVersion(claimed, supported)
    message = parse_json(body)
    if isinstance(message, list):
        return _inspect_batch(message, headers, claimed, negotiated)
    message = without_undeclared(message, may_ask)
    read = _read_message(message, claimed)
    if isinstance(read, ClientAnswer):
        _check_unmirrored(headers)
        return Inspected((), _canonical(message), "notification", claimed, (), message, (read,))
    version = check_mirrored(message, read, headers, claimed)
    return Inspected(
        calls=(read, *listened(read)),
        body=_canonical(message),
        kind="notification" if read.id is None else "request",
        version=version,
        ids=() if read.id is None else (read.id,),
        value=message,
    )


def settle_answers(inspected: Inspected, take: Callable[[RequestId], AskedOfClient | None]) -> Inspected:
    """`inspected` with its answers as calls of the methods they answer. `take` says what an id was asked as, and
    forgets it. Raises `Refusal` (400, `response-not-accepted`) where nothing was.
    """
    settled = [settle(answer, take(answer.id)) for answer in inspected.answers]
    calls = (*inspected.calls, *(call for call, _ in settled))
    messages: list[Json] = [answer.encoded() for _, answer in settled]
    found = inspected.value
    asked = [one for one in found if isinstance(one, dict) and "method" in one] if isinstance(found, list) else []
    value: Json = [*asked, *messages] if inspected.kind == "batch" else messages[0]
    return replace(inspected, calls=calls, body=dump_json(value), value=value, answers=())


def peek_id(body: bytes) -> RequestId | None:
    """The id to answer a refused body with: that of a strictly parseable object, else None. The id of a response is
    the server's own, and stands for another request to the client.
    """
    try:
        message = parse_json(body)
    except Refusal:
        return None
    if not isinstance(message, dict) or "result" in message or "error" in message:
        return None
    found = message.get("id")
    return found if is_request_id(found) else None


def _check_media_type(headers: Mapping[str, str]) -> None:
    media_type = headers.get("content-type", "")
    if media_type != "application/json" and not _JSON_TYPE.fullmatch(media_type.strip(" \t")):
        raise Refusal("unsupported-media-type", "content-type must be application/json in UTF-8", status=415)
    if "content-encoding" in headers:
        raise Refusal("unsupported-media-type", "a compressed body is not accepted", status=415)


def _inspect_batch(
    messages: list[Json], headers: Mapping[str, str], claimed: str | None, negotiated: Collection[str]
) -> Inspected:
    """A JSON-RPC batch (2025-03-26 only): every element is read; one bad element refuses all.

    Clients of that version send no version header, which came with 2025-06-18: without it, the handshake decides.
    """
    if claimed != BATCH_VERSION and (claimed is not None or BATCH_VERSION not in negotiated):
        raise _invalid("batch-not-accepted", f"arrays are accepted only under protocol version {BATCH_VERSION}")
    if not 1 <= len(messages) <= MAX_BATCH:
        raise _invalid("batch-not-accepted", f"a batch holds 1 to {MAX_BATCH} messages")
    calls: list[Call] = []
    answers: list[ClientAnswer] = []
    for message in messages:
        read = _read_message(message, claimed)
        if isinstance(read, ClientAnswer):
            answers.append(read)
            continue
        if read.method == "initialize":
            raise _invalid("batch-not-accepted", "initialize must not be part of a batch")
        check_mirrored(message, read, headers, claimed)
        calls += (read, *listened(read))
    if answers:
        _check_unmirrored(headers)
    ids = tuple(call.id for call in calls if call.id is not None)
    if len({str(one) for one in ids}) != len(ids):  # clients take 1 and "1" for the same id
        raise _invalid("bad-id", "two requests of the batch have the same id")
    return Inspected(tuple(calls), _canonical(messages), "batch", claimed, ids, messages, tuple(answers))


def _canonical(message: Json) -> bytes:
    """What is forwarded. A member `__proto__` is refused: servers that merge objects take it for the object's type."""
    body = dump_json(message)
    if _PROTOTYPE in body:
        raise _invalid("reserved-member", "a member named __proto__ is not forwarded")
    return body


def _check_unmirrored(headers: Mapping[str, str]) -> None:
    if "mcp-method" in headers or "mcp-name" in headers:
        raise _invalid("response-not-accepted", "a response has neither mcp-method nor mcp-name")


def _read_message(message: Json, claimed: str | None) -> Call | ClientAnswer:
    """One request, notification or response (JSON-RPC 2.0 sections 4, 4.1 and 5), nothing else in it."""
    if not isinstance(message, dict):
        raise _invalid("not-a-message", "the body is not a JSON-RPC object")
    if message.get("jsonrpc") != "2.0":
        raise _invalid("not-a-message", 'jsonrpc must be "2.0"')
    if "result" in message or "error" in message:
        if claimed is not None and claimed >= FIRST_STATELESS:
            raise _invalid("response-not-accepted", f"from {FIRST_STATELESS} on a client posts no responses")
        return read_answer(message)
    if not message.keys() <= _MEMBERS:
        raise _invalid("not-a-message", "a message has only the members jsonrpc, id, method and params")
    method = message.get("method")
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise _invalid("bad-method", "method must be a plain string of 1 to 128 characters")
    if has_twins(message, method):
        raise _invalid("twin-member", "a member looks like one that MCP has, but is not spelt like it")
    request_id = _read_id(message, method)
    _check_direction(method, claimed)
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise _invalid("bad-params", "params must be an object")
    return _read_call(method, params, request_id)


def _check_direction(method: str, claimed: str | None) -> None:
    """Refuses what only a server sends, and what the claimed version no longer has (`basic/index`: 404, -32601)."""
    known = METHODS.get(method)
    is_stateless = claimed is not None and claimed >= FIRST_STATELESS
    if known is not None and (known.sender == "server" or (known.was_removed and is_stateless)):
        raise Refusal("unknown-method", f"{method} is not a method of a server", status=404, code=METHOD_NOT_FOUND)


def _read_id(message: dict[str, Json], method: str) -> RequestId | None:
    if is_notification(method):
        if "id" in message:
            raise _invalid("bad-id", "a notification has no id")
        return None
    if "id" not in message:
        raise _invalid("bad-id", f"{method} is a request and must carry an id")
    found = message["id"]
    if not is_request_id(found):
        raise _invalid("bad-id", "id must be a string or a whole number below 2^53")
    return found


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


def listened(call: Call) -> tuple[Call, ...]:
    """What `subscriptions/listen` subscribes to by its URI (MCP 2026-07-28), each as the call that it was before: a
    rule on the method says that a caller may listen, not to what.
    """
    if call.method != "subscriptions/listen":
        return ()
    wanted = call.params.get("notifications", {})
    uris = wanted.get("resourceSubscriptions", []) if isinstance(wanted, dict) else None
    if not isinstance(uris, list) or len(uris) > MAX_LISTENED:
        raise _invalid("bad-params", f"notifications.resourceSubscriptions must be a list of at most {MAX_LISTENED}")
    subscribe = METHODS["resources/subscribe"]
    return tuple(
        Call("mcp", subscribe.name, _read_name(subscribe, "uri", {"uri": uri}), {}, {"uri": uri}) for uri in uris
    )


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


def _invalid(reason: str, message: str) -> Refusal:
    return Refusal(reason, message, code=INVALID_REQUEST)
