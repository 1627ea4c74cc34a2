"""`coatcheck status`: is the gateway up, and ready?"""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, cast

import click

from coatcheck.errors import CoatcheckError
from coatcheck.settings import parse_address


@click.command
@click.option("--control", envvar="COATCHECK_CONTROL", default="127.0.0.1:8082", show_default=True, metavar="HOST:PORT")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(control: str, *, as_json: bool) -> None:
    """Ask the control port whether the gateway is ready."""
    host, port = parse_address(control.removeprefix("http://"), where="--control")
    answer = _ask(f"http://{host}:{port}/readyz", control)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"{answer['status']}, policy {answer['policy'][:12]}")
        if answer.get("enforces") is False:
            click.echo("observing only: nothing is denied or held but for its token")
        for part, problem in answer["problems"].items():
            click.echo(f"{part}: {problem}")
    if answer["status"] != "ready":
        raise click.exceptions.Exit(1)


def _ask(url: str, control: str) -> dict[str, Any]:
    """The readiness answer. Raises `CoatcheckError` where nobody answers, or somebody else."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except (OSError, http.client.HTTPException) as error:
        hint = "start it with: coatcheck run"
        raise CoatcheckError(f"no gateway answers: {error}", where=control, hint=hint) from error
    try:
        answer = json.loads(body)
        is_ours = isinstance(answer["status"], str) and isinstance(answer["policy"], str)
        answer["problems"].items()
    except (ValueError, TypeError, KeyError, AttributeError):
        is_ours = False
    if not is_ours:
        hint = "--control is the gateway's control port, not its proxy port"
        raise CoatcheckError("what answers is no gateway", where=control, hint=hint)
    return cast("dict[str, Any]", answer)
