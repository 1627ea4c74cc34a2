"""`coatcheck policy pin`: what servers' tools were when they were pinned, what has changed, and accepting it.

Law: what is accepted is what was shown: the definition that is stored as seen, by its digest.
"""

import os
import pwd
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import BinaryIO

import click

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.pins import Book, Definition, Pin, definitions_of, difference
from coatcheck.mcp.strict_json import parse_json
from coatcheck.pins.store import PinStore
from coatcheck.state import StateDirectory
from coatcheck_cli.options import json_option, printable, show, state_option

COLUMNS = ("server", "tool", "state", "pinned", "now", "approval")
SHOWN = 12
"""Characters of a digest in a table."""
MAX_FILE = 16 * 1024 * 1024

_LIST_HINT = "see them with: coatcheck policy pin"


@click.command("pin")
@click.option("--server", help="Only the tools of this server.")
@click.option("--show", "shown", metavar="TOOL", help="Print how a tool has changed.")
@click.option("--accept", "accepted", metavar="TOOL", help="Pin a changed tool as it is now.")
@click.option("--forget", "forgotten", metavar="TOOL", help="Take a pin away: the tool is pinned anew when it is seen.")
@click.option(
    "--from",
    "listed",
    metavar="FILE",
    type=click.File("rb"),
    help="Pin the tools of a tools/list answer as this file has them; - reads stdin.",
)
@state_option
@json_option
def pin_command(
    server: str | None,
    shown: str | None,
    accepted: str | None,
    forgotten: str | None,
    listed: BinaryIO | None,
    state: StateDirectory,
    *,
    as_json: bool,
) -> None:
    """List the tools that are pinned; or show, accept, forget or make pins of one server.

    This needs the gateway's own state. A running gateway takes a change over within seconds, and journals it.
    """
    asked = [one for one in (shown, accepted, forgotten, listed) if one is not None]
    if len(asked) > 1:
        raise click.UsageError("give one of --show, --accept, --forget and --from")
    store = PinStore(state.open_database())
    if not asked:
        pins = store.load(server)
        show([_row(pin, as_json=as_json) for pin in _in_trouble(pins)], COLUMNS, as_json=as_json, empty="no tools")
        return
    if server is None:
        raise click.UsageError("give --server, whose tool it is")
    if listed is not None:
        _pin_all(store, server, _read_list(listed))
        return
    tool = shown or accepted or forgotten or ""
    pin = _find(store, server, tool)
    if forgotten is not None:
        store.forget(server, tool, by=_account())
        click.echo(f"forgotten: {printable(tool)} of {server}")
    elif pin.seen is None:
        raise CoatcheckError("the tool is as it was pinned", where=printable(tool), hint=_LIST_HINT)
    elif shown is not None:
        for line in difference(*store.definitions(server, tool)).splitlines():
            click.echo(printable(line))
    elif store.accept(server, tool, pin.seen.digest, now=datetime.now(UTC), by=_account()):
        click.echo(f"accepted: {printable(tool)} of {server}, now {pin.seen.digest[:SHOWN]}")
    else:
        raise CoatcheckError("the tool has changed again just now", where=printable(tool), hint=_LIST_HINT)


def _find(store: PinStore, server: str, tool: str) -> Pin:
    for pin in store.load(server):
        if pin.tool == tool:
            return pin
    raise CoatcheckError(f"no such tool is pinned for server {server!r}", where=printable(tool), hint=_LIST_HINT)


def _pin_all(store: PinStore, server: str, tools: Mapping[str, Definition]) -> None:
    changed = store.pin(server, tools, now=datetime.now(UTC), by=_account())
    for tool in changed:
        click.echo(f"pinned: {printable(tool)} of {server}")
    if not changed:
        click.echo("all of them are pinned so already")


def _read_list(file: BinaryIO) -> dict[str, Definition]:
    """The tools of a `tools/list` answer: the whole message, its result, or the list alone. Raises `CoatcheckError`."""
    where = "--from"
    data = file.read(MAX_FILE + 1)
    try:
        value = parse_json(data) if len(data) <= MAX_FILE else None
    except Refusal as refusal:
        raise CoatcheckError(refusal.message, where=where) from None
    for member in ("result", "tools"):
        value = value.get(member, value) if isinstance(value, dict) else value
    found = definitions_of(value)
    count = len(value) if isinstance(value, list) else 0
    if not found or len(found) != count:
        hint = 'such as {"tools": [{"name": …, "inputSchema": …}]}, each with a name of its own'
        raise CoatcheckError("not a list of tools", where=where, hint=hint)
    return {tool: definitions[0] for tool, definitions in found.items()}


def _in_trouble(pins: list[Pin]) -> list[tuple[Pin, str]]:
    """Each pin with its state in one word."""
    books = {server: Book(p for p in pins if p.server == server) for server in {p.server for p in pins}}
    words = {"tool-changed": "changed", "tool-look-alike": "look-alike", "tool-not-pinned": "too many", None: "pinned"}
    return [(pin, words[books[pin.server].trouble_with(pin.tool)]) for pin in pins]


def _row(found: tuple[Pin, str], *, as_json: bool) -> dict[str, Json]:
    pin, state = found
    length = None if as_json else SHOWN
    return {
        "server": pin.server,
        "tool": pin.tool,
        "state": state,
        "pinned": pin.pinned.digest[:length],
        "now": pin.seen.digest[:length] if pin.seen else None,
        "approval": pin.approval,
    }


def _account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
