"""`coatcheck approvals`: see what is held, and decide it.

Law: who decides locally is told by the process's own account, never by an option or an environment variable.
"""

import json
import os
import pwd
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO

import click

from coatcheck.approvals import model
from coatcheck.approvals.model import Approval, ApprovalError, Verdict, Vote, canonical_id
from coatcheck.approvals.reviewers import local_reviewer, may_decide
from coatcheck.approvals.store import ApprovalStore
from coatcheck.mcp.call import Json
from coatcheck.policy.load import load_policy
from coatcheck.state import StateDirectory
from coatcheck_cli.control_client import DEFAULT_CONTROL, decide_remotely, read_token
from coatcheck_cli.options import Command, json_option, policy_option, printable, show, state_option

COLUMNS = ("id", "state", "caller", "server", "call", "rules", "votes", "expires")


@click.group()
def approvals() -> None:
    """See held calls and decide them."""


@approvals.command("list")
@click.option("--all", "show_all", is_flag=True, help="The decided ones too: the last 50.")
@state_option
@json_option
def list_(state: StateDirectory, *, show_all: bool, as_json: bool) -> None:
    """What waits for a decision, oldest first."""
    store = ApprovalStore(state.open_database())
    found = store.recent() if show_all else store.pending(now=datetime.now(UTC))
    rows = [model.as_json(approval) if as_json else _row(approval) for approval in found]
    show(rows, COLUMNS, as_json=as_json, empty="nothing waits for a decision")


@approvals.command("show")
@click.argument("approval_id", metavar="ID")
@state_option
@json_option
def show_(approval_id: str, state: StateDirectory, *, as_json: bool) -> None:
    """One approval, with the arguments as the reviewers see them."""
    approval = _find(ApprovalStore(state.open_database()), approval_id)
    _print(model.as_json(approval), as_json=as_json, text=_page)


def _deciding(command: Command) -> Command:
    """The argument and options that `approve` and `deny` share."""
    for decorate in (
        json_option,
        state_option,
        click.option(
            "--control",
            metavar="URL",
            envvar="COATCHECK_CONTROL",
            default=DEFAULT_CONTROL,
            show_default=True,
            help="The gateway's control port, for --token-file (COATCHECK_CONTROL).",
        ),
        click.option(
            "--token-file",
            type=click.File("r"),
            help="Decide at the control port with the token in this file (- for standard input).",
        ),
        policy_option(required=False),
        click.option("--reason", help="Why; kept with the vote."),
        click.argument("approval_id", metavar="ID"),
    ):
        command = decorate(command)
    return command


@approvals.command()
@_deciding
def approve(
    *,
    approval_id: str,
    reason: str | None,
    policy: Path | None,
    token_file: TextIO | None,
    control: str,
    state: StateDirectory,
    as_json: bool,
) -> None:
    """Let the held call go, once."""
    decided = _decide(
        "approve", approval_id, reason, policy=policy, token_file=token_file, control=control, state=state
    )
    _print(decided, as_json=as_json, text=partial(_told, "approve"))


@approvals.command()
@_deciding
def deny(
    *,
    approval_id: str,
    reason: str | None,
    policy: Path | None,
    token_file: TextIO | None,
    control: str,
    state: StateDirectory,
    as_json: bool,
) -> None:
    """Refuse the held call."""
    decided = _decide("deny", approval_id, reason, policy=policy, token_file=token_file, control=control, state=state)
    _print(decided, as_json=as_json, text=partial(_told, "deny"))


@approvals.command()
@click.option("--every", "seconds", default=1.0, show_default=True, type=click.FloatRange(min=0.05), help="Seconds.")
@state_option
@json_option
def watch(seconds: float, state: StateDirectory, *, as_json: bool) -> None:
    """Print what waits, and then each change, until interrupted."""
    store = ApprovalStore(state.open_database())
    known: dict[str, str] = {}
    found = store.pending(now=datetime.now(UTC))
    try:
        while True:
            for approval in changed(known, found):
                known[approval.id] = approval.state
                _print(model.as_json(approval), as_json=as_json, text=_line, indent=None)
            time.sleep(seconds)
            found = [*reversed(store.recent(200)), *store.pending(now=datetime.now(UTC))]
    except KeyboardInterrupt:
        return


def changed(known: Mapping[str, str], found: Iterable[Approval]) -> list[Approval]:
    """What is to be told: new ones that wait, and those whose state is not the one told before."""
    fresh: dict[str, Approval] = {}
    for approval in found:
        before = known.get(approval.id)
        if approval.state != before and (before is not None or approval.state == "pending"):
            fresh[approval.id] = approval
    return list(fresh.values())


def _decide(
    verdict: Verdict,
    approval_id: str,
    reason: str | None,
    *,
    policy: Path | None,
    token_file: TextIO | None,
    control: str,
    state: StateDirectory,
) -> dict[str, Json]:
    if token_file is not None:
        return decide_remotely(control, _canonical(approval_id), verdict, reason, read_token(token_file))
    if policy is None:
        raise click.UsageError("give --policy, to decide as a local reviewer, or --token-file, to decide with a token")
    return model.as_json(_decide_locally(verdict, approval_id, reason, policy, state))


def _decide_locally(
    verdict: Verdict, approval_id: str, reason: str | None, policy: Path, state: StateDirectory
) -> Approval:
    """Votes as the reviewer whose `local` lists this process's account. Raises `ApprovalError`."""
    store = ApprovalStore(state.open_database())
    approval = _find(store, approval_id)
    reviewers = load_policy(policy).reviewers
    account = pwd.getpwuid(os.geteuid()).pw_name
    now = datetime.now(UTC)
    name = local_reviewer(reviewers, approval.question.reviewers, account)
    vote = Vote(name or "", account, verdict, now, reason)
    if not may_decide(reviewers, approval, vote):
        asked = printable(", ".join(approval.question.reviewers))
        hint = f"it is for {asked}, and the policy lists the account {account!r} as local to none of them"
        raise ApprovalError("not a reviewer", where=approval.id, hint=hint)
    return store.vote(approval.id, vote, now=now)


def _find(store: ApprovalStore, text: str) -> Approval:
    approval = store.get(_canonical(text))
    if approval is None:
        raise ApprovalError("unknown", where=printable(text), hint="see them with: coatcheck approvals list --all")
    return approval


def _canonical(text: str) -> str:
    if (approval_id := canonical_id(text)) is None:
        raise ApprovalError("unknown", where=printable(text), hint="an approval's id has ten letters and digits")
    return approval_id


def _row(approval: Approval) -> dict[str, str]:
    question = approval.question
    return {
        "id": approval.id,
        "state": approval.state,
        "caller": question.caller,
        "server": question.server,
        "call": question.call_title,
        "rules": ", ".join(question.rules),
        "votes": f"{len(approval.votes)} of {question.quorum}",
        "expires": approval.expires_at.isoformat(timespec="seconds"),
    }


def _print(
    approval: dict[str, Json], *, as_json: bool, text: Callable[[dict[str, Json]], str], indent: int | None = 2
) -> None:
    click.echo(json.dumps(approval, indent=indent) if as_json else text(approval))


def _page(approval: dict[str, Json]) -> str:
    """Name and value a line; texts of several lines indented below their name."""
    out: list[str] = []
    for name, value in approval.items():
        if value is None or value == []:
            continue
        label = name.replace("_", " ")
        shown = _texts(value)
        if len(shown) == 1 and name != "arguments":
            out.append(f"{label:<16}{shown[0]}")
        else:
            out += [label, *(f"    {line}" for line in shown)]
    return "\n".join(out)


def _texts(value: Json) -> list[str]:
    if isinstance(value, list):
        return [printable(_vote(each) if isinstance(each, dict) else str(each)) for each in value]
    return [printable(line) for line in str(value).split("\n")]


def _vote(vote: Mapping[str, Json]) -> str:
    because = f": {vote['reason']}" if vote.get("reason") else ""
    return f"{vote.get('verdict')} by {vote.get('person')} ({vote.get('reviewer')}), {vote.get('at')}{because}"


def _line(approval: dict[str, Json]) -> str:
    parts = (approval.get(name) for name in ("id", "state", "caller", "server", "call_title"))
    return printable("  ".join(str(part) for part in parts if part is not None))


def _told(verdict: Verdict, approval: dict[str, Json]) -> str:
    """`approved K7Q2M4X9WD (shop-ci, tools/call refund_order)`, or that more votes are needed."""
    state, votes, quorum = approval.get("state"), approval.get("votes"), approval.get("quorum")
    about = f"{approval.get('id')} ({approval.get('caller')}, {approval.get('call_title')})"
    if state == "pending" and isinstance(votes, list):
        return printable(f"counted {verdict} for {about}: {len(votes)} of {quorum}")
    return printable(f"{state} {about}")
