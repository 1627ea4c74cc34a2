"""Conversations of one caller: nobody else enters them, and what a server asks is decided like a call."""

import json

import pytest
from ground import REPOSITORY_ID, denied
from server import Answer, Heard, Peer, good, response
from streams import HEAD

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

NEIGHBOUR = "90210"
"""The repository of an identity with the same rules."""
SESSION = "s-of-the-job"


def rpc(method: str, params: dict, request_id: int | None = 1) -> bytes:
    made = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(made if request_id is None else made | {"id": request_id}).encode()


WHO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
CALL = rpc("tools/call", {"name": "get_order", "arguments": {}})


def giving_a_session(peer: Peer, heard: Heard) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": WHO | {"serverInfo": {"name": "s", "version": "1"}}})
    peer.send(response(body.encode(), f"Mcp-Session-Id: {SESSION}"))


def asking(*messages: dict) -> Answer:
    """A stream of these messages, which then ends."""

    def answer(peer: Peer, heard: Heard) -> None:
        data = b"".join(b"id: ev-%d\ndata: %s\n\n" % (n, json.dumps(m).encode()) for n, m in enumerate(messages))
        peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))

    return answer


class Caller:
    """One identity and its requests to the MCP server, each over a tunnel of its own."""

    def __init__(self, ground, repository_id: str = REPOSITORY_ID) -> None:
        self._ground = ground
        self._repository_id = repository_id

    def send(self, body: bytes, *more: str, first: str = "POST /mcp HTTP/1.1", answer: Answer = good):
        token = self._ground.token(repository_id=self._repository_id)
        with self._ground.api.answering(answer), self._ground.client().tunnel(token) as client:
            return client.outcome(self._ground.post(body, first=first, more=more))

    def begin(self) -> str:
        """Initialises a session; its header line."""
        assert self.send(rpc("initialize", WHO), answer=giving_a_session).headers["mcp-session-id"] == SESSION
        return f"Mcp-Session-Id: {SESSION}"


@pytest.mark.attack("MCP-40")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_session_of_one_caller_does_not_exist_for_another(ground, method) -> None:
    with ground.watch(refusals=1, arrive=2):
        line = Caller(ground).begin()
        body = CALL if method == "POST" else b""
        reply = Caller(ground, NEIGHBOUR).send(body, line, first=f"{method} /mcp HTTP/1.1")
        denied(reply, 404, "unknown-session")
        assert Caller(ground).send(CALL, line).status == 200


@pytest.mark.attack("MCP-40")
def test_a_session_that_is_guessed_and_an_event_that_was_never_sent_do_not_exist(ground) -> None:
    with ground.watch(refusals=2, arrive=1):
        denied(Caller(ground).send(CALL, "Mcp-Session-Id: guessed"), 404, "unknown-session")
        line = Caller(ground).begin()
        reply = Caller(ground).send(b"", line, "Last-Event-ID: ev-99", first="GET /mcp HTTP/1.1")
        denied(reply, 404, "unknown-event")


@pytest.mark.attack("MCP-41")
@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", "http://localhost:1", "https://localhost.evil.example"]
)
def test_a_request_from_another_origin_is_refused(ground, origin) -> None:
    with ground.watch(refusals=1, arrive=1):
        denied(Caller(ground).send(CALL, f"Origin: {origin}"), 403, "origin-refused")
        assert Caller(ground).send(CALL, f"Origin: https://{ground.api.authority}").status == 200


ASKS = {
    "sampling": {
        "jsonrpc": "2.0",
        "id": 5,
        "method": "sampling/createMessage",
        "params": {"messages": ["secret plan"]},
    },
    "elicitation": {"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {"message": "secret plan"}},
    "roots": {"jsonrpc": "2.0", "id": 5, "method": "roots/list", "params": {"x": "secret plan"}},
    "a tool of the client": {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "secret plan"}},
    "nothing known": {"jsonrpc": "2.0", "id": 5, "method": "x/y", "params": {"x": "secret plan"}},
}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}


@pytest.mark.attack("MCP-46")
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_what_a_server_asks_without_a_rule_does_not_reach_the_client(ground, ask) -> None:
    with ground.watch(refusals=2, arrive=2) as watch:
        reply = Caller(ground).send(CALL, answer=asking(ask, DONE))
        assert b"secret plan" not in reply.body
        assert b'"result"' in reply.body
        # the client answers the ping that came in its place, and the server hears of the denial
        assert b'"method":"ping"' in reply.body
        Caller(ground).send(b'{"jsonrpc":"2.0","id":5,"result":{}}', answer=good)
        told = json.loads(watch.arrived()[-1].body)
        assert (told["id"], told["error"]["data"]["reason"]) == (5, "policy-denied")
        denied(Caller(ground).send(b'{"jsonrpc":"2.0","id":5,"result":{}}'), 400, "response-not-accepted")


@pytest.mark.attack("MCP-46")
def test_what_a_rule_lets_it_ask_does(ground) -> None:
    ask = {"jsonrpc": "2.0", "id": 6, "method": "roots/list"}
    reply = None
    with ground.watch(refusals=0, arrive=2) as watch:
        reply = Caller(ground, NEIGHBOUR).send(CALL, answer=asking(ask, DONE))
        assert b'"method":"roots/list"' in reply.body.replace(b" ", b"")
        answer = b'{"jsonrpc":"2.0","id":6,"result":{"roots":[]}}'
        assert Caller(ground, NEIGHBOUR).send(answer).status == 200
        assert watch.arrived()[-1].body == answer


@pytest.mark.attack("MCP-28")
def test_an_answer_of_a_caller_that_was_not_asked_is_refused(ground) -> None:
    ask = {"jsonrpc": "2.0", "id": 7, "method": "roots/list"}
    answer = b'{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}'
    with ground.watch(refusals=2, arrive=2):
        Caller(ground, NEIGHBOUR).send(CALL, answer=asking(ask, DONE))
        denied(Caller(ground).send(answer), 400, "response-not-accepted")
        assert Caller(ground, NEIGHBOUR).send(answer).status == 200
        denied(Caller(ground, NEIGHBOUR).send(answer), 400, "response-not-accepted")
