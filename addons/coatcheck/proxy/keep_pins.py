"""Keep pins: writes down what lists showed, asks reviewers about changed tools, and takes over what they decide.

Law: a changed tool comes back only by a definition that somebody accepted, by its digest.
Law: an approval is used before its change is accepted; a process that ends between the two accepts it when it is back.
Nothing here is waited for by a request: what is pinned holds in memory from the moment it was seen (`pins/books.py`).
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from coatcheck.approvals.model import Approval, Question
from coatcheck.control.metrics import Metrics
from coatcheck.errors import CoatcheckError
from coatcheck.journal.records import pin_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live, utc_now
from coatcheck.masking.strings import TooCostly
from coatcheck.mcp.pins import Pin, Sight, difference, digest_of_change
from coatcheck.pins.books import Books
from coatcheck.pins.store import PinStore
from coatcheck.policy.model import Server
from coatcheck.proxy.journaled import JournaledApprovals
from coatcheck.proxy.maskers import Maskers

logger = logging.getLogger("coatcheck")

POLL_SECONDS = 2.0
ASK_FOR = timedelta(days=7)
"""How long a question about a changed tool may be answered; then it is asked anew."""
_ENDED = frozenset({"expired", "withdrawn"})


class KeepPins:
    """The work on pins beside the requests. Runs for the gateway's life (`watch`)."""

    def __init__(
        self,
        live: Live,
        books: Books,
        store: PinStore,
        approvals: JournaledApprovals,
        journal: JournalWriter,
        maskers: Maskers,
        metrics: Metrics,
    ) -> None:
        self._live = live
        self._books = books
        self._store = store
        self._approvals = approvals
        self._journal = journal
        self._maskers = maskers
        self._metrics = metrics
        self._unwritten: list[Sight] = []
        self._generation = -1
        self._denied: set[str] = set()
        """Approvals whose denial is in the journal."""

    async def watch(self) -> None:
        """Looks at once where there is news, and every two seconds for what others did."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        self._books.on_news = wake
        while True:
            try:
                await self.keep()
                self._live.problems.pop("pins", None)
            except CoatcheckError as error:
                self._live.problems["pins"] = "cannot be written"
                logger.warning("tool pins: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await news.wait()
            news.clear()

    async def keep(self) -> None:
        """One round. Raises `CoatcheckError`; what is not written then is tried again."""
        await self.write()
        generation = await asyncio.to_thread(self._store.generation)
        if generation != self._generation:
            self._books.replace(await asyncio.to_thread(self._store.load))
            self._generation = generation
            await self._journal_notes()
        for pin in self._books.changed():
            server = self._live.policy.servers.get(pin.server)
            if server is not None and server.pins == "hold" and server.pin_reviewers:
                await self._decide(pin, server)

    async def write(self) -> None:
        """Journals and stores what lists showed."""
        for news in self._books.take_news():
            pin, event = news.sight.pin, news.sight.event
            seen = pin.seen.digest if pin.seen else None
            record = pin_record(
                event=event,
                server=pin.server,
                tool=pin.tool,
                digest=pin.pinned.digest,
                seen=seen,
                exchange=news.exchange,
                caller=news.caller,
            )
            self._journal.append_later("pin", record)
            self._metrics.pinned(server=pin.server, event=event)
            self._unwritten.append(news.sight)
        if sights := tuple(self._unwritten):
            await asyncio.to_thread(self._store.write, sights, now=utc_now())
            del self._unwritten[: len(sights)]

    async def _journal_notes(self) -> None:
        """What was done on the command line, which has no journal."""
        notes = await asyncio.to_thread(self._store.notes)
        for _, note in notes:
            record = pin_record(event=note.event, server=note.server, tool=note.tool, digest=note.digest, by=note.by)
            await self._journal.append("pin", record)
        if notes:
            await asyncio.to_thread(self._store.drop_notes, [number for number, _ in notes])

    # -- approvals ---------------------------------------------------------------------------------------------

    async def _decide(self, pin: Pin, server: Server) -> None:
        """Asks about one change, or does what was decided."""
        asked = await self._approvals.get(pin.approval) if pin.approval is not None else None
        if asked is None or asked.question.call_digest != digest_of_change(pin):
            await self._ask(pin, server)
            return
        approval, now = asked, utc_now()
        is_stale = approval.question.reviewers != server.pin_reviewers or approval.expires_at <= now
        match approval.state:
            case "pending" if is_stale:
                state: Literal["expired", "withdrawn"] = "expired" if approval.expires_at <= now else "withdrawn"
                await self._approvals.settle(approval, state, now=now)
                await self._ask(pin, server)
            case "pending":
                return
            case "denied":
                if approval.id not in self._denied:
                    self._denied.add(approval.id)
                    await self._approvals.journal("denied", approval)
            case "approved" if is_stale:
                await self._ask(pin, server)
            case "approved":
                if await self._approvals.use(approval, now=now):
                    await self._accept(pin, approval)
            case "used":
                await self._accept(pin, approval)
            case ended if ended in _ENDED:
                await self._ask(pin, server)

    async def _ask(self, pin: Pin, server: Server) -> None:
        """A new question, or the one that another gateway has asked already."""
        assert pin.seen is not None
        question = Question(
            caller="-",
            issuer="",
            subject="",
            server=pin.server,
            call_title=f"changed tool {pin.tool}",
            call_digest=digest_of_change(pin),
            request_digest="",
            arguments=await asyncio.to_thread(self._difference, pin),
            rules=(),
            reviewers=server.pin_reviewers,
            quorum=1,
            message=f"{pin.tool} of {pin.server} is not what was pinned: is what it is now good?",
            policy=self._live.policy.sha256,
        )
        approval = await self._approvals.ask(question, now=utc_now(), expires=ASK_FOR)
        await asyncio.to_thread(self._store.ask, pin.server, pin.tool, pin.seen.digest, approval.id)
        self._books.ask(pin, approval.id)

    def _difference(self, pin: Pin) -> str:
        """What reviewers see: masked like arguments are."""
        masker = self._maskers.get(self._live.policy, pin.server)
        try:
            shown = [
                masker.mask_json(definition, Counter()) for definition in self._store.definitions(pin.server, pin.tool)
            ]
        except TooCostly:
            return "the definition has too much that may be masked to be shown"
        return difference(shown[0], shown[1])

    async def _accept(self, pin: Pin, approval: Approval) -> None:
        assert pin.seen is not None
        digest = pin.seen.digest
        if not await asyncio.to_thread(self._store.accept, pin.server, pin.tool, digest, now=utc_now()):
            return  # another gateway did, or it has changed again: the next round sees
        record = pin_record(event="accepted", server=pin.server, tool=pin.tool, digest=digest, approval=approval.id)
        self._journal.append_later("pin", record)
        self._metrics.pinned(server=pin.server, event="accepted")
        self._books.replace(await asyncio.to_thread(self._store.load))
