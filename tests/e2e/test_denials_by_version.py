"""What the official Python client is told of a call that does not go, in each version over Streamable HTTP.

The id and content type are looked at on the wire: the client itself takes some answers that would hang another.
`test_legacy_sse.py` says the same of the HTTP+SSE transport of 2024-11-05.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
import pytest
from far_end import FarEnd, Heard, json_answer
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from reviewer import decide

from story.issuer import Issuer
from story.part import LOOPBACK, free_port
from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
AUDIENCE = "https://gateway.shop.example"
SERVER = {"serverInfo": {"name": "s", "version": "1"}, "capabilities": {"tools": {}}}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("read", "delete", "refund", "payout")]


@dataclass
class Spoken:
    """A server that speaks `version`, with JSON answers; `ran` are the tools that were called."""

    version: str = VERSIONS[0]
    ran: list[str] = field(default_factory=list)

    def __call__(self, heard: Heard) -> Iterator[bytes]:
        if not heard.first.startswith("POST"):
            yield b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
            return
        asked = json.loads(heard.body)
        if isinstance(asked, list):
            yield json_answer(json.dumps([self.answer(one) for one in asked]).encode())
        elif "id" in asked:
            yield json_answer(json.dumps(self.answer(asked)).encode())
        else:
            yield b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

    def answer(self, asked: dict) -> dict:
        match asked["method"]:
            case "initialize":
                result: dict[str, object] = {"protocolVersion": self.version, **SERVER}
            case "tools/list":
                result = {"tools": TOOLS, "ttlMs": 0, "cacheScope": "private"} if self.is_new else {"tools": TOOLS}
            case _:
                self.ran.append(asked["params"]["name"])
                result = {"content": [{"type": "text", "text": "done"}]}
        whole = {"resultType": "complete", **result} if self.is_new else result
        return {"jsonrpc": "2.0", "id": asked["id"], "result": whole}

    @property
    def is_new(self) -> bool:
        return self.version == "2026-07-28"


@dataclass
class Scene:
    """The server and the gateway before it."""

    server: Spoken
    far: FarEnd
    gateway: Gateway
    policy: Path
    issuer: Issuer
    reverse: int

    def token(self) -> str:
        return self.issuer.token(audience=AUDIENCE, repository_id="1")


@pytest.fixture(scope="module", params=["45s", "0s"], ids=["holding", "not holding"])
def scene(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("versions")
    server, port = Spoken(), free_port()
    with Issuer() as issuer, FarEnd(answer=server) as far:
        policy, state = folder / "policy.yaml", folder / "state"
        policy.write_text(f"""
coatcheck: 1
gateway: {{audience: {AUDIENCE}, hold: {request.param}}}
issuers:
  ci: {{issuer: "{issuer.url}", algorithms: [ES256]}}
identities:
  job: {{issuer: ci, claims: {{repository_id: "1"}}}}
reviewers:
  desk: {{local: [root]}}
servers:
  far: {{url: "http://{far.authority}/mcp", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: reads, who: [job], server: far, tools: [read], effect: allow}}
  - {{id: refunds, who: [job], server: far, tools: [refund], effect: approve, reviewers: [desk], expires: 15m}}
  - {{id: payouts, who: [job], server: far, tools: [payout], effect: approve, reviewers: [desk], expires: 1s}}
""")
        assert run_cli("init", "--state", str(state)).returncode == 0
        more = ("--reverse", f"far={LOOPBACK}:{port}")
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)
        try:
            gateway.start()
            yield Scene(server, far, gateway, policy, issuer, port)
        finally:
            gateway.kill()


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One POST of a tool call and its answer, as they were on the wire."""

    request_id: object
    status: int
    content_type: str
    answer: dict


@asynccontextmanager
async def client(scene: Scene, version: str, way: str) -> AsyncIterator[tuple[Client, list[Exchanged]]]:
    """The official client, and what went over the wire for its tool calls."""
    scene.server.version = version
    seen: list[Exchanged] = []

    async def note(response: httpx2.Response) -> None:
        asked = json.loads(await response.request.aread() or b"{}")
        if asked.get("method") == "tools/call":
            content_type, answer = response.headers.get("content-type", ""), json.loads(await response.aread())
            seen.append(Exchanged(asked["id"], response.status_code, content_type, answer))

    if way == "proxy":
        url, more = f"http://{scene.far.authority}/mcp", {"proxy": scene.gateway.proxy_url(scene.token())}
    else:
        url = f"http://127.0.0.1:{scene.reverse}/mcp"
        more = {"headers": {"authorization": f"Bearer {scene.token()}"}}
    http = httpx2.AsyncClient(trust_env=False, timeout=30, event_hooks={"response": [note]}, **more)
    mode = version if scene.server.is_new else "legacy"
    with anyio.fail_after(60):
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as made:
            yield made, seen


HOLDING = [
    pytest.param("delete", None, 4030, "policy-denied", id="denied"),
    pytest.param("refund", "deny", 4031, "approval-denied", id="held, then denied"),
    pytest.param("payout", None, 4032, "approval-expired", id="held, then expired"),
]
NOT_HOLDING = [
    pytest.param("delete", None, 4030, "policy-denied", id="denied"),
    pytest.param("refund", None, 4033, "approval-pending", id="pending"),
]


async def told(scene: Scene, version: str, way: str, tool: str, verdict: str | None, code: int, reason: str) -> None:
    before = len(scene.server.ran)
    async with client(scene, version, way) as (made, seen), anyio.create_task_group() as group:
        if verdict is not None:
            group.start_soon(anyio.to_thread.run_sync, decide, scene.gateway, scene.policy, verdict)
        with pytest.raises(MCPError) as caught:
            await made.call_tool(tool, {"order": version + way})
        assert (caught.value.error.code, caught.value.error.data["reason"]) == (code, reason)
        assert not (await made.call_tool("read", {})).is_error
    refused, allowed = seen
    assert (refused.status, refused.content_type) == (200, "application/json")
    assert refused.answer["id"] == refused.request_id
    assert type(refused.answer["id"]) is type(refused.request_id)
    assert refused.answer["error"]["code"] == code
    assert refused.answer.keys() == {"jsonrpc", "id", "error"}
    assert allowed.answer["id"] == allowed.request_id
    assert scene.server.ran[before:] == ["read"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scene", ["45s"], indirect=True)
@pytest.mark.parametrize(("tool", "verdict", "code", "reason"), HOLDING)
async def test_a_call_that_does_not_go_is_an_error_with_its_id(scene, version, tool, verdict, code, reason) -> None:
    await told(scene, version, "proxy", tool, verdict, code, reason)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scene", ["45s"], indirect=True)
async def test_at_a_gateway_url_it_is_the_same(scene, version) -> None:
    await told(scene, version, "reverse", "delete", None, 4030, "policy-denied")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scene", ["0s"], indirect=True)
@pytest.mark.parametrize(("tool", "verdict", "code", "reason"), NOT_HOLDING)
async def test_a_call_that_is_not_held_says_at_once_that_it_waits(scene, version, tool, verdict, code, reason) -> None:
    await told(scene, version, "proxy", tool, verdict, code, reason)


async def test_a_batch_goes_where_2025_03_26_was_agreed_on_and_is_denied_for_each_of_its_requests(scene) -> None:
    """As the TypeScript SDK of that version sends it (1.11): without a version header, which came with 2025-06-18."""

    def batch(*tools: str) -> list[dict]:
        ids = enumerate(tools, start=1)
        return [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": tool}} for n, tool in ids]

    who = {"capabilities": {}, "clientInfo": {"name": "c", "version": "1"}, "protocolVersion": "2025-03-26"}
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": who}
    url, token = (
        f"http://{scene.far.authority}/mcp",
        scene.issuer.token(audience=AUDIENCE, repository_id="1", sub="old"),
    )
    accept = {"accept": "application/json, text/event-stream"}
    proxy = scene.gateway.proxy_url(token)
    async with httpx2.AsyncClient(trust_env=False, timeout=30, headers=accept, proxy=proxy) as http:
        scene.server.version = "2025-11-25"
        await http.post(url, json=hello)
        refused = await http.post(url, json=batch("read"))
        assert (refused.status_code, refused.json()["error"]["data"]["reason"]) == (400, "batch-not-accepted")
        scene.server.version = "2025-03-26"
        await http.post(url, json=hello)
        scene.server.ran.clear()
        passed = await http.post(url, json=batch("read", "read"))
        assert [(one["id"], one["result"]["content"][0]["text"]) for one in passed.json()] == [(1, "done"), (2, "done")]
        denied = await http.post(url, json=batch("read", "delete"))
        assert (denied.status_code, denied.headers["content-type"]) == (200, "application/json")
        assert [(one["id"], one["error"]["data"]["reason"]) for one in denied.json()] == [
            (1, "policy-denied"),
            (2, "policy-denied"),
        ]
        assert scene.server.ran == ["read", "read"]
