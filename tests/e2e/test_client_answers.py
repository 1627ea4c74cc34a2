"""What the official clients are told of a call that is not let through, in each protocol version they speak.

Law: a refusal reaches the client as an error with its code, its reason and its rule, under the client's own id, as
`application/json`; no client waits for an answer that does not come, and each goes on with its next call.
`scripts/everything` installs what this needs.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from far_end import FarEnd, Heard, gateway_with, json_answer
from official import CLIENTS, Official, Way, inspect, needs_everything, play, said, start

from coatcheck.identity.token_request import GRANT_TYPE, JWT
from story.cast import Cast
from story.part import LOOPBACK, free_port
from story.processes import Gateway

pytestmark = [pytest.mark.e2e, pytest.mark.clients, needs_everything]

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
TOOLS = ("opens", "shuts", "fails", "hides", "asks", "lapses", "dies", "dies-in-stream")
SERVER = """
  v{version}:
    url: http://localhost:{port}/{version}
    addresses: [127.0.0.0/8, "::1/128"]
"""
RULES = """
  - {{id: opens-{version}, who: [{who}], server: v{version}, tools: [opens, "dies*"], effect: allow}}
  - {{id: shuts-{version}, who: [{who}], server: v{version}, tools: [shuts], effect: deny, message: "It is shut."}}
  - id: fails-{version}
    who: [{who}]
    server: v{version}
    tools: [fails]
    effect: deny
    deny_style: tool_error
    message: "It fails."
  - {{id: hides-{version}, who: [{who}], server: v{version}, tools: [hides], effect: deny, deny_style: hide}}
  - {{id: asks-{version}, who: [{who}], server: v{version}, tools: [asks], effect: approve, reviewers: [lead]}}
  - id: lapses-{version}
    who: [{who}]
    server: v{version}
    tools: [lapses]
    effect: approve
    reviewers: [lead]
    expires: 1s
"""
PEOPLE = """
identities:
  stranger: {issuer: ci, claims: {repository_id: "2"}, owner: platform@shop.example}
reviewers:
  lead: {issuer: ci, claims: {role: lead}}
"""
PAIRS = [
    pytest.param(client, version, id=f"{client.name}-{version}")
    for client in CLIENTS
    for version in VERSIONS
    if version <= client.newest and (version == VERSIONS[-1]) == (client.newest == VERSIONS[-1])
]
"""Every client with the versions it speaks; those that speak the newest are tried with the older in their old way."""


def server(heard: Heard) -> Iterable[bytes]:
    """An MCP server that speaks only the version which its path names, and executes every call."""
    method, path, _ = heard.first.split(" ")
    if method != "POST":
        return [json_answer(b"", "405 Method Not Allowed")]
    message = json.loads(heard.body)
    if "id" not in message:
        return [b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"]
    match message.get("params"):
        case {"name": "dies"}:
            raise OSError  # the connection ends
        case {"name": "dies-in-stream"}:
            return _broken_stream()
    outcome = _outcome(message, path.strip("/"))
    return [json_answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}).encode())]


def _broken_stream() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "it began"}}
    event = f"event: message\ndata: {json.dumps(note)}\n\n".encode()
    yield b"%x\r\n%b\r\n" % (len(event), event)
    raise OSError


def _outcome(message: dict[str, Any], version: str) -> dict[str, Any]:
    is_newest = version == VERSIONS[-1]
    about = {"capabilities": {"tools": {}, "resources": {}, "prompts": {}}}
    named = {"serverInfo": {"name": "a-server", "version": "1"}}
    complete = {"resultType": "complete"} if is_newest else {}
    cached = {"ttlMs": 0, "cacheScope": "private"} if is_newest else {}
    match message["method"]:
        case "initialize" if not is_newest:
            return {"result": {"protocolVersion": version, **about, **named}}
        case "server/discover" if is_newest:
            return {"result": {"supportedVersions": [version], **about, **named, **complete, **cached}}
        case "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            return {"result": {"tools": tools, **complete, **cached}}
        case "tools/call":
            text = {"type": "text", "text": f"{message['params']['name']} was executed"}
            return {"result": {"content": [text], **complete}}
    return {"error": {"code": -32601, "message": "Method not found"}}


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway before one server a version."""

    cast: Cast
    gateway: Gateway
    far: FarEnd
    listeners: dict[str, int]
    folder: Path

    def way(self, name: str, version: str, token: str) -> Way:
        if name == "proxy":
            return Way.through(self.gateway.proxy_url(token), f"http://{self.far.authority}/{version}")
        url = f"http://{LOOPBACK}:{self.listeners[version]}/{version}"
        return Way(url, {"EVERYTHING_TOKEN": token})

    def script(self, *steps: dict[str, Any]) -> Path:
        path = self.folder / f"script-{free_port()}.json"
        path.write_text(json.dumps(steps))
        return path

    def executed(self) -> list[str]:
        """The tools that the server was called with."""
        messages = [json.loads(heard.body) for heard in self.far.heard if heard.body]
        return [one["params"]["name"] for one in messages if one["method"] == "tools/call"]

    def decide_when_asked(self, process: subprocess.Popen[str], verdict: str, *, before: Callable[[], None]) -> None:
        """The lead decides what comes to wait while the client runs, and does `before` before."""
        token = self.cast.token(role="lead", repository_id="4", sub="the lead")
        with httpx2.Client(headers={"Authorization": f"Bearer {token}"}, base_url=self.gateway.control_url) as http:
            while process.poll() is None:
                for one in http.get("/approvals").raise_for_status().json():
                    if one["state"] == "pending" and one["rules"][0].startswith("asks"):
                        before()
                        http.post(f"/approvals/{one['id']}", json={"verdict": verdict}).raise_for_status()
                        return


@contextmanager
def serving(cast: Cast, folder: Path) -> Iterator[Scene]:
    """The server and the gateway."""
    with FarEnd(None, server) as far:
        listeners = {version: free_port() for version in VERSIONS}
        servers = "".join(SERVER.format(version=version, port=far.port) for version in VERSIONS)
        rules = "".join(RULES.format(version=version, who="shop-ci") for version in VERSIONS)
        more = [("--reverse", f"v{version}={LOOPBACK}:{port}") for version, port in listeners.items()]
        policy = f"coatcheck: 1{PEOPLE}servers:{servers}rules:{rules}"
        with gateway_with(cast, policy, form="run", more=[part for pair in more for part in pair]) as gateway:
            yield Scene(cast, gateway, far, listeners, folder)


@pytest.fixture(scope="module")
def scene(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serving(cast, tmp_path_factory.mktemp("answers")) as scene:
        yield scene


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that holds a client for one second."""
    folder = tmp_path_factory.mktemp("impatient")
    with Cast(folder, hold="1s", stateless=True) as cast:
        cast.make_state()
        with serving(cast, folder) as scene:
            yield scene


def call(tool: str, **arguments: str) -> dict[str, Any]:
    return {"do": "call", "name": tool, "arguments": arguments}


TOLD = [{"status": 200, "type": "application/json", "same id": True}]


def assert_executed(step: dict[str, Any]) -> None:
    assert "error" not in step, step
    assert step["result"]["content"][0]["text"] == f"{step['step']['name']} was executed"


def assert_told(step: dict[str, Any], code: int, reason: str, *, retryable: bool = False) -> dict[str, Any]:
    """The error, whose code and data are the gateway's."""
    assert not step.get("hangs")
    error = step["error"]
    assert (error["code"], error["data"]["reason"], error["data"]["retryable"]) == (code, reason, retryable)
    assert step["answers"] == TOLD
    return error


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_each_refusal_is_told_and_the_next_call_goes_on(scene: Scene, client: Official, version: str, way: str) -> None:
    before = len(scene.executed())
    steps = [
        *[call("opens"), call("shuts"), call("opens"), call("asks"), call("opens"), call("lapses"), call("opens")],
        {"do": "read", "uri": "file:///shut"},
        {"do": "prompt", "name": "shut"},
        *[call("fails"), call("hides"), call("opens")],
    ]
    process = start(client, scene.way(way, version, scene.cast.token()), scene.script(*steps))
    scene.decide_when_asked(process, "deny", before=lambda: None)
    seen = said(process)
    assert seen.get("version") == version, seen
    for step in seen["steps"][::2][:4] + seen["steps"][-1:]:
        assert_executed(step)
    denied = assert_told(seen["steps"][1], 4030, "policy-denied")
    assert denied["data"]["rule"] == f"shuts-{version}"
    assert "It is shut." in denied["message"]
    assert_told(seen["steps"][3], 4031, "approval-denied")
    assert_told(seen["steps"][5], 4032, "approval-expired")
    for step in seen["steps"][7:9]:
        assert_told(step, 4030, "policy-denied")
    fails, hides = seen["steps"][9:11]
    assert (fails["result"]["isError"], fails["result"]["content"]) == (True, [{"type": "text", "text": "It fails."}])
    assert (hides["error"]["code"], hides["error"].get("data")) == (-32602, None)
    assert fails["answers"] == hides["answers"] == TOLD
    assert scene.executed()[before:] == ["opens"] * 5


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_client_that_waited_long_enough_is_told_that_the_call_still_waits(impatient, client, version) -> None:
    """The same call asks nothing new: it joins the approval."""
    steps = impatient.script(call("asks", by=client.name), call("opens"), call("asks", by=client.name), call("opens"))
    seen = play(client, impatient.way("proxy", version, impatient.cast.token()), steps)
    first, opened, second, again = seen["steps"]
    told = [assert_told(step, 4033, "approval-pending", retryable=True) for step in (first, second)]
    assert told[0]["data"]["approval"] == told[1]["data"]["approval"]
    for step in (opened, again):
        assert_executed(step)


NEWEST = [pytest.param(client, client.newest, id=client.name) for client in CLIENTS]


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_caller_whom_no_rule_names_is_told_so_when_it_connects(scene, client, version, way) -> None:
    before = len(scene.far.heard)
    token = scene.cast.token(repository_id="2")
    seen = play(client, scene.way(way, version, token), scene.script(call("opens")))
    assert (seen["failed"]["code"], seen["failed"]["data"]["reason"]) == (4030, "policy-denied")
    assert {json.dumps(answer) for answer in seen["answers"]} == {json.dumps(answer) for answer in TOLD}
    assert len(scene.far.heard) == before


REFUSED_TOKENS = [
    pytest.param({"lifetime": -600}, 401, "the token has expired", id="expired"),
    pytest.param({"audience": "https://other.example"}, 401, "must be minted for the audience", id="another audience"),
    pytest.param({"repository_id": "3"}, 403, "no identity in the policy matches", id="nobody"),
]


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("claims", "status", "words"), REFUSED_TOKENS)
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_client_whose_token_is_refused_says_why(scene, client, version, claims, status, words, way) -> None:
    """TypeScript 2.x keeps the answer in its error's data, Python 1.x only its status line."""
    before = len(scene.far.heard)
    seen = play(client, scene.way(way, version, scene.cast.token(**claims)), scene.script(call("opens")))
    assert words in json.dumps(seen["failed"])
    told = {"status": status, "type": "application/json", "same id": True}
    assert {json.dumps(answer) for answer in seen["answers"]} == {json.dumps(told)}
    assert len(scene.far.heard) == before


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_token_that_is_taken_back_while_a_call_waits_ends_the_wait(scene, client, version, way) -> None:
    """The call that was approved all the same is not sent, and neither is the next; Python 1.x ends at the first."""
    before, state = len(scene.executed()), str(scene.cast.state)
    form = {"grant_type": GRANT_TYPE, "subject_token": scene.cast.token(), "subject_token_type": JWT}
    token = httpx2.post(f"{scene.gateway.control_url}/token", data=form).raise_for_status().json()["access_token"]
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    steps = scene.script(call("opens"), call("asks", jti=jti), call("opens"))
    process = start(client, scene.way(way, version, token), steps)

    def is_refused() -> bool:
        answer = httpx2.post(scene.way("reverse", version, token).url, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code == 401

    def revoke() -> None:
        scene.cast.cli("identities", "revoke", jti, "--state", state)
        scene.gateway.wait_for(is_refused)

    scene.decide_when_asked(process, "approve", before=revoke)
    seen = said(process)
    assert scene.executed()[before:] == ["opens"]
    last = [seen["failed"]] if "failed" in seen else [step["error"] for step in seen["steps"][1:]]
    assert len(last) == (1 if client.name == "python-1" else 2)
    assert all("this session token was revoked" in json.dumps(error) for error in last)


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_server_that_dies_in_a_call_leaves_no_client_waiting(scene, client, version) -> None:
    """In a stream as before it; Python 1.x takes the 502 before it for the end of everything."""
    way, steps = scene.way("proxy", version, scene.cast.token()), [call("opens"), call("dies-in-stream"), call("opens")]
    seen = play(client, way, scene.script(*steps))
    assert_executed(seen["steps"][0])
    error = seen["steps"][1]["error"]
    assert (error["code"], error["data"]["reason"]) == (5020, "server-failed")
    assert_executed(seen["steps"][2])
    seen = play(client, way, scene.script(call("dies"), call("opens")))
    told = {"status": 502, "type": "application/json", "same id": True}
    if client.name == "python-1":
        assert told in seen["answers"]
        assert "502" in seen["failed"]["message"]
    else:
        assert told in seen["steps"][0]["answers"]
        assert "server-failed" in json.dumps(seen["steps"][0]["error"])
        assert_executed(seen["steps"][1])


@pytest.mark.parametrize("way", ["proxy", "reverse"])
def test_the_inspector_prints_what_it_is_told(scene, way, tmp_path) -> None:
    """It lists the tools before it calls one, so that one which is always denied does not exist for it."""
    good, expired = scene.cast.token(), scene.cast.token(lifetime=-600)
    for arguments, token, words in (
        (["tools/call", "--tool-name", "opens"], good, "opens was executed"),
        (["tools/call", "--tool-name", "shuts"], good, "Tool 'shuts' not found"),
        (["tools/call", "--tool-name", "lapses"], good, "no reviewer decided in time"),
        (["resources/read", "--uri", "file:///shut"], good, "no rule lets shop-ci read"),
        (["tools/call", "--tool-name", "opens"], expired, "the token has expired"),
    ):
        seen = inspect(scene.way(way, "2025-11-25", token), tmp_path, ["--method", *arguments])
        assert words in json.dumps(seen["printed"])
        assert (seen["exit"] == 0) == ("executed" in words)
