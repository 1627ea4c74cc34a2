"""What a refused caller is told (DESIGN 5.4), in the form its client understands.

Law: an answer carries the caller's own id, exactly; null only where no id could be read.
"""

from collections.abc import Mapping
from typing import Literal

from coatcheck.errors import INVALID_PARAMS, Refusal
from coatcheck.mcp.call import Json, RequestId
from coatcheck.mcp.sse import Event
from coatcheck.mcp.strict_json import dump_json


def error_body(request_id: RequestId | None, refusal: Refusal) -> bytes:
    """`error_message` as bytes."""
    return dump_json(error_message(request_id, refusal))


def error_message(request_id: Json, refusal: Refusal) -> dict[str, Json]:
    """A JSON-RPC 2.0 error response (section 5.1) with `code`, `message` and `data`; or what is told in its place."""
    if refusal.told is not None:
        return {"jsonrpc": "2.0", "id": request_id, **refusal.told}
    error: dict[str, Json] = {"code": refusal.code, "message": refusal.message, "data": refusal.data()}
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def told_of_tool(
    style: Literal["error", "tool_error", "hide"], tool: str | None, message: str, *, is_stateless: bool = False
) -> Mapping[str, Json] | None:
    """What a caller is told whose call of `tool` a rule denies, in that rule's `deny_style`; None for the usual error.

    `hide` is the error of a tool that does not exist, as the specification shows it (server/tools, "Error Handling"),
    without its name for one in a batch (`tool` is None). `tool_error` is a result of the tool that says it failed,
    which a language model gets to read; `is_stateless` is for versions from 2026-07-28 on, whose results say what
    they are.
    """
    match style:
        case "hide":
            said = "Unknown tool" if tool is None else f"Unknown tool: {tool}"
            return {"error": {"code": INVALID_PARAMS, "message": said}}
        case "tool_error":
            result: dict[str, Json] = {"content": [{"type": "text", "text": message}], "isError": True}
            return {"result": {**result, "resultType": "complete"} if is_stateless else result}
        case "error":
            return None


def error_event(request_id: RequestId | None, refusal: Refusal, *, name: str = "message") -> Event:
    """`error_body` as a Server-Sent Event named `message`; clients ignore events of other names."""
    return Event(data=error_body(request_id, refusal).decode(), event=name)


def problem_status(refusal: Refusal) -> int:
    """The HTTP status of `problem_body`: the refusal's, but 403 where only JSON-RPC clients are told with 200."""
    return 403 if refusal.status == 200 else refusal.status


def problem_body(refusal: Refusal) -> bytes:
    """`application/problem+json` (RFC 9457) for plain HTTP APIs: its members, then those of the refusal's data."""
    return dump_json(
        {
            "type": f"urn:coatcheck:{refusal.reason}",
            "title": refusal.reason.replace("-", " "),
            "status": problem_status(refusal),
            "detail": refusal.message,
            **refusal.data(),
        }
    )
