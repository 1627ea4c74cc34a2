"""The processes of the story: the shop, the bare proxy, the gateway, and the `coatcheck` command.

Law: the gateway is started only in ways a user starts it (DESIGN 5.1).
"""

import http.client
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, assert_never
from urllib.parse import quote

from story.part import LOOPBACK, ROOT, Part, StoryError, accepts, clean_environment, free_port

__all__ = ["BareProxy", "Form", "Gateway", "Part", "Shop", "StoryError", "clean_environment", "free_port", "run_cli"]

BIN = Path(sys.prefix) / "bin"

type Form = Literal["mitmdump", "mitmweb", "run"]


def run_cli(
    *arguments: str,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Runs the `coatcheck` command as a user would; the exit code is the caller's to judge."""
    return subprocess.run(  # noqa: S603  # our own command
        [str(BIN / "coatcheck"), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        env=clean_environment(**(environment or {})),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


class Shop(Part):
    """`python -m story.shop`: the MCP server. `url` is its endpoint, `log` the file of executed calls."""

    def __init__(
        self,
        folder: Path,
        *,
        certificate: Path,
        key: Path,
        credential: str,
        port: int | None = None,
        stateless: bool = False,
    ) -> None:
        self.port = port or free_port()
        self.url = f"https://localhost:{self.port}/mcp"
        self.log = folder / "shop-calls.jsonl"
        command = [sys.executable, "-m", "story.shop", "--port", str(self.port), "--cert", str(certificate)]
        command += ["--key", str(key), "--credential-env", "SHOP_CREDENTIAL", "--log", str(self.log)]
        super().__init__(
            "the shop",
            [*command, "--stateless"] if stateless else command,
            output=folder / "shop.out",
            environment=clean_environment(SHOP_CREDENTIAL=credential),
            exit_codes=(0, -signal.SIGTERM),
        )

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return accepts(self.port)


class BareProxy(Part):
    """`mitmdump` with default options: what the gateway is measured against. Its CA is made in `folder`."""

    def __init__(self, folder: Path, *, more: Sequence[str] = (), cores: Collection[int] = ()) -> None:
        self.port = free_port()
        self.ca_pem = folder / "mitmproxy-ca-cert.pem"
        command = [str(BIN / "mitmdump"), "--listen-host", LOOPBACK, "--listen-port", str(self.port)]
        command += ["--set", f"confdir={folder}", *more]
        super().__init__(
            "the bare proxy", command, output=folder / "mitmdump.out", environment=clean_environment(), cores=cores
        )

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return accepts(self.port)


class Gateway(Part):
    """The gateway itself, in one of the ways a user starts it; see DESIGN 5.1.

    `form`: `mitmdump` or `mitmweb` with `-s addons/gateway.py`, or `run` for `coatcheck run` (with `web`
    also its mitmweb). The ports stay the same over `stop()` and `start()`. `more` goes to the command line
    as it is; `cores` pins the process.
    """

    def __init__(
        self,
        policy: Path,
        state: Path,
        *,
        output: Path,
        form: Form = "mitmdump",
        web: bool = False,
        more: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        cores: Collection[int] = (),
    ) -> None:
        self.port, self.control_port = free_port(), free_port()
        self.web_port = free_port() if web or form == "mitmweb" else None
        self.state = state
        self.ca_pem = state / "ca" / "ca.pem"
        super().__init__(
            "the gateway",
            [*self._command(form, policy), *more],
            output=output,
            environment=clean_environment(PYTHONUNBUFFERED="1", **(environment or {})),
            cores=cores,
        )

    def proxy_url(self, token: str = "") -> str:
        """What a client puts into HTTPS_PROXY: the token is the password of a user named `ci`."""
        user = f"ci:{quote(token, safe='')}@" if token else ""
        return f"http://{user}{LOOPBACK}:{self.port}"

    @property
    def control_url(self) -> str:
        """The control port's base URL."""
        return f"http://{LOOPBACK}:{self.control_port}"

    @property
    def web_url(self) -> str:
        """The base URL of mitmweb, where it runs."""
        if self.web_port is None:
            raise StoryError("this gateway has no mitmweb")
        return f"http://{LOOPBACK}:{self.web_port}"

    def is_ready(self) -> bool:
        """Whether `GET /readyz` on the control port says 200."""
        connection = http.client.HTTPConnection(LOOPBACK, self.control_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _command(self, form: Form, policy: Path) -> list[str]:
        control = f"{LOOPBACK}:{self.control_port}"
        match form:
            case "run":
                command = [str(BIN / "coatcheck"), "run", "--policy", str(policy), "--state", str(self.state)]
                command += ["--listen", f"{LOOPBACK}:{self.port}", "--control", control]
                return [*command, "--web", f"{LOOPBACK}:{self.web_port}"] if self.web_port else command
            case "mitmdump" | "mitmweb":
                command = [str(BIN / form), "-s", str(ROOT / "addons" / "gateway.py")]
                command += ["--listen-host", LOOPBACK, "--listen-port", str(self.port)]
                for setting in (f"policy={policy}", f"state={self.state}", f"control={control}"):
                    command += ["--set", f"coatcheck_{setting}"]
                if form == "mitmweb":
                    command += ["--no-web-open-browser", "--web-host", LOOPBACK, "--web-port", str(self.web_port)]
                return command
            case _:
                assert_never(form)
