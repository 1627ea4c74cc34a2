"""What a refused caller is told (DESIGN 5.4), in the form its client understands.

Law: an answer carries the caller's own id, exactly; null only where no id could be read.
"""

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json, RequestId
from coatcheck.mcp.sse import Event
from coatcheck.mcp.strict_json import dump_json


def error_body(request_id: RequestId | None, refusal: Refusal) -> bytes:
    """`error_message` as bytes."""
    return dump_json(error_message(request_id, refusal))


def error_message(request_id: Json, refusal: Refusal) -> dict[str, Json]:
    """A JSON-RPC 2.0 error response (section 5.1) with `code`, `message` and `data`."""
    error: dict[str, Json] = {"code": refusal.code, "message": refusal.message, "data": refusal.data()}
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def error_event(request_id: RequestId | None, refusal: Refusal) -> bytes:
    """`error_body` as one Server-Sent Event named `message`; clients ignore events of other names."""
    return Event(data=error_body(request_id, refusal).decode(), event="message").encode()


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
