"""`coatcheck status`: is the gateway up, and ready?"""

import json
import urllib.error
import urllib.request

import click

from coatcheck.errors import CoatcheckError
from coatcheck.settings import parse_address


@click.command
@click.option("--control", envvar="COATCHECK_CONTROL", default="127.0.0.1:8082", show_default=True, metavar="HOST:PORT")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(control: str, *, as_json: bool) -> None:
    """Ask the control port whether the gateway is ready."""
    host, port = parse_address(control.removeprefix("http://"), where="--control")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/readyz", timeout=5) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
    except OSError as error:
        raise CoatcheckError(
            f"no gateway answers: {error}", where=control, hint="start it with: coatcheck run"
        ) from error
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"{answer['status']}, policy {answer['policy'][:12]}")
        for part, problem in answer["problems"].items():
            click.echo(f"{part}: {problem}")
    if answer["status"] != "ready":
        raise click.exceptions.Exit(1)
