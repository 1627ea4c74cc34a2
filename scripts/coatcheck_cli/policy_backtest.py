"""`coatcheck policy backtest`: recorded traffic, decided again by another policy."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.policy.backtest import Backtest, Group, backtest
from coatcheck.policy.load import load_policy
from coatcheck.policy.recorded import Recorded, recorded
from coatcheck.sessions.read import find_sessions, open_session
from coatcheck.state import StateDirectory
from coatcheck_cli.options import Command, json_option, json_text, printable, show, state_option
from coatcheck_cli.policy_explain import read_object

COLUMNS = ("caller", "server", "was", "now", "times", "calls")


def sessions_option(command: Command) -> Command:
    """`--sessions PATH`, any number of times, passed as `sessions: tuple[Path, ...]`."""
    return click.option(
        "--sessions",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A session's .jsonl, or a folder of sessions; the state's own if not given. May be repeated.",
    )(command)


@click.command("backtest")
@click.argument("new", type=click.Path(path_type=Path))
@sessions_option
@click.option("--caller", help="Only this identity's requests.")
@click.option("--claims", default=None, metavar="JSON", help="Claims of the callers' tokens beside their identities'.")
@state_option
@json_option
def backtest_command(
    new: Path,
    sessions: tuple[Path, ...],
    caller: str | None,
    claims: str | None,
    state: StateDirectory,
    *,
    as_json: bool,
) -> None:
    """Decide recorded requests again by the policy NEW, and show whose decision changes. Exit 1 where one does."""
    policy = load_policy(new)
    given = None if claims is None else read_object(claims, "--claims")
    made = backtest(policy, read_sessions(sessions, state, caller), claims=given)
    if as_json:
        click.echo(json_text(_as_data(made)))
    else:
        changed, unknown = made.count("changed"), made.count("unknown")
        if made.groups:
            show([_row(group) for group in made.groups], COLUMNS, as_json=False, empty="")
        click.echo(f"{made.same + changed + unknown} requests: {made.same} same, {changed} changed, {unknown} unknown")
    if made.count("changed"):
        click.get_current_context().exit(1)


def read_sessions(sessions: Sequence[Path], state: StateDirectory, caller: str | None) -> Iterator[Recorded]:
    """The requests of all the sessions, each session once. Raises `CoatcheckError` where one cannot be read."""
    if not sessions:
        state.check()
    paths = [path for given in sessions or (state.sessions,) for path in _files(given)]
    if not paths:
        raise CoatcheckError("no recorded sessions", hint="see: coatcheck sessions list")
    for path in dict.fromkeys(path.resolve() for path in paths):
        session = open_session(path)
        if caller is None or session.head.caller == caller:
            yield from recorded(session)


def _files(given: Path) -> list[Path]:
    """A session's own file, the sessions of a folder (by day), or those of a state directory."""
    if not given.is_dir():
        return [given]
    folder = given / "sessions" if (given / "sessions").is_dir() else given
    found = [summary.path for summary in find_sessions(folder)]
    return found or sorted(path for path in folder.glob("*.jsonl") if path.is_file())


def _row(group: Group) -> dict[str, object]:
    now = group.now
    by = ", ".join(now.rules) or now.why
    said = f"{now.effect} ({by})" if now.verdict == "changed" else f"unknown ({', '.join(now.rules)}: {now.why})"
    was = f"{group.was} ({', '.join(group.was_rules)})" if group.was_rules else group.was
    more = ", …" if group.count > len(group.titles) and len(group.titles) > 1 else ""
    return {
        "caller": group.caller,
        "server": group.server,
        "was": was,
        "now": said,
        "times": group.count,
        "calls": printable(", ".join(group.titles) + more),
    }


def _as_data(made: Backtest) -> dict[str, object]:
    groups = [
        {
            "caller": group.caller,
            "server": group.server,
            "verdict": group.now.verdict,
            "was": {"effect": group.was, "rules": group.was_rules},
            "now": {"effect": group.now.effect, "rules": group.now.rules, "why": group.now.why}
            if group.now.verdict == "changed"
            else {"effect": None, "rules": group.now.rules, "why": group.now.why},
            "times": group.count,
            "calls": list(group.titles),
        }
        for group in made.groups
    ]
    return {"same": made.same, "changed": made.count("changed"), "unknown": made.count("unknown"), "groups": groups}
