"""Tool pins in the database: SQLite or PostgreSQL, through SQLAlchemy Core.

Law: the first definition of a tool that is written is its pin, whichever gateway saw it; another one is a change.
Law: what is accepted is a definition by its digest, never "what it is now".
Each change is one transaction that begins by writing, so that a second one waits and then sees what the first did.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from coatcheck.mcp.call import Json
from coatcheck.mcp.pins import Definition, Pin, Sight
from coatcheck.pins.tables import CHANGES, NOTES, PINS, create_tables, pin_id, transaction

type Doing = Literal["accepted", "forgotten", "pinned"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a person did to a pin on the command line: `by` is an operating-system account."""

    event: Doing
    server: str
    tool: str
    digest: str
    by: str


class PinStore:
    """The pins of one database. Synchronous: call it off the event loop. Raises `StateError` where it fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create_tables(engine)

    def generation(self) -> int:
        """Grows with every change."""
        with transaction(self._engine) as connection:
            return int(connection.execute(select(CHANGES.c.generation)).scalar_one())

    def load(self, server: str | None = None) -> list[Pin]:
        """All pins, or those of one server, by server and tool; without the definitions' texts."""
        columns = (PINS.c.server, PINS.c.tool, PINS.c.digest, PINS.c.seen_digest, PINS.c.approval)
        with transaction(self._engine) as connection:
            rows = connection.execute(select(*columns)).mappings().all()
        pins = [_pin(row) for row in rows]
        return sorted((p for p in pins if server in (None, p.server)), key=lambda pin: (pin.server, pin.tool))

    def definitions(self, server: str, tool: str) -> tuple[Json, Json]:
        """How the tool is pinned and what it is now, each None where it is not there or too long to be kept."""
        wanted = select(PINS.c.definition, PINS.c.seen_definition).where(PINS.c.id == pin_id(server, tool))
        with transaction(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return (None, None) if row is None else (_read(row.definition), _read(row.seen_definition))

    def write(self, sights: Sequence[Sight], *, now: datetime) -> None:
        """Stores what was seen, in order."""
        while True:
            with suppress(IntegrityError), transaction(self._engine) as connection:
                _raise_generation(connection)
                for sight in sights:
                    if sight.event != "look-alike":
                        _write(connection, sight.pin, now)
                return

    def ask(self, server: str, tool: str, digest: str, approval: str | None) -> None:
        """Notes the question about the change to the definition of that digest."""
        which = (PINS.c.id == pin_id(server, tool)) & (PINS.c.seen_digest == digest)
        with transaction(self._engine) as connection:
            _raise_generation(connection)
            connection.execute(update(PINS).where(which).values(approval=approval))

    def accept(self, server: str, tool: str, digest: str, *, now: datetime, by: str | None = None) -> bool:
        """Pins the definition of that digest in place of the one before, where the tool is that now."""
        which = (PINS.c.id == pin_id(server, tool)) & (PINS.c.seen_digest == digest)
        values = {"digest": PINS.c.seen_digest, "definition": PINS.c.seen_definition, "pinned_at": _seconds(now)}
        gone = {"seen_digest": None, "seen_definition": None, "approval": None}
        with transaction(self._engine) as connection:
            _raise_generation(connection)
            is_done = connection.execute(update(PINS).where(which).values(**values, **gone)).rowcount == 1
            if is_done and by is not None:
                _note(connection, Note("accepted", server, tool, digest, by))
        return is_done

    def forget(self, server: str, tool: str, *, by: str) -> bool:
        """Takes a pin away: what is seen of that name next is seen for the first time."""
        which = PINS.c.id == pin_id(server, tool)
        with transaction(self._engine) as connection:
            _raise_generation(connection)
            digest = connection.execute(select(PINS.c.digest).where(which)).scalar_one_or_none()
            if digest is not None:
                connection.execute(delete(PINS).where(which))
                _note(connection, Note("forgotten", server, tool, digest, by))
        return digest is not None

    def pin(self, server: str, tools: Mapping[str, Definition], *, now: datetime, by: str) -> list[str]:
        """Pins tools as somebody says they are, whatever was seen before; the names of those that this changed."""
        changed: list[str] = []
        with transaction(self._engine) as connection:
            _raise_generation(connection)
            for tool, definition in tools.items():
                which = PINS.c.id == pin_id(server, tool)
                found = connection.execute(select(PINS.c.digest, PINS.c.seen_digest).where(which)).one_or_none()
                if found is not None and (found.digest, found.seen_digest) == (definition.digest, None):
                    continue
                connection.execute(delete(PINS).where(which))
                _insert(connection, Pin(server, tool, definition), now)
                _note(connection, Note("pinned", server, tool, definition.digest, by))
                changed.append(tool)
        return changed

    def notes(self) -> list[tuple[int, Note]]:
        """What was done on the command line and is in no journal yet, with its number."""
        with transaction(self._engine) as connection:
            rows = connection.execute(select(NOTES).order_by(NOTES.c.id)).all()
        return [(row.id, Note(**json.loads(row.note))) for row in rows]

    def drop_notes(self, numbers: Sequence[int]) -> None:
        """They are in the journal."""
        with transaction(self._engine) as connection:
            connection.execute(delete(NOTES).where(NOTES.c.id.in_(numbers)))


def _write(connection: Connection, pin: Pin, now: datetime) -> None:
    which = PINS.c.id == pin_id(pin.server, pin.tool)
    row = connection.execute(select(PINS.c.digest, PINS.c.seen_digest).where(which)).one_or_none()
    if row is None:
        _insert(connection, pin, now)
        return
    # another gateway may have pinned another definition in the meantime, or somebody accepted this one
    said = pin.pinned if pin.seen is None else pin.seen
    is_change = said.digest != row.digest
    if row.seen_digest == (said.digest if is_change else None):
        return  # known, and perhaps asked about
    values = {"seen_digest": said.digest, "seen_definition": _written(said)} if is_change else {}
    nothing = {"seen_digest": None, "seen_definition": None, "approval": None}
    connection.execute(update(PINS).where(which).values(nothing | values))


def _insert(connection: Connection, pin: Pin, now: datetime) -> None:
    row = {
        "id": pin_id(pin.server, pin.tool),
        "server": json.dumps(pin.server),
        "tool": json.dumps(pin.tool),
        "digest": pin.pinned.digest,
        "definition": _written(pin.pinned),
        "seen_digest": pin.seen.digest if pin.seen else None,
        "seen_definition": _written(pin.seen) if pin.seen else None,
        "pinned_at": _seconds(now),
    }
    connection.execute(insert(PINS).values(row))


def _note(connection: Connection, note: Note) -> None:
    fields = {"event": note.event, "server": note.server, "tool": note.tool, "digest": note.digest, "by": note.by}
    connection.execute(insert(NOTES).values(note=json.dumps(fields)))


def _raise_generation(connection: Connection) -> None:
    connection.execute(update(CHANGES).values(generation=CHANGES.c.generation + 1))


def _pin(row: RowMapping) -> Pin:
    seen = Definition(row["seen_digest"]) if row["seen_digest"] is not None else None
    return Pin(json.loads(row["server"]), json.loads(row["tool"]), Definition(row["digest"]), seen, row["approval"])


def _written(definition: Definition) -> str:
    return json.dumps(json.loads(definition.text)) if definition.text else ""


def _read(text: str | None) -> Json:
    found: Json = json.loads(text) if text else None
    return found


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
