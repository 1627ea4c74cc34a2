"""Journal: the request about to be forwarded, on its way to the disk.

Law: what is journaled is what is then released: the digest is taken first, and the gate compares it again.
Law: while the journal cannot be written, no answer begins to be handed on: what came of its request could not be told.

The disk's time is used: the stages between this one and the release do their work while the record is written.
"""

import asyncio
import logging

from mitmproxy import http

from coatcheck.errors import GATEWAY_FAULT, SERVER_FAILED, JournalError, Refusal, VaultError
from coatcheck.exchange import Exchange, Exchanges, Writing
from coatcheck.journal.records import request_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.observe import deny, may_have_secrets
from coatcheck.vault.plan import Outgoing, SwapPlan, plan_swap
from coatcheck.vault.scrub import ScrubberCache

logger = logging.getLogger("coatcheck")


class JournalRequest:
    """Plans the swap and begins to write the request's record."""

    def __init__(self, live: Live, exchanges: Exchanges, journal: JournalWriter, scrubbers: ScrubberCache) -> None:
        self._live = live
        self._exchanges = exchanges
        self._journal = journal
        self._scrubbers = scrubbers

    def request(self, flow: http.HTTPFlow) -> None:
        """After the decision, and after a person's where one was needed."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or flow.error or not flow.live:
            return
        if exchange.decision is None or exchange.target is None or exchange.server is None:
            return  # a stage before this one did not come to an end: nothing is released
        self._plan(flow, exchange)
        digest = digest_of(flow.request)
        exchange.writing = Writing(digest, begin_record(self._journal, exchange, digest.hex()))

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """A server began to answer. Raises `Refusal` where the journal has failed since its request was written."""
        self._withhold_unrecorded(flow)

    def response(self, flow: http.HTTPFlow) -> None:
        """The same for what failed while the body came; a stream is out by then."""
        self._withhold_unrecorded(flow)

    def _withhold_unrecorded(self, flow: http.HTTPFlow) -> None:
        exchange = self._exchanges.get(flow)
        if self._journal.healthy or exchange is None or not exchange.sent:
            return
        if exchange.streaming or exchange.refusal is not None:
            return
        logger.error("exchange %s: outcome unknown: it was sent, and the journal failed before its answer", exchange.id)
        message = "the request was sent, but what came of it cannot be written down; its answer is withheld"
        raise Refusal("outcome-unrecorded", message, status=502, code=SERVER_FAILED)

    def _plan(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        request = flow.request
        assert exchange.server is not None
        assert exchange.caller is not None
        outgoing = Outgoing(tuple(request.headers.fields), request.data.path, request.data.content or b"")
        snapshot = self._live.snapshot
        exchange.swap = SwapPlan()
        if may_have_secrets(exchange):
            try:
                exchange.swap = plan_swap(
                    outgoing, server=exchange.server, caller=exchange.caller.name, snapshot=snapshot
                )
            except Refusal as refusal:
                if refusal.status != 403:
                    raise
                deny(exchange, refusal)
        try:
            # of every secret bound to the server: it may say one that an earlier request brought it
            exchange.scrubber = self._scrubbers.of_server(snapshot, exchange.server.name)
        except VaultError:
            message = "a secret of this server cannot be read"
            raise Refusal("secret-unreadable", message, status=503, code=GATEWAY_FAULT) from None


def begin_record(journal: JournalWriter, exchange: Exchange, digest: str) -> asyncio.Future[int]:
    """Queues the request's record; see `durable` for its end. Raises `Refusal` where the journal takes none."""
    assert exchange.server is not None
    assert exchange.decision is not None
    record = request_record(
        exchange=exchange.id,
        caller=exchange.caller,
        server=exchange.server.name,
        calls=exchange.calls,
        decision=exchange.decision,
        policy=exchange.policy.sha256,
        target=str(exchange.target),
        approval=exchange.approval,
        secrets=[credential.name for credential in exchange.swap.credentials] if exchange.swap else (),
        digest=digest,
        opened_by=exchange.opened_by,
        made_task=exchange.made_task,
        observed=exchange.observed,
        shadow=exchange.shadow,
    )
    try:
        return journal.begin("request", record)
    except JournalError:
        raise _unavailable() from None


async def durable(written: asyncio.Future[int]) -> None:
    """Returns once the record is on disk. Raises `Refusal` where it cannot be."""
    try:
        await written
    except JournalError:
        raise _unavailable() from None


def _unavailable() -> Refusal:
    message = "the journal cannot be written, so nothing is sent"
    return Refusal("journal-unavailable", message, status=503, code=GATEWAY_FAULT, retryable=True)
