"""An MCP server of each protocol version, and a gateway before it that allows, denies and holds calls of its tools."""

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from far_end import FarEnd, Heard, gateway_with, json_answer
from official import Way

from story.cast import Cast
from story.part import LOOPBACK, free_port
from story.processes import Gateway

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

    def desk(self) -> httpx2.Client:
        """The control port, for the lead."""
        token = self.cast.token(role="lead", repository_id="4", sub="the lead")
        return httpx2.Client(headers={"Authorization": f"Bearer {token}"}, base_url=self.gateway.control_url)

    def vote(self, approval: str, verdict: str) -> httpx2.Response:
        with self.desk() as http:
            return http.post(f"/approvals/{approval}", json={"verdict": verdict})

    def approval(self, mark: str) -> dict[str, Any]:
        """The approval of the call with that argument."""
        with self.desk() as http:
            found = http.get("/approvals").raise_for_status().json()
        return next(one for one in found if mark in one["arguments"] and one["rules"][0].startswith("asks"))

    def decide_when_asked(self, process: subprocess.Popen[str], verdict: str, *, before: Callable[[], None]) -> None:
        """The lead decides what comes to wait while the client runs, and does `before` before."""
        with self.desk() as http:
            while process.poll() is None:
                for one in http.get("/approvals").raise_for_status().json():
                    if one["state"] == "pending" and one["rules"][0].startswith("asks"):
                        before()
                        self.vote(one["id"], verdict).raise_for_status()
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
