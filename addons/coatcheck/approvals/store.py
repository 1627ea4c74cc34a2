"""Approvals in the database: SQLite or PostgreSQL, through SQLAlchemy Core.

Law: an approval is decided once and used once, whoever races whom. Each change is one transaction that begins by
writing the row, so that a second one waits and then sees what the first did.
Law: at most one approval is open for one call of one caller under one policy: a retry joins it.
Law: written before effect: a change is committed after its record is, and not at all where that cannot be written.
A process that ends between the two leaves a record of what did not happen yet, never a change without a record.
Law: time is on nobody's side: what was written later than now plus a minute cannot be used.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, Engine, RowMapping, Update, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from coatcheck.approvals.model import (
    MAX_ARGUMENTS,
    Approval,
    ApprovalError,
    ApprovalState,
    Question,
    Vote,
    cut,
    new_id,
)
from coatcheck.approvals.tables import approvals
from coatcheck.approvals.voting import CLOCK_SKEW, count, expire, why_not_counted
from coatcheck.database import check_format

_HINTS = {
    "own call": "a held call is decided by someone else than its caller",
    "not a reviewer": "the rule that held the call names who may decide it",
    "expired": "the caller has to ask again",
}
_OPEN = ("pending", "approved")

type Record = Callable[[Approval], None]
"""Writes down an approval as a change leaves it, while the change can still be given up: by raising."""


def _no_record(_approval: Approval) -> None:
    """Where no journal is at hand: on the command line. The gateway journals all votes before one has an effect."""


class ApprovalStore:
    """The approvals of one database. Synchronous: call it off the event loop.

    `gateway` names this gateway in what it asks, where several share the database.
    Every method raises `ApprovalError("not reachable")` where the database fails; making one raises `StateError` where
    its tables are of a newer format.
    """

    def __init__(self, engine: Engine, *, gateway: str = "") -> None:
        self._engine = engine
        self._gateway = gateway
        check_format(engine, "approvals")
        with suppress(IntegrityError):
            self._create()
            return
        self._create()  # PostgreSQL: another gateway made the table in the same moment; now it is there

    def _create(self) -> None:
        with self._transaction() as connection:
            connection.execute(CreateTable(approvals, if_not_exists=True))
            for index in approvals.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))

    def ask(self, question: Question, *, now: datetime, expires: timedelta) -> Approval:
        """Stores a new pending approval. Its arguments are cut to 16 KiB for showing."""
        while True:
            approval = _new(question, now, expires)
            with suppress(IntegrityError), self._transaction() as connection:
                self._insert(connection, approval, open_key=None)
                return approval

    def find_or_ask(
        self, question: Question, *, now: datetime, expires: timedelta, record: Record = _no_record
    ) -> tuple[Approval, bool]:
        """The open approval (pending, or approved and not used) for this very call, or a new one; and whether it is
        new. The same call: caller, token's issuer and subject, server, `call_digest`, rules, reviewers, policy.
        """
        key = _open_key(question)
        lapsed = update(approvals).where(approvals.c.open_key == key).where(approvals.c.expires_at <= now)
        while True:
            with suppress(IntegrityError), self._transaction() as connection:
                connection.execute(lapsed.values(state="expired", open_key=None))
                query = select(approvals).where(approvals.c.open_key == key)
                if (row := connection.execute(query).mappings().one_or_none()) is not None:
                    return _approval(row), False
                approval = _new(question, now, expires)
                self._insert(connection, approval, open_key=key)
                record(approval)
                return approval, True

    def get(self, approval_id: str) -> Approval | None:
        """The approval, or None."""
        with self._transaction() as connection:
            return _read(connection, approval_id)

    def states(self, ids: Collection[str]) -> dict[str, ApprovalState]:
        """Where these stand; ids that are unknown are left out."""
        query = select(approvals.c.id, approvals.c.state).where(approvals.c.id.in_(list(ids)))
        with self._transaction() as connection:
            return {row.id: row.state for row in connection.execute(query)}

    def pending(self, *, now: datetime | None = None) -> list[Approval]:
        """All that wait, oldest first; with `now` (UTC) only those that can still be decided."""
        query = select(approvals).where(approvals.c.state == "pending").order_by(approvals.c.created_at)
        if now is not None:
            query = query.where(approvals.c.expires_at > now)
        with self._transaction() as connection:
            return [_approval(row) for row in connection.execute(query).mappings()]

    def lapsed(self, *, now: datetime, limit: int = 100) -> list[Approval]:
        """The oldest that wait, but were not decided in time: for `settle`."""
        query = select(approvals).where(approvals.c.state == "pending").where(approvals.c.expires_at <= now)
        with self._transaction() as connection:
            found = connection.execute(query.order_by(approvals.c.created_at).limit(limit)).mappings()
            return [_approval(row) for row in found]

    def recent(self, limit: int = 50) -> list[Approval]:
        """The newest, whatever their state, newest first."""
        query = select(approvals).order_by(approvals.c.created_at.desc()).limit(limit)
        with self._transaction() as connection:
            return [_approval(row) for row in connection.execute(query).mappings()]

    def vote(self, approval_id: str, vote: Vote, *, now: datetime, record: Record = _no_record) -> Approval:
        """Counts one person's vote, and decides where that suffices; returns the approval as it then is.

        Raises `ApprovalError`: `unknown`, `already decided`, `expired`, `already voted`, `own call`,
        `not a reviewer`. One that has expired is marked so.
        """
        with self._transaction() as connection:
            approval = _take(connection, approval_id)
            refused = why_not_counted(approval, vote, now=now)
            after = expire(approval, now) if refused == "expired" else count(approval, vote, now)
            if refused in (None, "expired"):
                _write(connection, after)
                record(after)
        if refused is not None:
            raise ApprovalError(refused, where=approval_id, hint=_HINTS.get(refused))
        return after

    def use(self, approval_id: str, *, call_digest: str, now: datetime, record: Record = _no_record) -> bool:
        """Spends an approved approval on the call it was given for: True once, for one caller, in time."""
        change = (
            update(approvals)
            .where(approvals.c.id == approval_id)
            .where(approvals.c.state == "approved")
            .where(approvals.c.call_digest == call_digest)
            .where(approvals.c.expires_at > now)
            .where(approvals.c.decided_at <= now + CLOCK_SKEW)
            .values(state="used", open_key=None)
        )
        return self._change(approval_id, change, record)

    def settle(
        self,
        approval_id: str,
        state: Literal["expired", "withdrawn"],
        *,
        now: datetime,
        record: Record = _no_record,
    ) -> bool:
        """Ends a pending approval without a vote; False where it was not pending any more."""
        change = (
            update(approvals)
            .where(approvals.c.id == approval_id)
            .where(approvals.c.state == "pending")
            .values(state=state, decided_at=now, open_key=None)
        )
        return self._change(approval_id, change, record)

    def _change(self, approval_id: str, change: Update, record: Record) -> bool:
        """Whether the change applied, and is recorded."""
        with self._transaction() as connection:
            if connection.execute(change).rowcount != 1:
                return False
            changed = select(approvals).where(approvals.c.id == approval_id)
            record(_approval(connection.execute(changed).mappings().one()))
            return True

    def _insert(self, connection: Connection, approval: Approval, *, open_key: str | None) -> None:
        row = {
            "id": approval.id,
            "gateway": self._gateway,
            "state": approval.state,
            "call_digest": approval.question.call_digest,
            "open_key": open_key,
            "question": json.dumps(asdict(approval.question)),
            "votes": "[]",
            "created_at": approval.created_at,
            "expires_at": approval.expires_at,
        }
        connection.execute(insert(approvals).values(row))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction. The database's own message may quote what was stored, so it is not passed on."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            hint = f"the database failed ({type(error).__name__}); check that it runs and has space"
            raise ApprovalError("not reachable", where="approvals", hint=hint) from None


def _new(question: Question, now: datetime, expires: timedelta) -> Approval:
    shown = replace(question, arguments=cut(question.arguments, MAX_ARGUMENTS))
    return Approval(new_id(), shown, "pending", now, now + expires)


def _open_key(question: Question) -> str:
    """What makes two questions one: everything that was decided on, and nothing that differs between two tries."""
    same = replace(question, request_digest="", arguments="", message=None, call_title="")
    return hashlib.sha256(json.dumps(asdict(same), sort_keys=True).encode()).hexdigest()


def _take(connection: Connection, approval_id: str) -> Approval:
    """The approval, its row locked until the transaction ends: a write that changes nothing does it in any database."""
    lock = update(approvals).where(approvals.c.id == approval_id).values(state=approvals.c.state)
    connection.execute(lock)
    approval = _read(connection, approval_id)
    if approval is None:
        raise ApprovalError("unknown", where=approval_id)
    return approval


def _write(connection: Connection, approval: Approval) -> None:
    votes = [{**asdict(vote), "at": vote.at.isoformat()} for vote in approval.votes]
    values = {"state": approval.state, "decided_at": approval.decided_at, "votes": json.dumps(votes)}
    if approval.state not in _OPEN:
        values["open_key"] = None
    connection.execute(update(approvals).where(approvals.c.id == approval.id).values(values))


def _read(connection: Connection, approval_id: str) -> Approval | None:
    row = connection.execute(select(approvals).where(approvals.c.id == approval_id)).mappings().one_or_none()
    return None if row is None else _approval(row)


def _approval(row: RowMapping) -> Approval:
    question = json.loads(row["question"])
    for name in ("rules", "reviewers"):
        question[name] = tuple(question[name])
    votes: Sequence[dict[str, str]] = json.loads(row["votes"])
    return Approval(
        id=row["id"],
        question=Question(**question),
        state=row["state"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        decided_at=row["decided_at"],
        votes=tuple(Vote(**{**vote, "at": datetime.fromisoformat(vote["at"])}) for vote in votes),  # type: ignore[arg-type]
    )
