"""Release: the decision is on disk, then the exact request may go.

Law: written before sent (P3). A journal that cannot be written is a 503, and nothing leaves.
"""

from mitmproxy import http

from coatcheck.errors import GATEWAY_FAULT, JournalError, Refusal, VaultError
from coatcheck.exchange import Exchange, Exchanges, Release
from coatcheck.journal.records import request_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live
from coatcheck.proxy.digest import digest_of
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.swap import Outgoing, plan_swap


class ReleaseRequest:
    """Sixth stage: plans the swap, journals, and stamps the release."""

    def __init__(self, live: Live, exchanges: Exchanges, journal: JournalWriter, scrubbers: ScrubberCache) -> None:
        self._live = live
        self._exchanges = exchanges
        self._journal = journal
        self._scrubbers = scrubbers

    async def request(self, flow: http.HTTPFlow) -> None:
        """The last stage before the wire gate."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or flow.error or not flow.live:
            return
        if exchange.decision is None or exchange.target is None or exchange.server is None:
            return  # a stage before this one did not come to an end: nothing is released
        self._plan(flow, exchange)
        digest = digest_of(flow.request)
        await journal_request(self._journal, exchange, digest.hex())
        exchange.release = Release(digest)

    def _plan(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        request = flow.request
        assert exchange.server is not None
        assert exchange.caller is not None
        outgoing = Outgoing(tuple(request.headers.fields), request.data.path, request.data.content or b"")
        snapshot = self._live.snapshot
        exchange.swap = plan_swap(outgoing, server=exchange.server, caller=exchange.caller.name, snapshot=snapshot)
        try:
            # of every secret bound to the server: it may say one that an earlier request brought it
            exchange.scrubber = self._scrubbers.of_server(snapshot, exchange.server.name)
        except VaultError:
            message = "a secret of this server cannot be read"
            raise Refusal("secret-unreadable", message, status=503, code=GATEWAY_FAULT) from None


async def journal_request(journal: JournalWriter, exchange: Exchange, digest: str) -> None:
    """Makes the request's record durable. Raises `Refusal` where it cannot be."""
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
    )
    try:
        await journal.append("request", record)
    except JournalError:
        message = "the journal cannot be written, so nothing is sent"
        raise Refusal("journal-unavailable", message, status=503, code=GATEWAY_FAULT, retryable=True) from None
