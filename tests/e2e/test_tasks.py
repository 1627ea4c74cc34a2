"""Tasks through a real gateway: whose they are, what of their answers is masked, and which call they came from."""

import json
from collections.abc import Iterator

import pytest
from far_end import FarEnd, Heard, gateway_with, json_answer
from raw import RawClient

from coatcheck.journal.read import records
from story.cast import Cast
from story.processes import Gateway

pytestmark = pytest.mark.e2e

EMAIL = "ann@shop.example"
ANSWER = {"content": [{"type": "text", "text": f"paid back to {EMAIL}"}], "isError": False}
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


def results(heard: Heard) -> Iterator[bytes]:
    """A server that answers every call with the task t-1, and every question about it with its tool's answer."""
    asked = json.loads(heard.body)
    is_new = heard.headers.get("mcp-protocol-version") == "2026-07-28"
    match asked["method"]:
        case "tools/call":
            state = {"taskId": "t-1", "status": "working"}
            result = {"resultType": "task", **state} if is_new else {"task": state}
        case "tasks/result":
            result = ANSWER
        case "tasks/list":
            result = {"tasks": [{"taskId": "t-1", "statusMessage": EMAIL}, {"taskId": "t-2", "statusMessage": EMAIL}]}
        case _:
            result = {"taskId": "t-1", "status": "completed", "result": ANSWER}
    yield json_answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())


@pytest.fixture(scope="module")
def far(cast: Cast) -> Iterator[FarEnd]:
    with FarEnd(cast.authority.server_cert("localhost", "127.0.0.1"), results) as far:
        yield far


@pytest.fixture(scope="module")
def gateway(cast: Cast, far: FarEnd) -> Iterator[Gateway]:
    policy = f"""
coatcheck: 1
identities:
  neighbour: {{issuer: ci, claims: {{repository_id: "90210"}}, groups: [ci]}}
servers:
  far: {{url: "https://{far.authority}/mcp", ca: "{cast.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: far-tools, who: [group:ci], server: far, tools: ["*"], methods: ["tasks/*"], effect: allow}}
masks:
  - {{id: far-people, server: far, detect: [email], as: redact}}
"""
    with gateway_with(cast, policy) as gateway:
        yield gateway


class Caller:
    """One identity and its messages, in one version of the protocol."""

    def __init__(self, cast: Cast, gateway: Gateway, authority: str, version: str, repository_id: str) -> None:
        self._client = RawClient(gateway, cast, authority=authority).tunnel(cast.token(repository_id=repository_id))
        self._version = version

    def ask(self, method: str, **params: object) -> dict:
        """The JSON-RPC answer."""
        headers = {"MCP_Protocol_Version": self._version}
        if self._version == "2026-07-28":
            params["_meta"] = {VERSION: self._version, CAPABILITIES: TASKS}
            headers |= {"Mcp_Method": method, "Mcp_Name": str(params.get("name") or params.get("taskId"))}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        reply = self._client.post(body, **headers)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json["id"] == 1
        return reply.json


@pytest.fixture
def callers(cast: Cast, gateway: Gateway, far: FarEnd):
    return lambda version: [Caller(cast, gateway, far.authority, version, n) for n in ("74627617", "90210")]


@pytest.mark.parametrize(
    ("version", "method"), [("2025-11-25", "tasks/get"), ("2025-11-25", "tasks/result"), ("2026-07-28", "tasks/get")]
)
def test_a_task_answers_its_caller_masked_and_nobody_else(
    far: FarEnd, gateway: Gateway, callers, version, method
) -> None:
    mine, theirs = callers(version)
    assert "t-1" in json.dumps(mine.ask("tools/call", name="refund", arguments={})["result"])
    text = json.dumps(mine.ask(method, taskId="t-1")["result"])
    assert "paid back to" in text
    assert EMAIL not in text
    before = len(far.heard)
    unknown = [theirs.ask(method, taskId="t-1")["error"], mine.ask(method, taskId="t-9")["error"]]
    assert unknown[0] == unknown[1]
    assert (unknown[0]["code"], unknown[0]["data"]["reason"]) == (-32602, "unknown-task")
    assert len(far.heard) == before
    calls = records(gateway.state / "journal", kind="request")
    made, asked = [record for record in calls if record["server"] == "far"][-2:]
    assert asked["calls"][0]["method"] == method
    assert asked["made_task"] == {"exchange": made["exchange"], "method": "tools/call", "name": "refund"}
    assert "made_task" not in made


def test_tasks_are_listed_to_who_made_them(callers) -> None:
    mine, theirs = callers("2025-11-25")
    mine.ask("tools/call", name="refund", arguments={})
    listed = mine.ask("tasks/list")["result"]["tasks"]
    assert [task["taskId"] for task in listed] == ["t-1"]
    assert EMAIL not in json.dumps(listed)
    assert theirs.ask("tasks/list")["result"]["tasks"] == []
