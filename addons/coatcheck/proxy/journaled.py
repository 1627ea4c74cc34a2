"""The approvals' store as the gateway deals with it: off the event loop, and in the journal first.

Law: every change of an approval is in the journal before it is committed. A crash between the two leaves a step in the
journal that the database does not show, and the call is not sent: it goes only after the commit. The other way round a
call could be sent for votes that nobody wrote down.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Literal

from coatcheck.approvals.model import Approval, ApprovalState, Question, Vote
from coatcheck.approvals.store import ApprovalStore
from coatcheck.exchange import ExchangeId
from coatcheck.journal.records import ApprovalEvent, approval_record
from coatcheck.journal.writer import JournalWriter


class JournaledApprovals:
    """Every method raises `ApprovalError`; those that change something also `JournalError`: then nothing is changed.

    `exchange` is the one that the step belongs to in the journal.
    """

    def __init__(self, store: ApprovalStore, journal: JournalWriter) -> None:
        self._store = store
        self._journal = journal

    async def get(self, approval_id: str) -> Approval | None:
        """The approval as it stands now, or None."""
        return await asyncio.to_thread(self._store.get, approval_id)

    async def states(self, ids: Collection[str]) -> dict[str, ApprovalState]:
        """Where these stand; ids that are unknown are left out."""
        return await asyncio.to_thread(self._store.states, ids)

    async def ask(
        self, question: Question, *, now: datetime, expires: timedelta, exchange: ExchangeId | None = None
    ) -> Approval:
        """The open approval for this very question, or a new one."""
        record = self._recorder("asked", exchange)
        approval, _ = await asyncio.to_thread(
            self._store.find_or_ask, question, now=now, expires=expires, record=record
        )
        return approval

    async def vote(self, approval_id: str, vote: Vote) -> Approval:
        """Counts a vote; returns the approval as it then is."""
        record = self._recorder("voted", vote=vote)
        return await asyncio.to_thread(self._store.vote, approval_id, vote, now=vote.at, record=record)

    async def use(self, approval: Approval, *, now: datetime, exchange: ExchangeId | None = None) -> bool:
        """Spends it on the call it was given for: True once, for one caller, in time."""
        digest, record = approval.question.call_digest, self._recorder("used", exchange)
        return await asyncio.to_thread(self._store.use, approval.id, call_digest=digest, now=now, record=record)

    async def settle(self, approval: Approval, state: Literal["expired", "withdrawn"], *, now: datetime) -> None:
        """Ends it without a vote, where it is still pending."""
        await asyncio.to_thread(self._store.settle, approval.id, state, now=now, record=self._recorder(state))

    async def expire_lapsed(self, *, now: datetime) -> None:
        """Ends what is pending and was not decided in time, whether somebody still waits for it or not."""
        for approval in await asyncio.to_thread(self._store.lapsed, now=now):
            await self.settle(approval, "expired", now=now)

    async def journal(self, event: ApprovalEvent, approval: Approval) -> None:
        """Journals the approval as it stands now, with every vote: some are cast where no journal is at hand."""
        current = await self.get(approval.id)
        await self._journal.append("approval", approval_record(event=event, approval=current or approval))

    def _recorder(
        self, event: ApprovalEvent, exchange: ExchangeId | None = None, vote: Vote | None = None
    ) -> Callable[[Approval], None]:
        """What journals a change, called in the thread that is about to commit it."""
        loop = asyncio.get_running_loop()

        def record(approval: Approval) -> None:
            step: ApprovalEvent = "expired" if approval.state == "expired" else event
            fields = approval_record(event=step, approval=approval, exchange=exchange, vote=vote)
            asyncio.run_coroutine_threadsafe(self._journal.append("approval", fields), loop).result()

        return record
