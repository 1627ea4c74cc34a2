"""`coatcheck sessions`: recorded conversations, shown, exported, held again and compared.

Law: a replay goes through the gateway, as the caller whose token it is given, and only there.
"""

import json
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Json
from coatcheck.sessions.diff import Compared, compare, recorded_answer
from coatcheck.sessions.read import Exchange, Session, find_sessions, read_session
from coatcheck.sessions.replay import Replayed, replay
from coatcheck.state import StateDirectory
from coatcheck_cli.control_client import read_token
from coatcheck_cli.gateway_client import GatewayClient
from coatcheck_cli.options import json_option, printable, show, state_option

COLUMNS = ("id", "caller", "server", "started", "ended", "exchanges", "state")
TIMELINE = ("n", "at", "request", "decision", "rules", "answer", "events", "outcome")
REPLAYED = ("n", "request", "recorded", "now", "verdict")
COMPARED = ("a", "b", "request", "difference")


@click.group()
def sessions() -> None:
    """Recorded conversations: list, show, export, replay, compare."""


@sessions.command("list")
@state_option
@json_option
def list_(state: StateDirectory, *, as_json: bool) -> None:
    """Every recorded session, newest first."""
    state.check()
    rows = [
        asdict(summary) | {"started": _moment(summary.started), "ended": summary.ended and _moment(summary.ended)}
        for summary in find_sessions(state.sessions)
    ]
    show(rows, COLUMNS, as_json=as_json, empty="no sessions")


@sessions.command("show")
@click.argument("session_id", metavar="ID")
@state_option
@json_option
def show_(session_id: str, state: StateDirectory, *, as_json: bool) -> None:
    """One session as it went: what was asked, how it was decided, what came back. ID may be its beginning."""
    session = _find(state, session_id)
    rows = [_row(exchange) for exchange in session.exchanges()]
    head = asdict(session.head) | {
        "started": _moment(session.head.started),
        "ended": session.closed and _moment(session.closed.at),
        "state": session.state,
        "lost_lines": session.closed.lost if session.closed else 0,
    }
    if as_json:
        click.echo(json.dumps({**head, "exchanges": rows}, indent=2))
        return
    for name, value in head.items():
        if value:
            click.echo(f"{name.replace('_', ' ') + ':':<12}{printable(str(value))}")
    click.echo()
    show(rows, TIMELINE, as_json=False, empty="no exchanges")


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(["mitm", "jsonl"]), default="mitm", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; ID.mitm beside the record if not.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@state_option
def export(session_id: str, form: str, output: Path | None, state: StateDirectory, *, force: bool) -> None:
    """Write a session as a flow file, for `mitmweb -r`, `mitmdump -C` and `-S`, or copy its record."""
    from coatcheck.proxy.flow_file import private_file, write_flow_file  # noqa: PLC0415  # mitmproxy takes long to load

    session = _find(state, session_id)
    if output is None and form == "jsonl":
        raise click.UsageError("--format jsonl needs -o FILE")
    out = session.path.with_suffix(".mitm") if output is None else output
    if out.exists() and out.samefile(session.path):
        raise CoatcheckError("that is the record itself", where=str(out))
    if out.exists() and not force:
        raise CoatcheckError("the file is there already", where=str(out), hint="--force replaces it")
    if form == "mitm":
        count = write_flow_file(session, out)
    else:
        count = len(session.numbers)
        with session.path.open("rb") as record, private_file(out) as copy:
            shutil.copyfileobj(record, copy)
    click.echo(f"{count} {'exchange' if count == 1 else 'exchanges'} written to {printable(str(out))}")


@sessions.command("replay")
@click.argument("session_id", metavar="ID")
@click.option("--proxy", required=True, metavar="HOST:PORT", help="The running gateway.")
@click.option(
    "--token-file", required=True, type=click.File("r", encoding="utf-8"), help="The caller's token; - reads stdin."
)
@click.option("--tool", "tools", multiple=True, metavar="GLOB", help="Call these tools too, and what was not allowed.")
@click.option("--ca", type=click.Path(path_type=Path), help="The gateway's CA certificate; DIR/ca/ca.pem if not given.")
@state_option
@json_option
def replay_(
    session_id: str,
    proxy: str,
    token_file: TextIO,
    tools: tuple[str, ...],
    ca: Path | None,
    state: StateDirectory,
    *,
    as_json: bool,
) -> None:
    """Hold a conversation again, through the gateway, and compare the answers. Exit 1 where one differs.

    Only what reads is sent; tools are called only where --tool names them.
    """
    session = _find(state, session_id)
    gateway = GatewayClient(proxy, read_token(token_file), ca or state.ca / "ca.pem")
    done: list[Replayed] = []
    try:
        for item in replay(session, gateway.send, tools=tools):
            done.append(item)  # noqa: PERF402  # what was done before an error is shown too
    finally:
        rows = [asdict(item) if as_json else _replayed(item) for item in done]
        show(rows, REPLAYED, as_json=as_json, empty="no exchanges")
    if any(item.same is False for item in done):
        click.get_current_context().exit(1)


@sessions.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@state_option
@json_option
def diff(first: str, second: str, state: StateDirectory, *, as_json: bool) -> None:
    """What two sessions asked and were told, side by side. Exit 1 where they differ."""
    compared = list(compare(_find(state, first), _find(state, second)))
    if as_json:
        show([asdict(item) for item in compared], COMPARED, as_json=True, empty="")
    else:
        differing = [row for item in compared for row in _compared(item)]
        show(differing, COMPARED, as_json=False, empty=f"no differences in {len(compared)} exchanges")
    if any(item.differences for item in compared):
        click.get_current_context().exit(1)


def _find(state: StateDirectory, session_id: str) -> Session:
    state.check()
    return read_session(state.sessions, session_id)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _row(exchange: Exchange) -> dict[str, Json]:
    asked, answer = exchange.request, recorded_answer(exchange)
    return {
        "n": exchange.n,
        "at": f"{asked.at:%H:%M:%S.%f}"[:-3],
        "request": exchange.title,
        "decision": asked.decision,
        "rules": ", ".join(asked.rules),
        "approval": asked.approval,
        "status": answer.status,
        "answer": answer.summary,
        "events": len(exchange.events) or None,
        "outcome": exchange.end.outcome if exchange.end else "unfinished",
    }


def _replayed(item: Replayed) -> dict[str, Json]:
    verdict = {True: "same", False: "differs", None: f"skipped: {item.skipped}" if item.skipped else "not compared"}
    return {
        "n": item.n,
        "request": item.title,
        "recorded": item.recorded,
        "now": item.now,
        "verdict": verdict[item.same],
    }


def _compared(item: Compared) -> list[dict[str, Json]]:
    return [{"a": item.a, "b": item.b, "request": item.title, "difference": text} for text in item.differences]
