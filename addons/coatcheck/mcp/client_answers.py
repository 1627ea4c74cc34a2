"""A client's answers to what a server asked it (sampling, elicitation, roots; up to MCP 2025-11-25).

Law: an answer is data that leaves for the server: it is a call like any other, of the method that was asked.
Law: an answer to what nobody asked is refused.
"""

from dataclasses import dataclass

from coatcheck.errors import INVALID_REQUEST, POLICY_DENIED, Refusal
from coatcheck.mcp.call import Call, Json, RequestId
from coatcheck.mcp.correlation import AskedOfClient
from coatcheck.mcp.methods import METHODS
from coatcheck.mcp.request_ids import is_request_id

_RESULT = frozenset({"jsonrpc", "id", "result"})
_ERROR = frozenset({"jsonrpc", "id", "error"})


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """One response: `content` is its `result` or its `error`, by that name."""

    id: RequestId
    content: dict[str, Json]

    def encoded(self) -> dict[str, Json]:
        """The response as a JSON-RPC message."""
        return {"jsonrpc": "2.0", "id": self.id, **self.content}


def read_answer(message: dict[str, Json]) -> ClientAnswer:
    """A response (JSON-RPC 2.0 section 5). Raises `Refusal` (400): `response-not-accepted`, `bad-id`."""
    if message.keys() not in (_RESULT, _ERROR):
        raise _refused("a response has jsonrpc, id and either result or error, and nothing else")
    found = message["id"]
    if not is_request_id(found):
        raise Refusal("bad-id", "id must be a string or a whole number below 2^53", code=INVALID_REQUEST)
    name = "result" if "result" in message else "error"
    if not isinstance(message[name], dict):
        raise _refused(f"{name} must be an object")
    return ClientAnswer(found, {name: message[name]})


def settle(answer: ClientAnswer, asked: AskedOfClient | None) -> tuple[Call, ClientAnswer]:
    """An answer as a call of the method that was asked, and what to send.

    Where the client was pinged in place of a denied request, the server is told of the denial instead, and the call
    is a `ping` that names the method which was denied. Raises `Refusal` (400, `response-not-accepted`) where nothing
    was asked.
    """
    if asked is None:
        raise _refused("nobody asked for this response")
    if asked.is_denied:
        return Call("mcp", "ping", asked.method if asked.method in METHODS else None), _denial(answer.id, asked.method)
    return Call("mcp", asked.method, params=answer.content), answer


def _denial(request_id: RequestId, method: str) -> ClientAnswer:
    data: Json = {"reason": "policy-denied", "retryable": False}
    return ClientAnswer(
        request_id, {"error": {"code": POLICY_DENIED, "message": f"the policy does not allow {method}", "data": data}}
    )


def _refused(message: str) -> Refusal:
    return Refusal("response-not-accepted", message, code=INVALID_REQUEST)
