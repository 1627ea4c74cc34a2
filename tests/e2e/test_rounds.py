"""A server that asks by its answers (2026-07-28, `input_required`), and the official clients that answer it.

Law: rounds go through the gateway as they go direct: what is asked, the state that comes back, the answer in the end;
so do streams of changes, and streams that end early and are taken up again.
Law: a client is told of a round that no rule allows, and of one that a reviewer denied, and goes on with its next call.
`scripts/everything` installs what this needs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from official import CLIENTS, Official, Way, lasting, needs_everything, play, said, start

from conformance_lib.scene import Everything
from story.issuer import Issuer
from story.part import LOOPBACK, free_port
from story.processes import Gateway, run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.clients, needs_everything]

NEWEST = [client for client in CLIENTS if client.newest == "2026-07-28"]
AUDIENCE = "https://gateway.shop.example"
POLICY = """
coatcheck: 1
gateway: {{audience: "{audience}"}}
issuers:
  ci: {{issuer: "{issuer}", algorithms: [ES256]}}
identities:
  everybody: {{issuer: ci, claims: {{repository_id: "1"}}}}
  unattended: {{issuer: ci, claims: {{repository_id: "2"}}}}
  watched: {{issuer: ci, claims: {{repository_id: "3"}}}}
reviewers:
  lead: {{issuer: ci, claims: {{role: lead}}}}
servers:
  rounds: {{url: "{url}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: all, who: [everybody], server: rounds, tools: ["*"], prompts: ["*"], methods: ["*"], effect: allow}}
  - id: models-and-folders
    who: [unattended]
    server: rounds
    tools: ["*"]
    prompts: ["*"]
    methods: [sampling/createMessage, roots/list, subscriptions/listen]
    effect: allow
  - id: no-people
    who: [unattended]
    server: rounds
    methods: [elicitation/create]
    effect: deny
    message: Nobody here.
  - {{id: asks-first, who: [watched], server: rounds, tools: ["*"], effect: approve, reviewers: [lead]}}
  - {{id: answers, who: [watched], server: rounds, methods: [elicitation/create], effect: allow}}
"""
ROUND = "test_input_required_result_"
ASKS_PEOPLE = (
    *(ROUND + name for name in ("elicitation", "request_state", "multiple_inputs", "multi_round", "prompt")),
    "test_streaming_elicitation",
)


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"do": "call", "name": name, "arguments": {}, **more}


STEPS = [
    *(call(ROUND + name) for name in ("elicitation", "sampling", "list_roots", "request_state", "multiple_inputs")),
    call(ROUND + "multi_round"),
    call("test_streaming_elicitation", progress=True),
    {"do": "prompt", "name": ROUND + "prompt"},
    {"do": "listen", "call": "test_trigger_tool_change"},
    {"do": "listen", "call": "test_trigger_tool_change"},
    call("test_simple_text"),
]
"""The last are a stream of changes (`subscriptions/listen`) that is opened, heard on, closed, and opened again."""
RESUMED = [
    *(call("test_reconnection"), call("test_tool_with_progress", progress=True), call("test_reconnection")),
    {"do": "call", "name": "test_sampling", "arguments": {"prompt": "?"}},
    {"do": "call", "name": "test_elicitation", "arguments": {"message": "?"}},
]
"""Up to 2025-11-25: streams that their server closes, and their client takes up again (`Last-Event-ID`)."""


@dataclass
class Scene:
    """The server, a gateway before it, and the ways there."""

    gateway: Gateway
    ways: dict[str, Way]
    lead: str
    folder: Path
    seen: dict[str, Any] = field(default_factory=dict)

    def script(self, steps: list[dict[str, Any]]) -> Path:
        path = self.folder / f"script-{free_port()}.json"
        path.write_text(json.dumps(steps))
        return path

    def play(self, client: Official, way: str) -> Any:
        """What the client sees that way, direct once."""
        key, steps = f"{client.name} {way}", STEPS if client in NEWEST else RESUMED
        if way != "direct" or key not in self.seen:
            self.seen[key] = play(client, self.ways[way], self.script(steps))
        return lasting(self.seen[key])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("rounds")
    server, listener = Everything(folder / "server.out"), free_port()
    with Issuer() as issuer:
        policy, state = folder / "policy.yaml", folder / "state"
        policy.write_text(POLICY.format(audience=AUDIENCE, issuer=issuer.url, url=server.url))
        assert run_cli("init", "--state", str(state)).returncode == 0
        more = ("--reverse", f"rounds={LOOPBACK}:{listener}")
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)

        def token(number: str, **claims: str) -> str:
            return issuer.token(audience=AUDIENCE, lifetime=3600, repository_id=number, sub=f"repo:{number}", **claims)

        ways = {
            "direct": Way(server.url, {}),
            "proxy": Way.through(gateway.proxy_url(token("1")), server.url),
            "reverse": Way(f"http://{LOOPBACK}:{listener}/mcp", {"EVERYTHING_TOKEN": token("1")}),
            "unattended": Way.through(gateway.proxy_url(token("2")), server.url),
            "watched": Way.through(gateway.proxy_url(token("3")), server.url),
        }
        try:
            server.start()
            gateway.start()
            yield Scene(gateway, ways, token("4", role="lead"), folder)
        finally:
            gateway.kill()
            server.kill()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_direct_every_round_and_every_stream_ends_in_an_answer(scene: Scene, client: Official) -> None:
    """The control."""
    seen = scene.play(client, "direct")
    assert seen["version"] == client.newest
    assert [step for step in seen["steps"] if "error" in step or step.get("hangs")] == []
    folders = {"roots/list"} if client in NEWEST else set()
    assert {one["method"] for one in seen["asked"]} == {"sampling/createMessage", "elicitation/create"} | folders


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_they_go_through_the_gateway_as_they_go_direct(scene: Scene, client: Official, way: str) -> None:
    seen, direct = scene.play(client, way), scene.play(client, "direct")
    for mine, theirs in zip(seen["steps"], direct["steps"], strict=True):
        assert mine == theirs
    assert seen == direct


@pytest.mark.parametrize("client", NEWEST, ids=lambda client: client.name)
def test_a_round_that_a_rule_denies_is_told_and_the_others_go_on(scene: Scene, client: Official) -> None:
    seen, direct = scene.play(client, "unattended"), scene.play(client, "direct")
    assert {one["method"] for one in seen["asked"]} == {"roots/list", "sampling/createMessage"}
    for mine, theirs in zip(seen["steps"], direct["steps"], strict=True):
        if mine["step"].get("name") not in ASKS_PEOPLE:
            assert mine["result"] == theirs["result"]
            continue
        error = mine["error"]
        assert (error["code"], error["data"]["reason"], error["data"]["rule"]) == (4030, "policy-denied", "no-people")
        assert error["message"] == "the server asked for elicitation/create: Nobody here."


@pytest.mark.parametrize(("verdict", "ends"), [("approve", "result"), ("deny", "error")])
@pytest.mark.parametrize("client", NEWEST, ids=lambda client: client.name)
def test_what_a_person_answers_in_a_held_call_is_held_as_well(scene: Scene, client: Official, verdict, ends) -> None:
    """It is new data for the server: whoever approves it sees it."""
    steps = scene.script([call(ROUND + "request_state"), call("test_simple_text")])
    process = start(client, scene.ways["watched"], steps)
    asked: list[str] = []
    with httpx2.Client(headers={"Authorization": f"Bearer {scene.lead}"}, base_url=scene.gateway.control_url) as desk:
        while process.poll() is None:
            for one in desk.get("/approvals").raise_for_status().json():
                if one["state"] == "pending":
                    is_answer = "inputResponses" in one["arguments"]
                    choice = {"verdict": verdict if is_answer else "approve"}
                    desk.post(f"/approvals/{one['id']}", json=choice).raise_for_status()
                    asked.append(one["arguments"])
    first, last = said(process)["steps"]
    assert len(asked) == 3
    assert '"ok": true' in asked[1]
    assert ends in first
    if verdict == "approve":
        assert first["result"]["content"][0]["text"] == "state-ok"
    else:
        assert (first["error"]["code"], first["error"]["data"]["reason"]) == (4031, "approval-denied")
    assert last["result"]["content"][0]["text"].startswith("This is a simple text")
