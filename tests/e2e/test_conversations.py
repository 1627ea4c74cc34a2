"""Conversations in both directions, with the official SDK at both ends: what a server asks, and whose session it is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from coatcheck.journal.read import records
from conformance_lib.scene import Everything
from story.issuer import Issuer
from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

AUDIENCE = "https://gateway.shop.example"
POLICY = Template("""
coatcheck: 1
gateway: {audience: $audience}
issuers:
  ci: {issuer: "$issuer", algorithms: [ES256]}
identities:
  asked: {issuer: ci, claims: {repository_id: "1"}}
  silent: {issuer: ci, claims: {repository_id: "2"}}
servers:
  everything: {url: "http://localhost:$port/mcp", addresses: [127.0.0.0/8, "::1/128"]}
rules:
  - {id: tools, who: [any], server: everything, tools: ["*"], effect: allow}
  - {id: asks, who: [asked], server: everything, methods: [sampling/createMessage, elicitation/create], effect: allow}
""")


@dataclass
class Scene:
    """A server that asks, a gateway before it, and two callers of which only one may be asked."""

    server: Everything
    gateway: Gateway
    issuer: Issuer

    def token(self, caller: str) -> str:
        number = {"asked": "1", "silent": "2"}[caller]
        return self.issuer.token(audience=AUDIENCE, repository_id=number, sub=f"repo:{number}")

    def http(self, caller: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(proxy=self.gateway.proxy_url(self.token(caller)), trust_env=False, timeout=20)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = Path(tmp_path_factory.mktemp("conversations"))
    with Issuer() as issuer:
        server = Everything(folder / "server.out")
        policy, state = folder / "policy.yaml", folder / "state"
        policy.write_text(POLICY.substitute(audience=AUDIENCE, issuer=issuer.url, port=server.port))
        assert run_cli("init", "--state", str(state)).returncode == 0
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run")
        try:
            server.start()
            gateway.start()
            yield Scene(server, gateway, issuer)
        finally:
            gateway.kill()
            server.kill()


class Human:
    """The client's callbacks; `heard` is what reached them."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def sample(self, _context: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.heard.append("sampling")
        content = types.TextContent(type="text", text="forty-two")
        return types.CreateMessageResult(role="assistant", content=content, model="a-model")

    async def elicit(self, _context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.heard.append("elicitation")
        return types.ElicitResult(action="accept", content={"username": "ann", "email": "ann@shop.example"})


CALLS = [("test_sampling", {"prompt": "?"}, "forty-two"), ("test_elicitation", {"message": "?"}, "ann@shop.example")]


async def called(scene: Scene, caller: str, human: Human, tool: str, arguments: dict[str, str]) -> types.CallToolResult:
    transport = streamable_http_client(scene.server.url, http_client=scene.http(caller))
    async with Client(
        transport, mode="legacy", sampling_callback=human.sample, elicitation_callback=human.elicit
    ) as client:
        return await client.call_tool(tool, arguments)


@pytest.mark.parametrize(("tool", "arguments", "words"), CALLS)
async def test_what_a_rule_allows_is_asked_and_answered(scene, tool, arguments, words) -> None:
    human = Human()
    result = await called(scene, "asked", human, tool, arguments)
    assert not result.is_error
    assert words in result.model_dump_json()
    assert len(human.heard) == 1


@pytest.mark.parametrize(("tool", "arguments", "words"), CALLS)
async def test_what_no_rule_allows_never_reaches_the_client(scene, tool, arguments, words) -> None:
    human = Human()
    with pytest.raises(ExceptionGroup) as caught:
        await called(scene, "silent", human, tool, arguments)
    assert caught.group_contains(MCPError, match="the policy does not allow")
    assert human.heard == []


# -- raw: sessions, and streams that are resumed --------------------------------------------------------------------

HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
}


def message(method: str, params: dict[str, object], request_id: int | None = 1) -> dict[str, object]:
    made: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    return made if request_id is None else made | {"id": request_id}


async def session(http: httpx2.AsyncClient, url: str) -> dict[str, str]:
    """Initialises; the headers of the session."""
    capabilities = {"elicitation": {}, "sampling": {}, "roots": {}}
    who = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    answer = await http.post(url, json=message("initialize", who), headers=HEADERS)
    assert answer.status_code == 200, answer.text
    headers = HEADERS | {"mcp-session-id": answer.headers["mcp-session-id"]}
    assert (await http.post(url, json=message("notifications/initialized", {}, None), headers=headers)).is_success
    return headers


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream as their fields."""
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in blocks]


PING = message("ping", {}, 5)


async def test_a_session_of_another_caller_is_404_and_its_owners_goes_on(scene) -> None:
    url = scene.server.url
    async with scene.http("asked") as mine, scene.http("silent") as theirs:
        headers = await session(mine, url)
        for method, body in (("POST", PING), ("GET", None), ("DELETE", None)):
            refused = await theirs.request(method, url, json=body, headers=headers)
            assert refused.status_code == 404
            assert refused.json()["error"]["data"]["reason"] == "unknown-session"
        answer = await mine.post(url, json=PING, headers=headers)
        assert answer.status_code == 200
        assert (await mine.delete(url, headers=headers)).is_success
        assert (await mine.post(url, json=PING, headers=headers)).status_code == 404


async def test_a_stream_that_the_server_closed_is_resumed_by_its_caller_alone(scene) -> None:
    url = scene.server.url
    async with scene.http("asked") as mine, scene.http("silent") as theirs:
        headers = await session(mine, url)
        call = message("tools/call", {"name": "test_reconnection", "arguments": {}}, 7)
        broken = events((await mine.post(url, json=call, headers=headers)).text)
        resume = headers | {"last-event-id": broken[-1]["id"]}
        assert (await theirs.get(url, headers=resume)).status_code == 404
        others = (await session(theirs, url)) | {"last-event-id": broken[-1]["id"]}
        refused = await theirs.get(url, headers=others)
        assert refused.json()["error"]["data"]["reason"] == "unknown-event"
        async with mine.stream("GET", url, headers=resume) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and '"id":7' in line.replace(" ", ""):
                    assert "Reconnection test completed" in line
                    break
            else:
                pytest.fail("the answer did not come on the resumed stream")


async def test_an_answer_that_nobody_asked_for_is_refused(scene) -> None:
    async with scene.http("asked") as mine:
        headers = await session(mine, scene.server.url)
        reply = {"jsonrpc": "2.0", "id": 0, "result": {"action": "accept"}}
        refused = await mine.post(scene.server.url, json=reply, headers=headers)
    assert refused.status_code == 400
    assert refused.json()["error"]["data"]["reason"] == "response-not-accepted"


async def test_a_server_that_asks_all_the_same_hears_of_the_denial_and_it_is_journaled(scene) -> None:
    """The fixture asks whatever was declared: the client sees a ping in the place of the question."""
    url = scene.server.url
    async with scene.http("silent") as mine:
        headers = await session(mine, url)
        call = message("tools/call", {"name": "test_elicitation", "arguments": {"message": "your card number"}}, 7)
        async with mine.stream("POST", url, json=call, headers=headers) as stream:
            seen = []
            async for line in stream.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                seen.append(json.loads(line.removeprefix("data: ")))
                if seen[-1].get("method") == "ping":
                    reply = {"jsonrpc": "2.0", "id": seen[-1]["id"], "result": {}}
                    assert (await mine.post(url, json=reply, headers=headers)).status_code == 202
    assert [one.get("method") for one in seen] == ["ping", None]
    assert seen[-1]["error"]["message"] == "the policy does not allow elicitation/create"
    assert "your card number" not in json.dumps(seen[0])
    refusals = records(scene.gateway.state / "journal", kind="refusal", caller="silent")
    assert ("policy-denied", "elicitation/create") in [(entry["reason"], entry.get("asked")) for entry in refusals]
    answers = records(scene.gateway.state / "journal", kind="request", caller="silent")
    calls = [(call["method"], call["name"]) for entry in answers for call in entry["calls"]]
    assert ("ping", "elicitation/create") in calls
