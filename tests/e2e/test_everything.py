"""The official clients before the official server: through the gateway everything is as it is direct.

Law: what a client sees through the gateway, in proxy mode and at a gateway URL, is what it sees direct: every tool,
resource and prompt, completions, progress, logging, subscriptions, tasks, and what the server asks of it.
`scripts/everything` installs what this needs.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import pytest
from official import CLIENTS, EVERYTHING, NODE, OLD, SERVER, Official, Way, inspect, lasting, needs_everything, play
from tls_front import TlsFront

from coatcheck.journal.read import records
from story.certificates import make_authority
from story.issuer import Issuer
from story.part import LOOPBACK, Part, accepts, free_port
from story.processes import Gateway, run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.clients, needs_everything]

CONVERSATION = EVERYTHING / "conversation.json"
AUDIENCE = "https://gateway.shop.example"
POLICY = Template("""
coatcheck: 1
gateway: {audience: $audience}
issuers:
  ci: {issuer: "$issuer", algorithms: [ES256]}
identities:
  everybody: {issuer: ci, claims: {repository_id: "1"}}
  silent: {issuer: ci, claims: {repository_id: "2"}}
servers:
  everything: {url: "http://localhost:$port/mcp", addresses: [127.0.0.0/8, "::1/128"]}
  over-tls: {url: "https://localhost:$tls_port/mcp", ca: "$ca", addresses: [127.0.0.0/8, "::1/128"]}
  old: {url: "http://localhost:$old_port/sse", addresses: [127.0.0.0/8, "::1/128"], legacy_sse: true}
rules:
  - id: everything
    who: [everybody]
    server: everything
    tools: ["*"]
    resources: ["**"]
    prompts: ["*"]
    methods: ["*"]
    effect: allow
  - id: everything-over-tls
    who: [everybody]
    server: over-tls
    tools: ["*"]
    resources: ["**"]
    prompts: ["*"]
    methods: ["*"]
    effect: allow
  - id: everything-on-the-old
    who: [everybody]
    server: old
    tools: ["*"]
    resources: ["**"]
    prompts: ["*"]
    methods: ["*"]
    effect: allow
  - {id: tools, who: [silent], server: everything, tools: ["*"], effect: allow}
  - {id: tools-on-the-old, who: [silent], server: old, tools: ["*"], effect: allow}
""")


class Server(Part):
    """`@modelcontextprotocol/server-everything`, over streamable HTTP, or HTTP with SSE (`sse`)."""

    def __init__(self, output: Path, transport: str = "streamableHttp") -> None:
        self.port = free_port()
        environment = {"PATH": os.environ["PATH"], "PORT": str(self.port)}
        super().__init__("the server", [str(NODE), str(SERVER), transport], output=output, environment=environment)

    def is_ready(self) -> bool:
        return accepts(self.port)


@dataclass
class Scene:
    """The server, a gateway before it, and the ways there."""

    gateway: Gateway
    ways: dict[str, Way]
    seen: dict[str, Any] = field(default_factory=dict)

    def direct(self, client: Official) -> Any:
        """What the client sees without a gateway; found out once."""
        if client.name not in self.seen:
            way = "old, direct" if client in OLD else "direct"
            self.seen[client.name] = play(client, self.ways[way], CONVERSATION)
        return self.seen[client.name]

    def journaled(self) -> list[dict[str, Any]]:
        """The requests that the gateway has let through."""
        return list(records(self.gateway.state / "journal", kind="request", caller="everybody"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("everything")
    server, listener, authority = Server(folder / "server.out"), free_port(), make_authority(folder / "authority")
    old, old_listener = Server(folder / "old.out", "sse"), free_port()
    with Issuer() as issuer, TlsFront(authority.server_cert("localhost"), server.port) as front:
        policy, state = folder / "policy.yaml", folder / "state"
        names = {"port": server.port, "tls_port": front.port, "ca": authority.ca_pem, "old_port": old.port}
        policy.write_text(POLICY.substitute(audience=AUDIENCE, issuer=issuer.url, **names))
        assert run_cli("init", "--state", str(state)).returncode == 0
        more = ("--reverse", f"everything={LOOPBACK}:{listener}", "--reverse", f"old={LOOPBACK}:{old_listener}")
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)
        token, silent = (issuer.token(audience=AUDIENCE, lifetime=3600, repository_id=n, sub=f"repo:{n}") for n in "12")
        url = f"http://localhost:{server.port}/mcp"
        ways = {
            "direct": Way(url, {}),
            "proxy": Way.through(gateway.proxy_url(token), url),
            "proxy, TLS": Way.through(gateway.proxy_url(token), f"https://localhost:{front.port}/mcp", gateway.ca_pem),
            "reverse": Way(f"http://{LOOPBACK}:{listener}/mcp", {"EVERYTHING_TOKEN": token}),
            "old, direct": Way(old_url := f"http://localhost:{old.port}/sse", {}),
            "old, proxy": Way.through(gateway.proxy_url(token), old_url),
            "old, reverse": Way(f"http://{LOOPBACK}:{old_listener}/sse", {"EVERYTHING_TOKEN": token}),
            "old, silent": Way.through(gateway.proxy_url(silent), old_url),
            "silent": Way.through(gateway.proxy_url(silent), url),
        }
        try:
            server.start()
            old.start()
            gateway.start()
            yield Scene(gateway, ways)
        finally:
            gateway.kill()
            old.kill()
            server.kill()


def called(conversation: dict[str, Any]) -> set[str]:
    return {step["step"]["name"] for step in conversation["steps"] if step["step"]["do"] in {"call", "task"}}


def result_of(conversation: dict[str, Any], do: str) -> Any:
    return next(step["result"] for step in conversation["steps"] if step["step"]["do"] == do)


@pytest.mark.parametrize("client", CLIENTS + OLD, ids=lambda client: client.name)
def test_the_conversation_leaves_nothing_out_that_the_server_offers(scene: Scene, client: Official) -> None:
    """The control: direct, nothing hangs, and what should work works."""
    seen = scene.direct(client)
    assert "failed" not in seen, seen
    assert [step for step in seen["steps"] if step.get("hangs")] == []
    assert {tool["name"] for tool in result_of(seen, "list tools")["tools"]} <= called(seen)
    prompts = {step["step"]["name"] for step in seen["steps"] if step["step"]["do"] == "prompt"}
    assert {prompt["name"] for prompt in result_of(seen, "list prompts")["prompts"]} == prompts
    assert {one["method"] for one in seen["asked"]} == {"roots/list", "sampling/createMessage", "elicitation/create"}
    failing = [step["step"] for step in seen["steps"] if "error" in step]
    assert [step.get("name", step.get("uri")) for step in failing] == [
        "trigger-url-elicitation",  # -32042: that is the tool's answer
        "demo://resource/dynamic/text/zero",
    ]


@pytest.mark.parametrize("way", ["proxy", "proxy, TLS", "reverse"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_everything_is_through_the_gateway_as_it_is_direct(scene: Scene, client: Official, way: str) -> None:
    before = len(scene.journaled())
    seen, direct = lasting(play(client, scene.ways[way], CONVERSATION)), lasting(scene.direct(client))
    assert "failed" not in seen, seen
    for mine, theirs in zip(seen["steps"], direct["steps"], strict=True):
        assert mine == theirs
    assert seen == direct
    passed = scene.journaled()[before:]
    assert called(seen) <= {call.get("name") for record in passed for call in record["calls"]}


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize("client", OLD, ids=lambda client: client.name)
def test_so_it_is_on_the_transport_of_2024(scene: Scene, client: Official, way: str) -> None:
    test_everything_is_through_the_gateway_as_it_is_direct(scene, client, f"old, {way}")


@pytest.mark.parametrize("client", OLD, ids=lambda client: client.name)
def test_on_that_transport_a_denial_is_told_too_and_the_next_call_goes_on(
    scene: Scene, client: Official, tmp_path: Path
) -> None:
    """There the answer to a POST is read by nobody: it comes on the stream."""
    echo, prompt = (
        {"do": "call", "name": "echo", "arguments": {"message": "?"}},
        {"do": "prompt", "name": "simple-prompt"},
    )
    (tmp_path / "steps.json").write_text(json.dumps([echo, prompt, echo]))
    first, denied, last = play(client, scene.ways["old, silent"], tmp_path / "steps.json")["steps"]
    assert denied["error"]["code"] == 4030
    assert denied["error"]["data"]["reason"] == "policy-denied"
    assert first["result"]["content"] == last["result"]["content"] == [{"type": "text", "text": "Echo: ?"}]


ASKING = ("get-roots-list", "trigger-sampling-request", "trigger-elicitation-request", "trigger-url-elicitation")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_server_that_no_rule_lets_ask_takes_the_client_for_one_that_cannot_be_asked(
    scene: Scene, client: Official, tmp_path: Path
) -> None:
    """The everything-server has tools that ask only for clients that say they can be asked."""
    calls = [{"do": "call", "name": name, "arguments": {}} for name in ("get-tiny-image", *ASKING)]
    (tmp_path / "steps.json").write_text(json.dumps([{"do": "list tools"}, *calls]))
    seen = play(client, scene.ways["silent"], tmp_path / "steps.json")
    assert seen["asked"] == []
    offered = {tool["name"] for tool in seen["steps"][0]["result"]["tools"]}
    assert "get-tiny-image" in offered
    assert offered.isdisjoint(ASKING)
    image, *asking = seen["steps"][1:]
    assert image["result"]["content"][1]["type"] == "image"
    assert all("not found" in json.dumps(step["result"]) for step in asking)


# -- the inspector, one request a command ----------------------------------------------------------------------------

METHODS = {
    "tools": ["--method", "tools/list"],
    "resources": ["--method", "resources/list"],
    "templates": ["--method", "resources/templates/list"],
    "prompts": ["--method", "prompts/list"],
    "level": ["--method", "logging/setLevel", "--log-level", "debug"],
    "call": ["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=grüße"],
    "structured": [
        *["--method", "tools/call", "--tool-name", "get-structured-content", "--tool-arg", "location=Chicago"],
    ],
    "failing call": ["--method", "tools/call", "--tool-name", "get-sum", "--tool-args-json", '{"a": 1}'],
    "read": ["--method", "resources/read", "--uri", "demo://resource/dynamic/blob/8"],
    "prompt": ["--method", "prompts/get", "--prompt-name", "args-prompt", "--prompt-args", "city=Zürich"],
}


@pytest.mark.parametrize("way", ["proxy", "proxy, TLS", "reverse"])
@pytest.mark.parametrize("method", METHODS)
def test_the_inspector_sees_through_the_gateway_what_it_sees_direct(
    scene: Scene, method: str, way: str, tmp_path: Path
) -> None:
    before = len(scene.journaled())
    direct = inspect(scene.ways["direct"], tmp_path, METHODS[method])
    assert len(scene.journaled()) == before
    through = inspect(scene.ways[way], tmp_path, METHODS[method])
    assert lasting(through) == lasting(direct)
    assert direct["exit"] == 0 or method == "failing call", direct
    assert METHODS[method][1] in {call["method"] for record in scene.journaled()[before:] for call in record["calls"]}
