"""`coatcheck run`: the gateway in this process's place, by `mitmdump` or `mitmweb`."""

import os
import sys
from pathlib import Path

import click

import coatcheck
from coatcheck.errors import CoatcheckError
from coatcheck.settings import parse_address
from coatcheck.state import StateDirectory
from coatcheck_cli.options import policy_option, state_option


@click.command
@policy_option(required=True)
@click.option("--policy-sha256", metavar="HEX", help="Take only the policy with this sha256.")
@state_option
@click.option("--listen", envvar="COATCHECK_LISTEN", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option("--control", envvar="COATCHECK_CONTROL", default="127.0.0.1:8082", show_default=True, metavar="HOST:PORT")
@click.option("--web", envvar="COATCHECK_WEB", metavar="HOST:PORT", help="Also open mitmweb, to look and approve.")
@click.option(
    "--web-password-file", type=click.Path(exists=True, path_type=Path), help="mitmweb's password (else a random one)."
)
@click.option("--web-flows", type=click.IntRange(0, 999_999), help="How many ended calls mitmweb shows (1000).")
@click.option("--observe", is_flag=True, help="Enforce nothing but who callers are; only note it.")
@click.option("--reverse", multiple=True, metavar="NAME=HOST:PORT", help="A gateway URL for the server NAME.")
def run(
    *,
    policy: Path,
    policy_sha256: str | None,
    state: StateDirectory,
    listen: str,
    control: str,
    web: str | None,
    web_password_file: Path | None,
    web_flows: int | None,
    observe: bool,
    reverse: tuple[str, ...],
) -> None:
    """Run the gateway until SIGTERM."""
    host, port = parse_address(listen, where="--listen")
    settings = {
        "coatcheck_policy": str(policy.absolute()),
        "coatcheck_policy_sha256": policy_sha256 or "",
        "coatcheck_state": str(state.root),
        "coatcheck_control": control,
        "coatcheck_reverse": ",".join(reverse),
        "coatcheck_observe": "true" if observe else "",
        "coatcheck_web_password_file": str(web_password_file.absolute()) if web_password_file else "",
        "coatcheck_web_flows": "" if web_flows is None else str(web_flows),
    }
    arguments = ["-s", str(gateway_script()), "--listen-host", host, "--listen-port", str(port)]
    for name, value in settings.items():
        if value:
            arguments += ["--set", f"{name}={value}"]
    program = "mitmdump"
    if web is not None:
        program = "mitmweb"
        web_host, web_port = parse_address(web, where="--web")
        arguments += ["--web-host", web_host, "--web-port", str(web_port), "--no-web-open-browser"]
    os.execv(_beside_python(program), [program, *arguments])  # noqa: S606 - this process becomes the gateway


def gateway_script() -> Path:
    """`addons/gateway.py`, in the source tree or as installed."""
    candidates = (Path(coatcheck.__file__).parent.parent / "gateway.py", Path(__file__).parent / "gateway.py")
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise CoatcheckError("gateway.py is missing from this installation", hint="install coatcheck again")


def _beside_python(program: str) -> str:
    path = Path(sys.executable).parent / program
    if not path.exists():
        raise CoatcheckError(f"{program} is not installed beside {sys.executable}", hint="install mitmproxy")
    return str(path)
