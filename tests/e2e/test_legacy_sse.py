"""HTTP+SSE of 2024-11-05, with the official SDK at both ends: direct, through the proxy, and at a gateway URL."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from old_server import EMAIL, OldServer
from reviewer import decide

from coatcheck.journal.read import records
from story.certificates import make_authority
from story.issuer import Issuer
from story.part import LOOPBACK, free_port
from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

AUDIENCE = "https://gateway.shop.example"
CREDENTIAL = "sk-live-old-3Kx9vT2mQp"
POLICY = Template("""
coatcheck: 1
gateway: {audience: $audience, hold: $hold}
issuers:
  ci: {issuer: "$issuer", algorithms: [ES256]}
identities:
  free: {issuer: ci, claims: {repository_id: "1"}}
  narrow: {issuer: ci, claims: {repository_id: "2"}}
reviewers:
  desk: {local: [root]}
servers:
  old: {url: "$url", ca: "$ca", addresses: [127.0.0.0/8, "::1/128"], credential: old-key, legacy_sse: true}
rules:
  - id: free
    who: [free]
    server: old
    tools: ["*"]
    resources: ["**"]
    prompts: ["*"]
    methods: [elicitation/create]
    effect: allow
  - {id: reads, who: [narrow], server: old, tools: [read_order, whoami, slow], effect: allow}
  - id: refunds
    who: [narrow]
    server: old
    tools: [refund_order]
    effect: approve
    reviewers: [desk]
    expires: $expires
masks:
  - {id: people, server: old, detect: [email], as: redact}
""")


@dataclass
class Scene:
    """The server, and a gateway before it that is reached both ways."""

    server: OldServer
    gateway: Gateway
    issuer: Issuer
    reverse: int
    ca: Path
    policy: Path

    def token(self, caller: str) -> str:
        number = {"free": "1", "narrow": "2"}[caller]
        return self.issuer.token(audience=AUDIENCE, repository_id=number, sub=f"repo:{number}")

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.reverse}/sse" if way == "reverse" else self.server.url

    def http(self, way: str, caller: str = "free") -> httpx2.AsyncClient:
        """A client on this way, as this caller."""
        bearer = CREDENTIAL if way == "direct" else self.token(caller)
        more: dict[str, object] = {"headers": {"authorization": f"Bearer {bearer}"}}
        if way == "direct":
            more["verify"] = ssl.create_default_context(cafile=str(self.ca))
        elif way == "proxy":
            more = {"proxy": self.gateway.proxy_url(bearer)}
            more["verify"] = ssl.create_default_context(cafile=str(self.gateway.ca_pem))
        return httpx2.AsyncClient(trust_env=False, timeout=20, **more)

    @asynccontextmanager
    async def client(
        self, way: str, caller: str = "free", *, mode: str = "legacy", **callbacks
    ) -> AsyncIterator[Client]:
        """The official client over its official transport."""
        transport = sse_client(self.url(way), httpx_client_factory=lambda **_: self.http(way, caller))
        async with Client(transport, mode=mode, read_timeout_seconds=30, **callbacks) as client:
            yield client


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    yield from begin(tmp_path_factory.mktemp("legacy"))


def begin(folder: Path, *, hold: str = "20s", expires: str = "15m", options: tuple[str, ...] = ()) -> Iterator[Scene]:
    with Issuer() as issuer:
        authority, port = make_authority(folder / "authority"), free_port()
        server = OldServer(folder, authority.server_cert("localhost", "127.0.0.1"))
        policy, state = folder / "policy.yaml", folder / "state"
        names = {"audience": AUDIENCE, "issuer": issuer.url, "url": server.url, "ca": authority.ca_pem}
        policy.write_text(POLICY.substitute(names, hold=hold, expires=expires))
        assert run_cli("init", "--state", str(state)).returncode == 0
        set_up = ("vault", "set", "old-key", "--server", "old", "--policy", str(policy), "--state", str(state))
        done = run_cli(*set_up, stdin=CREDENTIAL)
        assert done.returncode == 0, done.stderr
        more = ("--reverse", f"old={LOOPBACK}:{port}", *options)
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)
        try:
            server.start()
            gateway.start()
            yield Scene(server, gateway, issuer, port, authority.ca_pem, policy)
        finally:
            gateway.kill()
            server.kill()


class Human:
    """The client's callbacks, and what reached them."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def elicit(self, _context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.heard.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Ann"})

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.heard.append((done, total, message))


async def observed(scene: Scene, way: str) -> dict[str, object]:
    """What a client gets of everything that the server offers."""
    human = Human()
    async with scene.client(way, elicitation_callback=human.elicit) as client:
        seen: dict[str, object] = {
            "tools": (await client.list_tools()).model_dump(),
            "resources": (await client.list_resources()).model_dump(),
            "prompts": (await client.list_prompts()).model_dump(),
            "read": (await client.read_resource("shop://terms")).model_dump(),
            "prompt": (await client.get_prompt("apology", {"order": "A-1"})).model_dump(),
            "call": (await client.call_tool("refund_order", {"order": "A-1"})).model_dump(),
            "count": (await client.call_tool("count", {"upto": 5}, progress_callback=human.progress)).model_dump(),
            "greet": (await client.call_tool("greet", {})).model_dump(),
        }
        with pytest.raises(MCPError) as caught:
            await client.get_prompt("no_such_prompt", {})
        seen["error"] = caught.value.error.model_dump()
    return seen | {"heard": human.heard}


@pytest.mark.parametrize("way", ["proxy", "reverse"])
async def test_everything_works_through_as_it_does_direct(scene: Scene, way: str) -> None:
    direct = await observed(scene, "direct")
    assert await observed(scene, way) == direct
    assert "accept: Ann" in str(direct["greet"])
    assert (5.0, 5.0, "step 5") in direct["heard"]


@pytest.mark.parametrize("way", ["proxy", "reverse"])
async def test_a_denied_call_is_an_error_on_the_stream_and_the_session_goes_on(scene: Scene, way: str) -> None:
    before = scene.server.ran()
    async with scene.client(way, "narrow") as client:
        for _ in range(2):
            with pytest.raises(MCPError) as caught:
                await client.call_tool("delete_order", {"order": "A-1"})
            assert caught.value.error.code == 4030
            assert caught.value.error.data["reason"] == "policy-denied"
        assert not (await client.call_tool("read_order", {"order": "A-1"})).is_error
    assert scene.server.ran()[len(before) :] == ["read_order"]
    refusals = records(scene.gateway.state / "journal", kind="refusal", caller="narrow")
    assert "policy-denied" in [entry["reason"] for entry in refusals]
    scene.gateway.stop()
    recorded = [path.read_text() for path in (scene.gateway.state / "sessions").glob("*/*.jsonl")]
    scene.gateway.start()
    assert any("policy-denied" in text and "session_id=***" in text for text in recorded)
    assert not any(re.search("session_id=[0-9a-f]", text) for text in recorded)


async def test_lists_on_the_stream_are_filtered_and_answers_masked_and_scrubbed(scene: Scene) -> None:
    async with scene.client("proxy", "narrow") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        order = (await client.call_tool("read_order", {"order": "A-1"})).model_dump_json()
        who = (await client.call_tool("whoami", {})).model_dump_json()
    assert names == {"read_order", "whoami", "slow", "refund_order"}
    assert "A-1" in order
    assert EMAIL not in order
    assert "Bearer ***" in who
    assert CREDENTIAL not in who


async def test_many_calls_at_once_each_get_their_own_answer(scene: Scene) -> None:
    async with scene.client("proxy") as client:
        answers: dict[int, str] = {}

        async def ask(number: int) -> None:
            result = await client.call_tool("refund_order", {"order": f"A-{number}"})
            answers[number] = result.content[0].text

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)
    assert answers == {number: f"refunded A-{number}" for number in range(20)}


# -- calls that wait ------------------------------------------------------------------------------------------------


async def decided(scene: Scene, verdict: str) -> None:
    """Decides the next question, as a reviewer on the command line."""
    await anyio.to_thread.run_sync(decide, scene.gateway, scene.policy, verdict)


async def test_a_held_call_goes_on_when_it_is_approved(scene: Scene) -> None:
    async with scene.client("proxy", "narrow") as client, anyio.create_task_group() as group:
        group.start_soon(decided, scene, "approve")
        result = await client.call_tool("refund_order", {"order": "A-20"})
    assert result.content[0].text == "refunded A-20"


async def test_a_held_call_that_is_denied_is_told_on_the_stream(scene: Scene) -> None:
    before = scene.server.ran()
    async with scene.client("reverse", "narrow") as client, anyio.create_task_group() as group:
        group.start_soon(decided, scene, "deny")
        with pytest.raises(MCPError) as caught:
            await client.call_tool("refund_order", {"order": "A-21"})
        assert caught.value.error.code == 4031
        assert not (await client.call_tool("read_order", {"order": "A-1"})).is_error
    assert scene.server.ran()[len(before) :] == ["read_order"]


@pytest.mark.parametrize(("hold", "expires", "code"), [("10s", "1s", 4032), ("0s", "15m", 4033)])
async def test_an_approval_that_nobody_gave_is_told_on_the_stream(tmp_path: Path, hold, expires, code) -> None:
    for scene in begin(tmp_path, hold=hold, expires=expires):
        async with scene.client("proxy", "narrow") as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("refund_order", {"order": "A-1"})
            assert caught.value.error.code == code
            assert not (await client.call_tool("read_order", {"order": "A-1"})).is_error
        assert scene.server.ran() == ["read_order"]


# -- whose endpoint it is ---------------------------------------------------------------------------------------------

CALL = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": "read_order", "arguments": {"order": "A-1"}},
}


@asynccontextmanager
async def raw_stream(http: httpx2.AsyncClient, url: str) -> AsyncIterator[tuple[str, AsyncIterator[str]]]:
    """A stream's endpoint, and the data of the events that follow."""
    async with http.stream("GET", url, headers={"accept": "text/event-stream"}) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()

        async def data() -> AsyncIterator[str]:
            async for line in lines:
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")

        events = data()
        yield await anext(events), events


@pytest.mark.parametrize("way", ["proxy", "reverse"])
async def test_an_endpoint_is_404_for_another_caller_when_it_is_unknown_and_when_its_stream_is_over(
    scene: Scene, way: str
) -> None:
    async with scene.http(way, "free") as mine, scene.http(way, "narrow") as theirs:
        root = scene.url(way).removesuffix("/sse")
        async with raw_stream(mine, scene.url(way)) as (endpoint, events):
            assert endpoint.startswith("/messages/?")
            for http, path in ((theirs, endpoint), (mine, endpoint + "0"), (mine, "/messages/"), (mine, "/else")):
                refused = await http.post(root + path, json=CALL)
                assert refused.status_code == 404, path
                assert refused.json()["error"]["data"]["reason"] == "unknown-session"
                assert refused.json()["id"] == 7
            hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            begin = {"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": hello}
            accepted = await mine.post(root + endpoint, json=begin)
            assert (accepted.status_code, accepted.content) == (202, b"")
            assert json.loads(await anext(events))["id"] == "a"
        for _ in range(250):
            gone = await mine.post(root + endpoint, json=CALL)
            if gone.status_code == 404:
                break
            await anyio.sleep(0.02)
        assert gone.json()["error"]["data"]["reason"] == "unknown-session"


async def test_without_a_token_the_stream_and_its_endpoint_are_401_or_407(scene: Scene) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        for method, path in (("GET", "/sse"), ("POST", "/messages/?session_id=1f")):
            answer = await http.request(method, f"http://127.0.0.1:{scene.reverse}{path}", json=CALL)
            assert answer.status_code == 401


async def test_what_is_malformed_is_400_and_what_is_refused_with_an_id_is_told_on_the_stream(scene: Scene) -> None:
    async with scene.http("proxy") as mine, raw_stream(mine, scene.url("proxy")) as (endpoint, events):
        url = scene.server.url.removesuffix("/sse") + endpoint
        for body in (b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}'):
            refused = await mine.post(url, content=body, headers={"content-type": "application/json"})
            assert refused.status_code == 400
        told = await mine.post(url, json={"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": 5}})
        assert (told.status_code, told.content) == (202, b"")
        message = json.loads(await anext(events))
        assert (message["id"], message["error"]["data"]["reason"]) == (9, "bad-params")
        dropped = await mine.post(url, json={"jsonrpc": "2.0", "method": "notifications/unknown"})
        assert (dropped.status_code, dropped.content) == (202, b"")


async def test_the_client_that_tries_a_newer_version_first_falls_back_and_works(scene: Scene) -> None:
    async with scene.client("proxy", mode="auto") as client:
        assert not (await client.call_tool("read_order", {"order": "A-1"})).is_error
