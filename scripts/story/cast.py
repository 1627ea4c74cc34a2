"""The whole scene but the gateway: authority, issuer, shop, policy, and a state directory with the secret in it.

Law: everything lives in one folder and one `with` block.
"""

import json
import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Self, cast

from story.certificates import make_authority
from story.issuer import Claim, Issuer
from story.processes import Form, Gateway, Shop, StoryError, run_cli

AUDIENCE = "https://gateway.shop.example"
REPOSITORY_ID = "74627617"
SECRET_NAME = "shop-key"  # noqa: S105  # the secret's name, not its value


@dataclass(frozen=True, slots=True)
class Event:
    """One notification a pipeline received, `at` seconds after it sent its call."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline printed. Exactly one of `result`, `error` and `failed` is set."""

    events: tuple[Event, ...]
    result: object = None
    error: Mapping[str, object] | None = None
    failed: str | None = None
    text: str = ""
    """Everything it printed, as it was."""


def read_outcome(text: str) -> Outcome:
    """Parses a pipeline's standard output. Raises `StoryError` where it has no last word."""
    lines = [cast("dict[str, object]", json.loads(line)) for line in text.splitlines()]
    events = tuple(Event(**line["event"]) for line in lines if isinstance(line.get("event"), dict))  # type: ignore[arg-type]  # pipeline.py's own shape
    last = lines[-1] if lines else {}
    if not last.keys() & {"result", "error", "failed"}:
        raise StoryError("the pipeline ended without a result")
    error, failed = last.get("error"), last.get("failed")
    return Outcome(
        events,
        result=last.get("result"),
        error=error if isinstance(error, dict) else None,
        failed=failed if isinstance(failed, str) else None,
        text=text,
    )


class Pipeline:
    """A running `python -m story.pipeline`, with nothing in its environment but the way to the gateway."""

    def __init__(self, arguments: Iterable[str], *, proxy: str | None, ca: Path) -> None:
        environment = {"PATH": os.environ.get("PATH", ""), "SSL_CERT_FILE": str(ca)}
        if proxy is not None:
            environment["HTTPS_PROXY"] = proxy
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-m", "story.pipeline", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def is_running(self) -> bool:
        """Whether it still waits for its answer."""
        return self._process.poll() is None

    def finish(self, *, timeout_seconds: float = 60) -> Outcome:
        """Waits for it and returns what it printed. Raises `StoryError` where it hangs or breaks."""
        try:
            out, problems = self._process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise StoryError(f"the pipeline hung for {timeout_seconds:g} s") from None
        if not out:
            raise StoryError(f"the pipeline broke: {problems.strip()[-2000:]}")
        return read_outcome(out)

    def kill(self) -> None:
        """Ends it at once, as a cancelled job would."""
        self._process.kill()
        self._process.communicate()


class Cast:
    """The issuer, the shop, `policy` (a file) and `state` (a directory); a context manager.

    `credential` is the shop's real credential: the canary that must be seen nowhere. `stateless` is the
    shop's; `hold` the policy's `gateway.hold`.
    """

    def __init__(self, folder: Path, *, hold: str = "30s", stateless: bool = False) -> None:
        self.folder = folder
        self.credential = f"sk-live-{secrets.token_urlsafe(24)}"
        self.authority = make_authority(folder / "authority")
        files = self.authority.server_cert("localhost", "127.0.0.1", "::1")
        self.shop = Shop(
            folder, certificate=files.certificate, key=files.key, credential=self.credential, stateless=stateless
        )
        self.policy = folder / "policy.yaml"
        self.state = folder / "state"
        self._hold = hold
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.issuer = stack.enter_context(Issuer())
            stack.enter_context(self.shop)
            self.policy.write_text(self.policy_text())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def policy_text(self, **replaced: str) -> str:
        """The story's policy; `replaced` fills names of `policy.yaml.in` differently."""
        names = {
            "audience": AUDIENCE,
            "hold": self._hold,
            "issuer": self.issuer.url,
            "repository_id": REPOSITORY_ID,
            "account": pwd.getpwuid(os.geteuid()).pw_name,
            "shop_url": self.shop.url,
            "shop_ca": str(self.authority.ca_pem),
        }
        return Template(Path(__file__).with_name("policy.yaml.in").read_text()).substitute(names | replaced)

    def token(self, *, audience: str = AUDIENCE, lifetime: float = 300, **claims: Claim) -> str:
        """A token of the identity `shop-ci`, unless `claims` say otherwise."""
        return self.issuer.token(audience=audience, lifetime=lifetime, **({"repository_id": REPOSITORY_ID} | claims))

    def make_state(self) -> None:
        """`coatcheck init`, then `coatcheck vault set`, as an operator would. Raises `StoryError`."""
        self.cli("init", "--state", str(self.state))
        where = ("--server", "shop", "--state", str(self.state), "--policy", str(self.policy))
        self.cli("vault", "set", SECRET_NAME, *where, stdin=self.credential + "\n")

    def cli(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs a `coatcheck` command that must succeed; returns its standard output. Raises `StoryError`."""
        done = run_cli(*arguments, stdin=stdin)
        if done.returncode:
            raise StoryError(f"coatcheck {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def gateway(self, form: Form = "mitmdump", *, web: bool = False, more: Iterable[str] = ()) -> Gateway:
        """A gateway for this scene, not yet started."""
        output = self.folder / "gateway.out"
        return Gateway(self.policy, self.state, output=output, form=form, web=web, more=tuple(more))

    def start_pipeline(self, *arguments: str, gateway: Gateway, token: str, mode: str = "auto") -> Pipeline:
        """Starts a pipeline on the shop, through the gateway, with `token` as its identity."""
        command = (self.shop.url, "--mode", mode, *arguments)
        return Pipeline(command, proxy=gateway.proxy_url(token), ca=gateway.ca_pem)

    def pipeline(self, *arguments: str, gateway: Gateway, token: str, mode: str = "auto") -> Outcome:
        """The same, waited for."""
        return self.start_pipeline(*arguments, gateway=gateway, token=token, mode=mode).finish()

    def executed(self) -> list[dict[str, object]]:
        """The calls the shop really ran: `tool`, `arguments`, `authorization_ok`."""
        if not self.shop.log.exists():
            return []
        return [json.loads(line) for line in self.shop.log.read_text().splitlines()]
