"""`coatcheck journal`: read the audit log, and check that it is whole."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import override

import click

from coatcheck.errors import JournalError, Problem
from coatcheck.journal.read import caller_name, last_records, records
from coatcheck.journal.verify import Report, verify_journal
from coatcheck.mcp.call import Json
from coatcheck.state import StateDirectory
from coatcheck_cli.options import json_option, printable, show, state_option

COLUMNS = ("seq", "at", "kind", "caller", "server", "what", "how")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})([smhdw])")


class Moment(click.ParamType[datetime]):
    """A point in time: `2026-11-24`, `2026-11-24T10:15:00Z` (UTC where no zone is given), or `90m` ago."""

    name = "moment"

    @override
    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            if ago := _AGO.fullmatch(text):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail("expected 2026-11-24, 2026-11-24T10:15:00Z, or an age such as 90m or 7d", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group()
def journal() -> None:
    """Read the audit log and verify it."""


@journal.command()
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=1), help="How many records.")
@state_option
@json_option
def tail(count: int, state: StateDirectory, as_json: bool) -> None:
    """The last records, oldest first."""
    state.check()
    _show(last_records(state.journal, count), as_json=as_json)


@journal.command()
@click.option("--caller", help="Only this identity's.")
@click.option("--server", help="Only this server's.")
@click.option("--kind", help="Only this kind: request, outcome, refusal, approval, pin, token, lifecycle, file, gap.")
@click.option("--since", type=Moment(), help="Only from then on: a date, a time, or an age such as 90m or 7d.")
@state_option
@json_option
def query(
    *,
    caller: str | None,
    server: str | None,
    kind: str | None,
    since: datetime | None,
    state: StateDirectory,
    as_json: bool,
) -> None:
    """The records that match everything asked for, oldest first."""
    state.check()
    _show(records(state.journal, kind=kind, caller=caller, server=server, since=since), as_json=as_json)


@journal.command()
@click.option("--checkpoint", metavar="HASH", help="A last hash kept from before: shows that no end was cut off.")
@state_option
@json_option
def verify(checkpoint: str | None, state: StateDirectory, as_json: bool) -> None:
    """Check every record, link and file. Exit 1 where anything is wrong."""
    state.check()
    report = verify_journal(state.journal, checkpoint=checkpoint)
    if as_json:
        click.echo(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))
        if not report.ok:
            click.get_current_context().exit(1)
        return
    if report.torn:
        click.echo(
            "warning: a last line is torn, as a crash leaves it; that nothing was cut off only a checkpoint shows",
            err=True,
        )
    if not report.ok:
        raise JournalError(_problems(report))
    click.echo(
        f"journal verifies: {_counted(report.records, 'record')} in {_counted(report.files, 'file')}, "
        f"{f'last hash {report.last_hash}' if report.last_hash else 'no last hash'}"
    )


def _problems(report: Report) -> list[Problem]:
    return [
        Problem(f"{printable(finding.file)}:{finding.line}" if finding.file else "", printable(finding.what))
        for finding in report.findings
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _show(found: Iterable[dict[str, Json]], *, as_json: bool) -> None:
    rows = list(found) if as_json else [_row(record) for record in found]
    show(rows, COLUMNS, as_json=as_json, empty="no records")


def _row(record: dict[str, Json]) -> dict[str, Json]:
    return {
        "seq": record.get("seq"),
        "at": record.get("at"),
        "kind": record.get("kind"),
        "caller": caller_name(record),
        "server": record.get("server"),
        "what": _what(record),
        "how": _how(record),
    }


def _what(record: dict[str, Json]) -> Json:
    """What the record is about, in a few words."""
    calls = record.get("calls")
    if isinstance(calls, list) and calls:
        named = [f"{call.get('method')} {call.get('name') or ''}".strip() for call in calls if isinstance(call, dict)]
        return ", ".join(named)
    for field in ("target", "call", "exchange", "previous"):
        if record.get(field) is not None:
            return record[field]
    return None


_BESIDE = (("observed", "observed only, else"), ("shadow", "with shadow rules"))
"""Other decisions in a record than the one that was applied, and what they are called here."""


def _decided(decision: Json) -> str | None:
    """A decision in a few words."""
    if not isinstance(decision, dict):
        return None
    rules = decision.get("rules")
    named = ", ".join(map(str, rules)) if isinstance(rules, list) else ""
    return f"{decision.get('effect')} ({named})" if named else str(decision.get("effect"))


def _how(record: dict[str, Json]) -> Json:
    """How it was decided or ended, in a few words, and what would have been decided otherwise."""
    decision = _decided(record.get("decision"))
    fields = (record.get(field) for field in ("outcome", "reason", "event", "ending", "error"))
    how = decision if decision is not None else next((value for value in fields if value is not None), None)
    others = ((word, _decided(record.get(field))) for field, word in _BESIDE)
    beside = [f"{word} {other}" for word, other in others if other not in (None, decision)]
    return "; ".join([str(how), *beside]) if beside else how
