"""The server, the issuer and the gateway that the suite is run against, and the ways to reach the server.

Law: the server behind the gateway wants a credential that only the gateway has, so that a request which went round
the gateway fails every check instead of passing it.
"""

import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from coatcheck.journal.read import records
from story.issuer import Issuer
from story.part import LOOPBACK, Part, StoryError, accepts, clean_environment, free_port
from story.processes import BareProxy, Gateway, run_cli

AUDIENCE = "https://gateway.conformance.example"
REPOSITORY_ID = "74627617"
TOKEN_LIFETIME_SECONDS = 3600
WAYS = ("direct", "proxy", "reverse")


@dataclass(frozen=True, slots=True)
class Way:
    """How the suite reaches the server: the URL it dials, and the variables that make it use a proxy."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """What a client must send that can send headers of its own."""


class Everything(Part):
    """`python -m conformance_lib.everything`; with a `credential` it serves nobody who does not bring it."""

    def __init__(self, output: Path, credential: str = "") -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "conformance_lib.everything", "--port", str(self.port)]
        environment = clean_environment(EVERYTHING_CREDENTIAL=credential)
        super().__init__("the server", command, output=output, environment=environment)

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Its MCP endpoint."""
        return f"http://localhost:{self.port}/mcp"


@contextmanager
def reaching(way: str, folder: Path) -> Iterator[Way]:
    """Starts what `way` needs, with its files in `folder`; ends it all. Raises `StoryError`."""
    with ExitStack() as stack:
        if way == "direct":
            server = stack.enter_context(_started(Everything(folder / "server.out")))
            yield Way(server.url)
            return
        credential = f"sk-live-{secrets.token_urlsafe(24)}"
        server = stack.enter_context(_started(Everything(folder / "server.out", credential)))
        issuer = stack.enter_context(Issuer())
        policy, state = _set_up(folder, issuer, server.port, "/mcp", credential)
        token = issuer.token(audience=AUDIENCE, lifetime=TOKEN_LIFETIME_SECONDS, repository_id=REPOSITORY_ID)
        if way == "proxy":
            gateway = stack.enter_context(_started(Gateway(policy, state, output=folder / "gateway.out", form="run")))
            proxy = gateway.proxy_url(token)
            yield Way(server.url, {"NODE_USE_ENV_PROXY": "1", "HTTP_PROXY": proxy, "NO_PROXY": ""})
            return
        port = free_port()
        more = ("--reverse", f"everything={LOOPBACK}:{port}")
        stack.enter_context(_started(Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)))
        front = stack.enter_context(_started(_front(folder, port, token)))
        yield Way(f"http://localhost:{front.port}/mcp")


@contextmanager
def reaching_port(way: str, folder: Path, port: int, path: str) -> Iterator[Way]:
    """The way to a server of the suite's own on `localhost:port`, for the client under test. Raises `StoryError`.

    Raises it too where the way led past the gateway.
    """
    if way == "direct":
        yield Way(f"http://localhost:{port}{path}")
        return
    with Issuer() as issuer:
        policy, state = _set_up(folder, issuer, port, path)
        token = issuer.token(audience=AUDIENCE, lifetime=TOKEN_LIFETIME_SECONDS, repository_id=REPOSITORY_ID)
        listener = free_port()
        more = ("--reverse", f"everything={LOOPBACK}:{listener}")
        with _started(Gateway(policy, state, output=folder / "gateway.out", form="run", more=more)) as gateway:
            if way == "proxy":
                yield Way(f"http://localhost:{port}{path}", {"HTTP_PROXY": gateway.proxy_url(token), "NO_PROXY": ""})
            else:
                bearer = {"Authorization": f"Bearer {token}"}
                yield Way(f"http://localhost:{listener}{path}", headers=bearer)
            if not any(records(state / "journal", kind="request")):
                raise StoryError("the client went past the gateway")


@contextmanager
def _started[P: Part](part: P) -> Iterator[P]:
    """Like its own `with` block, but how it ends is nobody's business here."""
    part.start()
    try:
        yield part
    finally:
        part.kill()


def _front(folder: Path, port: int, token: str) -> BareProxy:
    """Adds the token, which the suite has no option to send; it changes nothing else and buffers nothing."""
    more = ["--mode", f"reverse:http://{LOOPBACK}:{port}", "--set", "keep_host_header=true"]
    more += ["--set", "stream_large_bodies=1", "--modify-headers", f"/~q/Authorization/Bearer {token}"]
    return BareProxy(folder, more=more)


def _set_up(folder: Path, issuer: Issuer, port: int, path: str, credential: str = "") -> tuple[Path, Path]:
    """Policy and state for a server at `port`; with a `credential`, which the gateway puts in."""
    policy, state = folder / "policy.yaml", folder / "state"
    names = {"audience": AUDIENCE, "issuer": issuer.url, "repository_id": REPOSITORY_ID, "port": port, "path": path}
    names["credential"] = "credential: everything-key" if credential else "# no credential"
    policy.write_text(Template(Path(__file__).with_name("policy.yaml.in").read_text()).substitute(names))
    where = ("--state", str(state), "--policy", str(policy))
    _cli("init", "--state", str(state))
    if not credential:
        return policy, state
    _cli("vault", "set", "everything-key", "--server", "everything", "--unsafe-plain-http", *where, stdin=credential)
    return policy, state


def _cli(*arguments: str, stdin: str | None = None) -> None:
    done = run_cli(*arguments, stdin=stdin)
    if done.returncode:
        raise StoryError(f"coatcheck {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
