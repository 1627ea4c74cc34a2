"""`coatcheck doctor`: what would keep a gateway from starting, or from knowing its callers.

Law: it exits with 1 where anything is a problem, and says what to do about each.
"""

import asyncio
import http.client
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.settings import parse_address
from coatcheck.state import StateDirectory
from coatcheck_cli import checks
from coatcheck_cli.checks import Found
from coatcheck_cli.options import json_option, json_text, policy_option, printable, state_option

KEY_LOGS = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")


@click.command
@policy_option(required=False)
@state_option
@click.option("--listen", envvar="COATCHECK_LISTEN", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option("--control", envvar="COATCHECK_CONTROL", default="127.0.0.1:8082", show_default=True, metavar="HOST:PORT")
@json_option
def doctor(policy: Path | None, state: StateDirectory, listen: str, control: str, *, as_json: bool) -> None:
    """Check the state, master key, policy, CA, ports, clock, and that the issuers can be reached."""
    found = examine(policy, state, listen, control.removeprefix("http://"))
    if as_json:
        click.echo(json_text([asdict(each) for each in found]))
    else:
        width = max(len(each.check) for each in found)
        for each in found:
            click.echo(f"{'ok' if each.ok else 'problem':7}  {each.check:{width}}  {printable(each.what)}")
            if each.hint is not None:
                click.echo(f"{'hint':7}  {'':{width}}  {printable(each.hint)}")
    if not all(each.ok for each in found):
        raise click.exceptions.Exit(1)


def examine(policy_path: Path | None, state: StateDirectory, listen: str, control: str) -> list[Found]:
    """Every check, in an order that shows the cause before what follows from it."""
    now = datetime.now(UTC)
    found = checks.check_state(state)
    about_vault, secrets = checks.check_vault(state, os.environ)
    about_policy, policy = checks.check_policy(policy_path, secrets)
    runs = is_gateway(control)
    found += [*about_vault, *about_policy, checks.check_authority(state, now=now)]
    found += [checks.check_port("listen", listen, runs=runs), checks.check_port("control", control, runs=runs)]
    found += [
        Found("environment", ok=False, what=f"{name} is set", hint=f"unset {name}: the gateway does not start with it")
        for name in KEY_LOGS
        if os.environ.get(name)
    ]
    if policy is not None:
        found += asyncio.run(checks.check_issuers(list(policy.issuers.values())))
    behind = checks.check_journal_clock(state, now=now) if state.journal.is_dir() else None
    if behind is not None:
        found.append(behind)
    elif not any(each.check == "clock" for each in found):
        found.append(Found("clock", ok=True, what=f"it is {now:%F %T}Z here; no issuer was there to compare with"))
    return found


def is_gateway(control: str) -> bool:
    """Whether what answers at the control port is a gateway, ready or not."""
    try:
        host, port = parse_address(control, where="--control")
    except CoatcheckError:
        return False
    connection = http.client.HTTPConnection(host, port, timeout=checks.TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read(64 * 1024))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return (
        isinstance(answer, dict) and answer.get("status") in ("ready", "degraded", "not-ready") and "policy" in answer
    )
