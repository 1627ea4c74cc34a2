"""Where attacks are tried: servers that keep every byte, a policy on them, and a gateway in between.

Law: no attack is judged alone. `Watch.ends` sends one good request of the same kind after it, which must arrive: a
gateway that refuses everything does not pass, and what came before the good request has come by then.
"""

import itertools
import json
import os
import pwd
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Literal, Self

from raw import RawClient, Reply, call, head, proxy_authorization
from server import Server

from coatcheck.journal.read import records
from story.certificates import make_authority
from story.issuer import Issuer
from story.part import clean_environment
from story.processes import Gateway, run_cli

AUDIENCE = "https://gateway.shop.example"
REPOSITORY_ID = "74627617"
SETTLE_SECONDS = 15.0
"""How long a record may take to be written."""

type Kind = Literal["tunnel", "proxy"]
"""How a client comes: through a tunnel with TLS in it, or with whole URLs to the proxy port."""


def wait_until(condition: Callable[[], bool], *, seconds: float = SETTLE_SECONDS) -> bool:
    """Whether `condition` came to hold in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Ground:
    """Servers, issuer, policy and state; a context manager. `gateway` starts a gateway on them.

    `api` is the MCP server with a credential, `rest` a plain HTTP API, `other` a second MCP server, `stranger` one
    with another's certificate, `loud` one that speaks first, `private` one whose address the policy does not list,
    `pipe` one behind a tunnel that is not opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "policy.yaml"
        self.state = folder / "state"
        self.credential = f"sk-live-{secrets.token_urlsafe(24)}"
        self._stack = ExitStack()
        self._count = itertools.count(1)
        self.gateway: Gateway

    def __enter__(self) -> Self:
        authority = make_authority(self.folder / "authority")
        mine = authority.server_cert("localhost", "127.0.0.1")
        strange = authority.server_cert("stranger.example")
        with ExitStack() as stack:
            self.issuer = stack.enter_context(Issuer())
            self.api = stack.enter_context(Server(mine))
            self.rest = stack.enter_context(Server())
            self.other = stack.enter_context(Server(mine))
            self.stranger = stack.enter_context(Server(strange))
            self.loud = stack.enter_context(Server(greeting=b"220 mail.example ESMTP\r\n"))
            self.private = stack.enter_context(Server())
            self.pipe = stack.enter_context(Server(mine))
            self.ca = authority.ca_pem
            self.policy.write_text(self.policy_text())
            self._make_state()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def servers(self) -> dict[str, Server]:
        """All servers by name."""
        names = ("api", "rest", "other", "stranger", "loud", "private", "pipe")
        return {name: getattr(self, name) for name in names}

    def policy_text(self, **replaced: str) -> str:
        """The policy; `replaced` fills names of `policy.yaml.in` differently."""
        names = {
            "audience": AUDIENCE,
            "issuer": self.issuer.url,
            "repository_id": REPOSITORY_ID,
            "account": pwd.getpwuid(os.geteuid()).pw_name,
            "ca": str(self.ca),
            "max_in_flight": "100",
            **{name: server.authority for name, server in self.servers.items()},
        }
        return Template(Path(__file__).with_name("policy.yaml.in").read_text()).substitute(names | replaced)

    def _make_state(self) -> None:
        where = ("--state", str(self.state))
        made = run_cli("init", *where)
        assert made.returncode == 0, made.stderr
        done = run_cli("vault", "set", "api-key", "--server", "api", *where, stdin=self.credential + "\n")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def running(self, *, policy: Path | None = None, script: Path | None = None, **environment: str) -> Iterator[Self]:
        """A gateway on this ground; with `script` in place of the gateway's own."""
        output = self.folder / "gateway.out"
        gateway = Gateway(policy or self.policy, self.state, output=output, environment=environment)
        if script is not None:
            gateway.command = tuple(str(script) if part.endswith("gateway.py") else part for part in gateway.command)
        self.gateway = gateway
        with gateway:
            yield self

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment a gateway is started with."""
        return clean_environment(PYTHONUNBUFFERED="1", **variables)

    # -- clients -----------------------------------------------------------------------------------------------

    def token(self, *, lifetime: float = 300, repository_id: str = REPOSITORY_ID, **times: int) -> str:
        """A token of the identity `job`; `times` are its `iat` and `exp`, where they are not of now."""
        return self.issuer.token(audience=AUDIENCE, lifetime=lifetime, repository_id=repository_id, **times)

    def client(self, server: Server | None = None, *, timeout: float = 30) -> RawClient:
        """A fresh connection to the proxy port, on its way to `server` (`api`)."""
        return RawClient(self.gateway, timeout=timeout, authority=(server or self.api).authority)

    def tunnel(self, server: Server | None = None, *, timeout: float = 30, token: str | None = None) -> RawClient:
        """A tunnel to `server` (`api`) with TLS in it, asked for with `token` or a good one."""
        return self.client(server, timeout=timeout).tunnel(token or self.token())

    def post(
        self,
        body: bytes | None = None,
        *,
        first: str | bytes = "POST /mcp HTTP/1.1",
        more: Sequence[str | bytes] = (),
        without: Collection[str] = (),
        server: Server | None = None,
        version: str | None = "2025-11-25",
    ) -> bytes:
        """The bytes of an allowed MCP call; `more` lines are added to the head, lines of `without` left out."""
        body = call("get_order", {"order_id": "A"}) if body is None else body
        lines = {
            "Host": (server or self.api).authority,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": version,
            "Content-Length": str(len(body)),
        }
        kept = [f"{name}: {value}" for name, value in lines.items() if value is not None and name not in without]
        return head(first, *kept, *more) + body

    def get(self, target: str, *more: str | bytes, host: str | None = None, token: bool = True) -> bytes:
        """The bytes of a plain-proxy GET of a whole URL (or whatever `target` is)."""
        token_lines = (proxy_authorization(self.token()),) if token else ()
        return head(f"GET {target} HTTP/1.1", f"Host: {host or self.rest.authority}", *token_lines, *more)

    def rest_url(self, path: str = "/repos/acme") -> str:
        """A URL of the plain HTTP API that the policy allows."""
        return f"http://{self.rest.authority}{path}"

    def is_well(self, kind: Kind = "tunnel") -> str:
        """Sends one good request over a connection of its own; returns what marks it at the server. Asserts 200."""
        mark = f"control-{next(self._count)}"
        if kind == "tunnel":
            with self.tunnel() as client:
                reply = client.outcome(self.post(call("get_order", {"order_id": mark})))
        else:
            with self.client() as client:
                reply = client.outcome(self.get(self.rest_url(f"/repos/{mark}")))
        assert reply is not None
        assert reply.status == 200, reply
        return mark

    # -- watching ----------------------------------------------------------------------------------------------

    def journal(self) -> list[dict]:
        """Every record until now."""
        return list(records(self.state / "journal"))

    @contextmanager
    def watch(self, kind: Kind = "tunnel", *, refusals: int | None = 1, arrive: int = 0) -> Iterator["Watch"]:
        """After the block `arrive` well-formed requests have reached servers, and `refusals` records were written."""
        watch = Watch(self, kind)
        try:
            yield watch
        except BaseException:
            time.sleep(0.3)  # what was still under way is not counted against the next one
            raise
        watch.ends(refusals=refusals, arrive=arrive)


class Watch:
    """What servers and journal saw since it was made."""

    def __init__(self, ground: Ground, kind: Kind) -> None:
        self._ground = ground
        self._kind: Kind = kind
        self._marks = {name: server.mark() for name, server in ground.servers.items()}
        self._records = len(ground.journal())

    def records(self, kind: str) -> list[dict]:
        """The journal's records of this kind since."""
        return [record for record in self._ground.journal()[self._records :] if record["kind"] == kind]

    def refused_for(self) -> list[str]:
        """The reasons of the refusals since."""
        return [record["reason"] for record in self.records("refusal")]

    def outcome_of(self, request: dict) -> str | None:
        """How the request of this record ended; None while it has not."""
        return next((one["outcome"] for one in self.records("outcome") if one["exchange"] == request["exchange"]), None)

    def arrived(self) -> list:
        """The requests that reached a server since."""
        return [
            heard for name, mark in self._marks.items() for heard in self._ground.servers[name].requests_since(mark)
        ]

    def ends(self, *, refusals: int | None, arrive: int) -> None:
        """Sends the good request and asserts that nothing else came than was expected."""
        mark = self._ground.is_well(self._kind)
        arrived = self.arrived()
        assert [heard for heard in arrived if mark.encode() in heard.raw] == arrived[-1:] or arrive
        assert len(arrived) == arrive + 1, [heard.raw for heard in arrived]
        assert [heard.faults for heard in arrived] == [[]] * len(arrived), [heard.raw for heard in arrived]
        for name, before in self._marks.items():
            server = self._ground.servers[name]
            understood = sum(len(heard.raw) for heard in server.requests_since(before))
            assert server.bytes_since(before) == understood, f"{name} was sent bytes that are no request"
        if refusals is not None:
            wait_until(lambda: len(self.records("refusal")) >= refusals)
            assert len(self.records("refusal")) == refusals, self.refused_for()
        assert len(self.records("request")) == arrive + 1


def denied(reply: Reply | None, status: int | Collection[int], reason: str | Collection[str] | None = None) -> None:
    """Asserts a refusal in the caller's terms: this status, and a reason code in a JSON body."""
    assert reply is not None, "the connection was closed without an answer"
    assert reply.status in ({status} if isinstance(status, int) else status), (reply.status, reply.reason, reply.body)
    assert reply.headers["content-type"] in ("application/json", "application/problem+json"), reply
    if reason is not None:
        assert reply.reason_code in ({reason} if isinstance(reason, str) else reason), json.loads(reply.body)
    assert reply.reason_code.replace("-", "").isalnum()


def closed(client: RawClient, reply: Reply | None) -> None:
    """Asserts that the connection ended, with at most a refusal before."""
    assert reply is None or reply.status >= 400, reply
    assert reply is None or client.is_ended()
