"""Refusals as HTTP responses (DESIGN 5.4).

Law: the caller's exact JSON-RPC id, `application/json`, and nothing a server or a stack trace said.
"""

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange
from coatcheck.mcp.answers import error_body, problem_body

REALM = 'realm="coatcheck"'


def answer(refusal: Refusal, exchange: Exchange | None = None) -> http.Response:
    """The response for a refused request: JSON-RPC, problem+json for a plain HTTP API, 202 for a notification."""
    if exchange is not None and exchange.is_notification and refusal.status == 200:
        return http.Response.make(202, b"", {"content-length": "0"})
    plain = exchange is not None and exchange.server is not None and not exchange.is_mcp
    if plain:
        status = 403 if refusal.status == 200 else refusal.status
        body, kind = problem_body(refusal), "application/problem+json"
    else:
        status = refusal.status
        body, kind = error_body(exchange.request_id if exchange else None, refusal), "application/json"
    headers = {"content-type": kind, "cache-control": "no-store", **challenge(refusal, exchange)}
    if "retry_after" in refusal.details:
        headers["retry-after"] = str(refusal.details["retry_after"])  # whole seconds (RFC 9110 section 10.2.3)
    return http.Response.make(status, body, headers)


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
    phrase = f"coatcheck: {refusal.message}".encode("ascii", "replace")[:200]
    response.data.reason = phrase.replace(b"\r", b" ").replace(b"\n", b" ")
    response.headers["connection"] = "close" if refusal.status != 407 else "keep-alive"
    return response
