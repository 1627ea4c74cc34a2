"""`coatcheck policy`: check a policy, explain a decision, test it, compare it with what was recorded.

The commands are in the modules `policy_…`, registered here.
"""

from pathlib import Path

import click

from coatcheck.policy.doubts import doubts
from coatcheck.policy.load import load_policy
from coatcheck.policy.schema import schema_text
from coatcheck_cli.options import json_option, json_text, policy_option, printable
from coatcheck_cli.policy_backtest import backtest_command
from coatcheck_cli.policy_cases import test_command
from coatcheck_cli.policy_explain import explain_command, who
from coatcheck_cli.policy_pin import pin_command
from coatcheck_cli.policy_suggest import suggest_command


@click.group()
def policy() -> None:
    """Check a policy, explain a decision, test it, compare it with what was recorded."""


@policy.command()
@policy_option(required=True)
@json_option
def check(policy: Path, *, as_json: bool) -> None:
    """Load a policy and say what is in it, or everything that is wrong with it."""
    loaded = load_policy(policy)
    warnings = doubts(loaded)
    if as_json:
        counts = {key: len(getattr(loaded, key)) for key in ("issuers", "identities", "reviewers", "servers")}
        data = {
            "files": [str(file) for file in loaded.files],
            **counts,
            "rules": len(loaded.rules),
            "masks": len(loaded.masks),
            "sha256": loaded.sha256,
            "warnings": [{"where": one.where, "what": one.what, "hint": one.hint} for one in warnings],
        }
        click.echo(json_text(data))
        return
    parts = [
        _counted(len(loaded.files), "file"),
        _counted(len(loaded.identities), "identity", "identities"),
        _counted(len(loaded.servers), "server"),
        _counted(len(loaded.rules), "rule"),
    ]
    click.echo(f"ok: {', '.join(parts)}, sha256 {loaded.sha256}")
    for warning in warnings:
        click.echo(f"warning: {printable(str(warning))}", err=True)
        if warning.hint:
            click.echo(f"hint: {printable(warning.hint)}", err=True)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    click.echo(schema_text(), nl=False)


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


for command in (explain_command, who, test_command, backtest_command, suggest_command, pin_command):
    policy.add_command(command)
