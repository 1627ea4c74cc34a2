"""The official clients before the official server: through the gateway everything is as it is direct.

Law: what a client sees through the gateway, in proxy mode and at a gateway URL, is what it sees direct: every tool,
resource and prompt, completions, progress, logging, subscriptions, tasks, and what the server asks of it.
`scripts/everything` installs what this needs.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import pytest
from official import CLIENTS, EVERYTHING, INSPECTOR, NODE, SERVER, Official, Way, lasting, needs_everything, play

from coatcheck.journal.read import records
from story.issuer import Issuer
from story.part import LOOPBACK, Part, accepts, clean_environment, free_port
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
servers:
  everything: {url: "http://localhost:$port/mcp", addresses: [127.0.0.0/8, "::1/128"]}
rules:
  - id: everything
    who: [everybody]
    server: everything
    tools: ["*"]
    resources: ["**"]
    prompts: ["*"]
    methods: ["*"]
    effect: allow
""")


class Server(Part):
    """`@modelcontextprotocol/server-everything`, over streamable HTTP."""

    def __init__(self, output: Path) -> None:
        self.port = free_port()
        environment = {"PATH": os.environ["PATH"], "PORT": str(self.port)}
        super().__init__(
            "the server", [str(NODE), str(SERVER), "streamableHttp"], output=output, environment=environment
        )

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
            self.seen[client.name] = play(client, self.ways["direct"], CONVERSATION)
        return self.seen[client.name]

    def journaled(self) -> list[dict[str, Any]]:
        """The requests that the gateway has let through."""
        return list(records(self.gateway.state / "journal", kind="request", caller="everybody"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("everything")
    server, listener = Server(folder / "server.out"), free_port()
    with Issuer() as issuer:
        policy, state = folder / "policy.yaml", folder / "state"
        policy.write_text(POLICY.substitute(audience=AUDIENCE, issuer=issuer.url, port=server.port))
        assert run_cli("init", "--state", str(state)).returncode == 0
        more = ("--reverse", f"everything={LOOPBACK}:{listener}")
        gateway = Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)
        token = issuer.token(audience=AUDIENCE, lifetime=3600, repository_id="1", sub="repo:1")
        url = f"http://localhost:{server.port}/mcp"
        ways = {
            "direct": Way(url, {}),
            "proxy": Way.through(gateway.proxy_url(token), url),
            "reverse": Way(f"http://{LOOPBACK}:{listener}/mcp", {"EVERYTHING_TOKEN": token}),
        }
        try:
            server.start()
            gateway.start()
            yield Scene(gateway, ways)
        finally:
            gateway.kill()
            server.kill()


def called(conversation: dict[str, Any]) -> set[str]:
    return {step["step"]["name"] for step in conversation["steps"] if step["step"]["do"] in {"call", "task"}}


def result_of(conversation: dict[str, Any], do: str) -> Any:
    return next(step["result"] for step in conversation["steps"] if step["step"]["do"] == do)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
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


@pytest.mark.parametrize("way", ["proxy", "reverse"])
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


def inspect(way: Way, home: Path, arguments: list[str]) -> dict[str, Any]:
    """The inspector's exit code and what it prints as JSON, with a home of its own."""
    environment = dict(way.environment)
    token = environment.pop("EVERYTHING_TOKEN", None)
    headers = ["--header", f"Authorization: Bearer {token}"] if token else []
    command = [str(NODE), str(INSPECTOR), "--cli", "--format", "json", "--quiet", "--stored-auth-only", *headers]
    done = subprocess.run(
        [*command, "--transport", "http", "--server-url", way.url, *arguments],
        env=clean_environment(HOME=str(home), **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {"exit": done.returncode, "printed": json.loads(done.stdout or done.stderr)}


@pytest.mark.parametrize("way", ["proxy", "reverse"])
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
