"""`coatcheck policy suggest`: the least policy for what was recorded."""

from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.policy.load import load_policy, read_sections
from coatcheck.policy.model import Policy
from coatcheck.policy.shape import suggest as suggest_name
from coatcheck.policy.suggest import Suggestion, suggest
from coatcheck.policy.write_yaml import comment, suggested_policy, suggested_rules
from coatcheck.state import StateDirectory
from coatcheck_cli.options import policy_option, state_option
from coatcheck_cli.policy_backtest import read_sessions, sessions_option


@click.command("suggest")
@policy_option(required=True)
@sessions_option
@click.option("--caller", help="Only for this identity.")
@click.option("--exact", is_flag=True, help="Name everything one by one, without globs.")
@click.option("--rules-only", is_flag=True, help="Print the rules alone, without what the policy declares.")
@state_option
def suggest_command(
    policy: Path,
    sessions: tuple[Path, ...],
    caller: str | None,
    state: StateDirectory,
    *,
    exact: bool,
    rules_only: bool,
) -> None:
    """Print the least policy that decides what was recorded as it was decided then, as YAML to review.

    Issuers, identities, servers, reviewers and masks are those of --policy; its rules are replaced.
    """
    loaded = load_policy(policy)
    if caller is not None and caller not in loaded.identities:
        raise CoatcheckError(f"unknown identity {caller!r}", hint=suggest_name(caller, loaded.identities))
    made = suggest(loaded, read_sessions(sessions, state, caller), exact=exact)
    declared, _ = read_sections(policy)
    for line in _heading(made, loaded, policy):
        click.echo(comment(line))
    click.echo()
    click.echo(suggested_rules(made) if rules_only else suggested_policy(made, loaded, declared), nl=False)


def _left_out(before: Policy) -> list[str]:
    """What the rules that are replaced say beside their effect, and no recording tells."""
    keys = {
        "limit": any(rule.limit for rule in before.rules),
        "deny_style": any(rule.deny_style != "error" for rule in before.rules),
    }
    left = [key for key, is_there in keys.items() if is_there]
    return [f"Not taken over from the rules it replaces: {' and '.join(left)}."] if left else []


def _heading(made: Suggestion, policy_before: Policy, policy: Path) -> list[str]:
    lines = [
        f"Suggested from {made.requests} recorded requests, {datetime.now(UTC):%Y-%m-%d}. Review before use:",
        "it permits what was done, which need not be what should be done.",
        *_left_out(policy_before),
        f"Files that it names are relative to {policy if policy.is_dir() else policy.parent}: keep it there.",
    ]
    if made.notes:
        lines += ["Not as it was recorded:", *(f"- {note}" for note in made.notes)]
    return lines
