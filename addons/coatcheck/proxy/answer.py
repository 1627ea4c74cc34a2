"""Refusals as HTTP responses (DESIGN 5.4).

Law: the caller's exact JSON-RPC id, `application/json`, and nothing a server or a stack trace said.
"""

from mitmproxy import http

from coatcheck.errors import UNAUTHENTICATED, Refusal
from coatcheck.exchange import Exchange
from coatcheck.mcp.answers import error_body, error_event, error_message, problem_body
from coatcheck.mcp.call import RequestId
from coatcheck.mcp.legacy_sse import EndpointRefused
from coatcheck.mcp.strict_json import dump_json

REALM = 'realm="coatcheck"'


def answer(refusal: Refusal, exchange: Exchange | None = None) -> http.Response:
    """The response for a refused request: JSON-RPC, problem+json for a plain HTTP API, 202 for a notification, and
    202 for what is told on a stream of the HTTP+SSE transport instead.
    """
    if exchange is not None and exchange.endpoint is not None and _is_told_on_stream(refusal, exchange):
        return accepted()
    if exchange is not None and exchange.is_notification and refusal.status == 200:
        return accepted()
    plain = exchange is not None and exchange.server is not None and not exchange.is_mcp
    if plain:
        status = 403 if refusal.status == 200 else refusal.status
        body, kind = problem_body(refusal), "application/problem+json"
    else:
        status = refusal.status
        body, kind = _error(refusal, exchange), "application/json"
    headers = {"content-type": kind, "cache-control": "no-store", **challenge(refusal, exchange)}
    if "retry_after" in refusal.details:
        headers["retry-after"] = str(refusal.details["retry_after"])  # whole seconds (RFC 9110 section 10.2.3)
    response = http.Response.make(status, body, headers)
    if refusal.code == UNAUTHENTICATED:
        response.data.reason = _phrase(refusal)  # some clients show no more of a 401 than its status line
    return response


def _error(refusal: Refusal, exchange: Exchange | None) -> bytes:
    """The JSON-RPC error; for a batch an array with one for each request in it (JSON-RPC 2.0 section 6)."""
    inspected = exchange.inspected if exchange is not None else None
    if inspected is not None and inspected.kind == "batch":
        return dump_json([error_message(one, refusal) for one in inspected.ids])
    return error_body(exchange.request_id if exchange else None, refusal)


def accepted() -> http.Response:
    """202 without a body: what a notification is answered with."""
    return http.Response.make(202, b"", {"content-length": "0"})


def _is_told_on_stream(refusal: Refusal, exchange: Exchange) -> bool:
    """Puts the refusal of a POST onto the stream that its answer is awaited on, once; False where it cannot be.

    Clients of that transport read no answer to a POST, and some end their session at any status but a good one.
    """
    stream = exchange.stream
    if stream is None or stream.is_over:
        return False
    ids = exchange.inspected.ids if exchange.inspected is not None else ()
    if not ids and exchange.request_id is not None:
        ids = (exchange.request_id,)
    if not ids:
        return exchange.is_notification
    if not exchange.told_on_stream:
        exchange.told_on_stream = True
        if refusal.reason != "bad-id":  # with that id another request still waits
            stream.give_up(ids)
            stream.send([error_event(one, refusal) for one in ids])
    return refusal.reason != "bad-id"


def last_events(refusal: Refusal, exchange: Exchange) -> bytes:
    """What a stream that failed ends with: an error for each request that still waits for its answer on it."""
    if isinstance(refusal, EndpointRefused):
        return error_event(None, refusal, name="error").encode()
    if exchange.stream is None or exchange.endpoint is not None:
        waiting: list[RequestId | None] = [*exchange.unanswered.values()] or [exchange.request_id]
        return b"".join(error_event(one, refusal).encode() for one in waiting)
    return b"".join(error_event(one, refusal).encode() for one in exchange.stream.give_up())


def challenge(refusal: Refusal, exchange: Exchange | None = None) -> dict[str, str]:
    """The authentication challenge that belongs to a 401 or 407 (RFC 6750 section 3, RFC 7617, RFC 9728 section 5)."""
    if refusal.status == 407:
        return {"proxy-authenticate": f"Basic {REALM}"}
    if refusal.status == 401:
        error = "" if refusal.reason == "token-missing" else ', error="invalid_token"'
        url = exchange.metadata_url if exchange is not None else None
        metadata = f', resource_metadata="{url}"' if url is not None else ""
        return {"www-authenticate": f"Bearer {REALM}{error}{metadata}"}
    return {}


def connect_answer(refusal: Refusal) -> http.Response:
    """The answer to a refused CONNECT: clients show at most its reason phrase."""
    response = answer(refusal)
    if response.status_code < 400:
        response.status_code = 403  # anything less would open the tunnel
    response.data.reason = _phrase(refusal)
    response.headers["connection"] = "close" if refusal.status != 407 else "keep-alive"
    return response


def _phrase(refusal: Refusal) -> bytes:
    """The refusal as a reason phrase of printable ASCII (RFC 9112 section 4)."""
    phrase = f"coatcheck: {refusal.message}".encode("ascii", "replace")[:200]
    return bytes(byte if 0x20 <= byte < 0x7F else 0x20 for byte in phrase)
