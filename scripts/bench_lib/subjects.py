"""What is measured: the way without a proxy, a bare `mitmdump`, and the gateway with everything on.

Law: the proxies run on one core, the server and the load on the others; on a machine with one core
nothing is pinned and the report says so.
"""

import base64
import os
import secrets
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bench_lib.load import BenchError, Way
from story.certificates import Authority, make_authority
from story.issuer import Issuer
from story.part import Part, accepts, clean_environment, free_port
from story.processes import BareProxy, Gateway, run_cli

AUDIENCE = "https://gateway.bench.example"
REPOSITORY_ID = "74627617"
TOKEN_LIFETIME_SECONDS = 12 * 3600
DIRECT, BARE, COATCHECK, BARE_AGAIN = "direct", "bare", "coatcheck", "bare-again"
SUBJECTS = (DIRECT, BARE, COATCHECK, BARE_AGAIN)


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the proxies run and where everything else does; both empty on a machine with one core."""

    proxy: frozenset[int]
    others: frozenset[int]


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing under measure: its ways over http and https, and the process whose CPU time counts."""

    name: str
    plain: Way
    tls: Way
    pid: int | None


def split_cores() -> Cores:
    """The first usable core for the proxies, the rest for everything else."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(usable) < 2:
        return Cores(frozenset(), frozenset())
    return Cores(frozenset(usable[:1]), frozenset(usable[1:]))


class _Server(Part):
    """`python -m bench_lib.upstream`."""

    def __init__(self, folder: Path, authority: Authority, credential: str) -> None:
        self.plain_port, self.tls_port = free_port(), free_port()
        files = authority.server_cert("localhost")
        command = [sys.executable, "-m", "bench_lib.upstream", "--plain", str(self.plain_port)]
        command += ["--tls", str(self.tls_port), "--cert", str(files.certificate), "--key", str(files.key)]
        environment = clean_environment(BENCH_CREDENTIAL=credential)
        super().__init__("the upstream", command, output=folder / "upstream.out", environment=environment)

    def is_ready(self) -> bool:
        """Whether both ports accept connections."""
        return accepts(self.plain_port) and accepts(self.tls_port)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What every subject is built on."""

    folder: Path
    server: _Server
    authority: Authority
    credential: str
    cores: Cores
    stack: ExitStack

    @property
    def bearer(self) -> str:
        return f"Bearer {self.credential}"


@contextmanager
def running(names: Sequence[str], folder: Path, cores: Cores) -> Iterator[Mapping[str, Subject]]:
    """Starts the server and the named subjects; ends them all. Raises `StoryError` or `BenchError`."""
    credential = f"sk-bench-{secrets.token_urlsafe(24)}"
    authority = make_authority(folder / "authority")
    with ExitStack() as stack:
        server = _Server(folder, authority, credential)
        stack.callback(server.kill)
        server.start()
        stage = _Stage(folder, server, authority, credential, cores, stack)
        yield {name: _subject(stage, name) for name in names}


def _subject(stage: _Stage, name: str) -> Subject:
    if name == DIRECT:
        return _direct(stage)
    if name == COATCHECK:
        return _coatcheck(stage)
    if name in {BARE, BARE_AGAIN}:
        return _bare(stage, name)
    raise BenchError(f"no subject {name!r}; there are {', '.join(SUBJECTS)}")


def _direct(stage: _Stage) -> Subject:
    plain = Way(stage.server.plain_port, authorization=stage.bearer)
    secure = Way(stage.server.tls_port, authorization=stage.bearer, tls=_trusting(stage.authority.ca_pem))
    return Subject(DIRECT, plain, secure, pid=None)


def _bare(stage: _Stage, name: str) -> Subject:
    folder = stage.folder / name
    folder.mkdir()
    proxy = BareProxy(folder, more=["--set", "ssl_insecure=true"], cores=stage.cores.proxy)
    stage.stack.callback(proxy.kill)
    proxy.start()
    plain = Way(stage.server.plain_port, proxy.port, authorization=stage.bearer)
    tls = _trusting(proxy.ca_pem)
    secure = Way(stage.server.tls_port, proxy.port, authorization=stage.bearer, tls=tls)
    return Subject(name, plain, secure, proxy.pid)


def _coatcheck(stage: _Stage) -> Subject:
    issuer = stage.stack.enter_context(Issuer())
    policy, state = stage.folder / "policy.yaml", stage.folder / "state"
    template = Template(Path(__file__).with_name("policy.yaml.in").read_text())
    ports = {"plain_port": stage.server.plain_port, "tls_port": stage.server.tls_port}
    names = {"audience": AUDIENCE, "issuer": issuer.url, "ca": stage.authority.ca_pem, "repository_id": REPOSITORY_ID}
    policy.write_text(template.substitute(names | ports))
    _cli("init", "--state", str(state))
    where = ("--state", str(state), "--policy", str(policy))
    _cli("vault", "set", "plain-key", "--server", "plain", "--unsafe-plain-http", *where, stdin=stage.credential)
    _cli("vault", "set", "secure-key", "--server", "secure", *where, stdin=stage.credential)
    gateway = Gateway(policy, state, output=stage.folder / "gateway.out", cores=stage.cores.proxy)
    stage.stack.callback(gateway.kill)
    gateway.start()
    token = issuer.token(audience=AUDIENCE, lifetime=TOKEN_LIFETIME_SECONDS, repository_id=REPOSITORY_ID)
    who = "Basic " + base64.b64encode(f"ci:{token}".encode()).decode()
    plain = Way(stage.server.plain_port, gateway.port, proxy_authorization=who, masked=True)
    tls = _trusting(gateway.ca_pem)
    secure = Way(stage.server.tls_port, gateway.port, proxy_authorization=who, tls=tls, masked=True)
    return Subject(COATCHECK, plain, secure, gateway.pid)


def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _cli(*arguments: str, stdin: str | None = None) -> None:
    done = run_cli(*arguments, stdin=stdin)
    if done.returncode:
        raise BenchError(f"coatcheck {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
