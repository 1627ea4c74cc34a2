"""What the operator set: options by `--set coatcheck_…`, each also an environment variable `COATCHECK_…`.

Law: an option nobody knows is an error, never ignored.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from coatcheck.errors import CoatcheckError, Problem
from coatcheck.state import StateDirectory


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name without the `coatcheck_` prefix, default and help text."""

    name: str
    default: str
    help: str

    @property
    def key(self) -> str:
        """The name as mitmproxy knows it."""
        return f"coatcheck_{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"COATCHECK_{self.name.upper()}"


OPTIONS = (
    Option("policy", "", "The policy: a YAML file, or a folder of them."),
    Option("state", "~/.local/state/coatcheck", "The state directory, made by `coatcheck init`."),
    Option("control", "127.0.0.1:8082", "Where health, metrics and approvals are served."),
    Option(
        "web_password_file",
        "",
        "A file with the password of mitmweb; else a random one is put into the state directory.",
    ),
    Option("web_flows", "1000", "How many calls that have ended mitmweb shows; older ones stay in the recordings."),
    Option("reverse", "", "Gateway URLs: NAME=HOST:PORT, several separated by commas."),
    Option("policy_sha256", "", "The sha256 the policy must have, as `coatcheck policy check` prints it; else any."),
    Option("observe", "false", "true: enforce nothing but who callers are; note what would have been decided."),
)


@dataclass(frozen=True, slots=True)
class Reverse:
    """A gateway URL: requests to `host:port` go to the server `server`."""

    server: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings, checked."""

    policy: Path
    state: StateDirectory
    control: tuple[str, int]
    reverse: tuple[Reverse, ...]
    web_password_file: Path | None = None
    policy_sha256: str = ""
    """What the policy must have, 64 hexadecimal digits; empty where any may be loaded."""
    observe: bool = False
    web_flows: int = 1000
    """How many calls that have ended mitmweb shows."""


def read_settings(given: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """Settings from options (by `Option.name`; an empty string means not given) and the environment.

    Raises `CoatcheckError` for what is missing or cannot be read.
    """
    values = {o.name: given.get(o.name, "") or environ.get(o.variable, "") or o.default for o in OPTIONS}
    if not values["policy"]:
        raise CoatcheckError(
            "no policy given",
            where="coatcheck_policy",
            hint="add --set coatcheck_policy=PATH, or set COATCHECK_POLICY",
        )
    reverse = tuple(_reverse(spec.strip()) for spec in values["reverse"].split(",") if spec.strip())
    if len({entry.port for entry in reverse}) != len(reverse):
        hint = "a gateway URL is told by its port"
        raise CoatcheckError("two gateway URLs have one port", where="coatcheck_reverse", hint=hint)
    password = values["web_password_file"]
    sha256 = values["policy_sha256"]
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        hint = "coatcheck policy check PATH prints it"
        raise CoatcheckError("is not 64 hexadecimal digits", where="coatcheck_policy_sha256", hint=hint)
    return Settings(
        policy=Path(values["policy"]).expanduser().absolute(),
        state=StateDirectory(Path(values["state"]).expanduser().absolute()),
        control=parse_address(values["control"], where="coatcheck_control"),
        reverse=reverse,
        web_password_file=Path(password).expanduser().absolute() if password else None,
        policy_sha256=sha256,
        observe=_switch(values["observe"], where="coatcheck_observe"),
        web_flows=_count(values["web_flows"], where="coatcheck_web_flows"),
    )


def check_names(names: Collection[str]) -> None:
    """Raises `CoatcheckError` for every name that is no option: `names` are those that mitmproxy did not know."""
    known = [option.key for option in OPTIONS]
    problems = []
    for name in sorted(set(names) - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"leave {name} out"
        if name.startswith("coatcheck"):
            hint = f"did you mean {close[0]!r}?" if close else f"options are: {', '.join(known)}"
        problems.append(Problem(name, "unknown option", hint))
    if problems:
        raise CoatcheckError(problems)


def parse_address(text: str, *, where: str) -> tuple[str, int]:
    """`HOST:PORT` with an explicit host. Raises `CoatcheckError`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal() and len(port) <= 5) or not 0 < int(port) < 65536:
        raise CoatcheckError(f"{text!r} is not HOST:PORT", where=where, hint="for example 127.0.0.1:8082")
    return host, int(port)


def _switch(text: str, *, where: str) -> bool:
    """`true` or `false`, in these words: a switch that opens is not to be guessed at."""
    if text not in ("true", "false"):
        raise CoatcheckError(
            f"{text!r} is neither true nor false", where=where, hint="leave it out to enforce the policy"
        )
    return text == "true"


def _count(text: str, *, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise CoatcheckError(f"{text!r} is not a number of calls", where=where, hint="for example 1000; at most 999999")
    return int(text)


def _reverse(spec: str) -> Reverse:
    name, separator, address = spec.partition("=")
    if not separator or not name:
        raise CoatcheckError(f"{spec!r} is not NAME=HOST:PORT", where="coatcheck_reverse")
    return Reverse(name, *parse_address(address, where="coatcheck_reverse"))
