"""Options that several commands share, and the one way to print data."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from coatcheck.state import StateDirectory

type Command = Callable[..., Any]

DEFAULT_STATE = Path("~/.local/state/coatcheck")


def state_option(command: Command) -> Command:
    """`--state DIR`, passed as `state: StateDirectory`."""
    return click.option(
        "--state",
        envvar="COATCHECK_STATE",
        default=DEFAULT_STATE,
        type=click.Path(path_type=Path),
        show_default=True,
        callback=lambda _ctx, _param, value: StateDirectory(value.expanduser().absolute()),
        help="The gateway's state directory (COATCHECK_STATE).",
    )(command)


def policy_option(*, required: bool) -> Callable[[Command], Command]:
    """`--policy PATH`, a file or a folder, passed as `policy: Path | None`."""
    return click.option(
        "--policy",
        envvar="COATCHECK_POLICY",
        required=required,
        type=click.Path(path_type=Path),
        help="The policy: a YAML file, or a folder of them (COATCHECK_POLICY).",
    )


def json_option(command: Command) -> Command:
    """`--json`, passed as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Prints rows as a table of `columns`, or whole as a JSON array."""
    if as_json:
        click.echo(json_text(rows))
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(column) is None else printable(str(row[column])) for column in columns))
    Console(soft_wrap=False, markup=False, highlight=False).print(table)


def json_text(data: object) -> str:
    """JSON that people may look at in a terminal: what would act there is escaped, which says the same to a parser."""
    text = json.dumps(data, indent=2, default=str, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def printable(text: str) -> str:
    """Text from outside, safe on a terminal: control and bidirectional characters are shown escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
