"""The real gateway under mitmweb before two echoing servers, each with a secret of its own alphabet."""

import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from console import PASSWORD, Console
from echo import Echo, Order, call
from raw import RawClient, Reply

from story.certificates import make_authority
from story.issuer import Issuer
from story.processes import Gateway, free_port, run_cli

AUDIENCE = "https://gateway.canary.example"
KINDS = ("plain", "odd")
NAMES = ("mcp", "api", "notes")

type Way = Literal["proxy", "reverse"]
WAYS: tuple[Way, ...] = ("proxy", "reverse")

POLICY = """
coatcheck: 1
gateway: {{audience: "{audience}"}}
issuers:
  ci: {{issuer: "{issuer}", algorithms: [ES256]}}
identities:
  robot: {{issuer: ci, claims: {{repository_id: "1"}}, groups: [ci], owner: canary@shop.example}}
servers:
{servers}
rules:
{rules}
"""


def _policy(issuer: str, ca: Path, ports: dict[str, int]) -> str:
    servers, rules = [], []
    for kind, port in ports.items():
        place = f'ca: "{ca}", addresses: [127.0.0.0/8], credential: {kind}'
        servers += [f'  {name}-{kind}: {{url: "https://localhost:{port}/{name}", {place}}}' for name in ("mcp", "api")]
        free = place.rpartition(",")[0]  # callers send the placeholder themselves
        servers.append(f'  notes-{kind}: {{url: "https://localhost:{port}/notes", {free}}}')
        rule = "who: [group:ci], effect: allow"
        rules.append(f"  - {{id: mcp-{kind}, server: mcp-{kind}, tools: [echo], {rule}}}")
        for name in ("api", "notes"):
            rules.append(f'  - {{id: {name}-{kind}, server: {name}-{kind}, http: ["GET /{name}/**"], {rule}}}')
    return POLICY.format(audience=AUDIENCE, issuer=issuer, servers="\n".join(servers), rules="\n".join(rules))


class Stage:
    """A context manager; `values` and `echoes` are by kind: `plain` letters and digits, `odd` what is escaped.

    `console` is mitmweb for the thread that made this; `urls` the port of the gateway URL of each server.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.values = {
            "plain": f"sk-live-{secrets.token_hex(16)}".encode(),
            "odd": f"""sk/L{secrets.token_hex(2)}+="<Q>& Z'w\\{secrets.token_hex(3)}/m+c=4""".encode(),
        }
        self.urls = {f"{name}-{kind}": free_port() for name in NAMES for kind in KINDS}
        self._more = more
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            authority = make_authority(self.folder / "authority")
            files = authority.server_cert("localhost", "127.0.0.1")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate, files.key)
            self.issuer = stack.enter_context(Issuer())
            self.echoes = {kind: stack.enter_context(Echo(context)) for kind in KINDS}
            self.policy = self.folder / "policy.yaml"
            ports = {kind: echo.port for kind, echo in self.echoes.items()}
            self.policy.write_text(_policy(self.issuer.url, authority.ca_pem, ports))
            self._make_state()
            self.gateway = stack.enter_context(
                Gateway(
                    self.policy, self.state, output=self.folder / "gateway.out", form="mitmweb",
                    more=(*self._settings(), *self._more),
                )
            )  # fmt: skip
            self.console = stack.enter_context(Console(self.gateway))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]  # handed on as it came

    def _settings(self) -> Iterator[str]:
        urls = ",".join(f"{name}=127.0.0.1:{port}" for name, port in self.urls.items())
        for setting in (f"web_password={PASSWORD}", "termlog_verbosity=debug", f"coatcheck_reverse={urls}"):
            yield from ("--set", setting)

    def _make_state(self) -> None:
        run_cli("init", "--state", str(self.state)).check_returncode()
        for kind, value in self.values.items():
            where = [word for name in NAMES for word in ("--server", f"{name}-{kind}")]
            command = ("vault", "set", kind, *where, "--state", str(self.state))
            run_cli(*command, stdin=value.decode() + "\n").check_returncode()

    def caller(self, kind: str, way: Way = "proxy") -> "Caller":
        """A client of the servers of that kind, with a good token."""
        return Caller(self, kind, way)

    def token(self) -> str:
        """A good token of `robot`."""
        return self.issuer.token(audience=AUDIENCE, repository_id="1")

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the state, and what the gateway printed."""
        for path in sorted(self.state.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()
        yield "the gateway's output", self.gateway.output.read_bytes()


class Caller:
    """A client that keeps its connection as long as it is let, and every byte it heard."""

    def __init__(self, stage: Stage, kind: str, way: Way) -> None:
        self._stage = stage
        self._kind = kind
        self._way = way
        self._token = stage.token()
        self._connection: _Listener | None = None

    def ask(self, order: Order, *, path: str, **headers: str) -> tuple[Reply, bytes]:
        """One order to `/mcp` (a call) or a path elsewhere (a GET): the answer, and all bytes it came in."""
        self.send(order, path=path, **headers)
        return self.receive()

    def send(self, order: Order, *, path: str, **headers: str) -> None:
        """The request of `ask`."""
        if self._way == "reverse":
            headers = {"Authorization": f"Bearer {self._token}", **headers}
        connection = self._connect_for(path)
        body = call() if path == "/mcp" else b""
        method, kind = ("POST", "Content-Type: application/json\r\n") if body else ("GET", "")
        head = f"{method} {path} HTTP/1.1\r\nHost: {connection.authority}\r\n{kind}Content-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.heard.clear()
        connection.send(f"{head}X-Echo: {order.text()}\r\n\r\n".encode() + body)

    def receive(self) -> tuple[Reply, bytes]:
        """The answer of `ask`."""
        connection = self._connection
        assert connection is not None
        reply = connection.read()
        if "close" in reply.headers.get("connection", ""):
            if not reply.headers.keys() & {"content-length", "transfer-encoding"}:
                connection.heard += connection.rest()[len(connection.buffer) :]
            self.close()
        return reply, bytes(connection.heard)

    def renew(self) -> None:
        """Goes on with a new token, on a new connection."""
        self.close()
        self._token = self._stage.token()

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.sock.close()
            self._connection = None

    def _connect_for(self, path: str) -> "_Listener":
        """The connection to the server of a path: one for all of them, or the one of its gateway URL."""
        port = self._stage.urls[f"{path.split('/')[1]}-{self._kind}"]
        authority = f"localhost:{self._stage.echoes[self._kind].port}" if self._way == "proxy" else f"127.0.0.1:{port}"
        if self._connection is None or self._connection.authority != authority:
            self.close()
            at = self._stage.gateway if self._way == "proxy" else _Url(port)
            self._connection = made = _Listener(at, authority=authority)
            made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._way == "proxy":
                assert made.connect(self._token).status == 200
                made.start_tls()
        return self._connection


@dataclass(frozen=True, slots=True)
class _Url:
    """A gateway URL, by its port."""

    port: int


class _Listener(RawClient):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.heard = bytearray()

    def _more(self) -> None:
        before = len(self.buffer)
        super()._more()
        self.heard += self.buffer[before:]
