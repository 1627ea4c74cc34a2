"""Hold: a risky call waits for a named reviewer.

Law: an approval is a durable fact about one exact call (P4). It is used once, for the request that was shown; a
request that was edited, whose caller or policy changed, or whose client left while it waited is not sent.
Law: a held flow is always let go with an answer; mitmproxy would leave a killed one waiting for ever.
Law: a call that its client gave up is not sent, however it says so: by closing the connection, or, before 2026-07-28,
by `notifications/cancelled` (basic/utilities/cancellation), which comes on another connection. The server never saw
the call, so it does not hear of its end either.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http
from mitmproxy.connection import ConnectionState

from coatcheck.approvals.model import Approval, ApprovalError, Vote
from coatcheck.approvals.refusal import refusal_for, unavailable
from coatcheck.approvals.reviewers import mitmweb_reviewer
from coatcheck.control.metrics import Metrics
from coatcheck.errors import GATEWAY_FAULT, JournalError, Refusal
from coatcheck.exchange import Digest, Exchange, Exchanges
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.live import Live, utc_now
from coatcheck.policy import decision as decisions
from coatcheck.proxy.decide_again import changed, decide_again
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.held import Held, is_as_shown, let_go
from coatcheck.proxy.inspect import LARGE
from coatcheck.proxy.journaled import JournaledApprovals
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.question import body_of, question_of
from coatcheck.proxy.relay import SESSION, Relay

logger = logging.getLogger("coatcheck")

MARKER = ":raised_hand:"
POLL_SECONDS = 0.2
LAPSE_POLLS = 25
"""After how many polls to look for questions that nobody waits for any more, and that were not answered in time."""


class HoldCall:
    """Holds what the policy wants approved."""

    def __init__(
        self,
        live: Live,
        exchanges: Exchanges,
        approvals: JournaledApprovals,
        maskers: Maskers,
        metrics: Metrics,
        show: Callable[[http.HTTPFlow], None],
        sessions: SessionTokens,
        relay: Relay,
        count: Callable[[Exchange], None],
    ) -> None:
        self._live = live
        self._exchanges = exchanges
        self._approvals = approvals
        self._maskers = maskers
        self._metrics = metrics
        self._show = show
        self._sessions = sessions
        self._relay = relay
        self._count = count
        self._held: set[Held] = set()

    async def request(self, flow: http.HTTPFlow) -> None:
        """Returns when the call is approved; raises `Refusal` when it is not."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or flow.error or not flow.live:
            return
        if exchange.is_notification and (given_up := self._given_up(flow, exchange)) is not None:
            given_up.given_up = True
            for held in self._held:
                if self._exchanges.get(held.flow) is given_up:
                    held.settle("pending")
            raise Refusal("held-call-cancelled", "the call was held, and is not sent", status=200)
        if isinstance(exchange.decision, decisions.Hold):
            try:
                await self._hold(flow, exchange, exchange.decision)
            except (ApprovalError, JournalError) as error:
                raise unavailable(error) from error

    async def _hold(self, flow: http.HTTPFlow, exchange: Exchange, decision: decisions.Hold) -> None:
        shown = digest_of(flow.request)
        approval = await self._ask(exchange, decision, shown, flow.request.path)
        exchange.approval = approval.id
        held = Held(flow, approval, shown, state=approval.state)
        if approval.state == "pending" and not exchange.given_up:
            await self._wait(held, exchange)
        if self._live.is_draining:
            raise Refusal(
                "shutting-down", "the gateway is shutting down", status=503, code=GATEWAY_FAULT, retryable=True
            )
        if held.was_edited:
            await self._withdraw(approval)
            raise changed("the request was changed while it was held", exchange)
        if held.state == "approved":
            if exchange.caller is not None and exchange.caller.exchanged is not None:  # it may have been revoked since
                await self._sessions.renew(exchange.caller.exchanged.jti, self._live.policy, now=utc_now())
            await decide_again(self._live, self._relay, flow, exchange, shown, approval.question)
        await self._conclude(held, exchange)

    async def _ask(self, exchange: Exchange, decision: decisions.Hold, shown: Digest, path: str) -> Approval:
        """The open approval for this very call, or a new one."""
        assert exchange.server is not None
        masker = self._maskers.get(exchange.policy, exchange.server.name)
        is_large = len(body_of(exchange)) > LARGE
        asked = (exchange, decision, shown, masker, path)
        question = await asyncio.to_thread(question_of, *asked) if is_large else question_of(*asked)
        return await self._approvals.ask(question, now=utc_now(), expires=decision.expires, exchange=exchange.id)

    # -- waiting -----------------------------------------------------------------------------------------------

    async def _wait(self, held: Held, exchange: Exchange) -> None:
        """Until it is decided, expires, the client leaves, or the time for holding clients is over."""
        flow, approval = held.flow, held.approval
        flow.marked = MARKER
        flow.comment = f"held {approval.id}: {approval.question.call_title} by {approval.question.caller}"
        flow.metadata["coatcheck_approval"] = approval.id
        flow.intercept()
        self._show(flow)
        self._held.add(held)
        self._metrics.held.set(len(self._held))
        left = (_utc(approval.expires_at) - utc_now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, min(exchange.policy.hold.total_seconds(), left))):
                await held.settled.wait()
        except TimeoutError:
            pass
        finally:
            self._held.discard(held)
            self._metrics.held.set(len(self._held))
            let_go(flow)
            self._show(flow)

    def _given_up(self, flow: http.HTTPFlow, exchange: Exchange) -> Exchange | None:
        """The call that this `notifications/cancelled` is about: of the same session, by its exact id, and one that had
        to be held, however far it has come, as long as it is not released.

        Where the server gives no sessions, several clients of one caller may use the same ids at once: then it must be
        the only such call from the client's address.
        """
        if exchange.conversation is None or [call.method for call in exchange.calls] != ["notifications/cancelled"]:
            return None
        wanted, found = exchange.calls[0].params.get("requestId"), []
        is_session = SESSION in exchange.headers or exchange.endpoint is not None
        for there, other in list(self._exchanges.items()):
            if other.conversation is not exchange.conversation or not _may_be_given_up(other):
                continue
            assert isinstance(there, http.HTTPFlow)
            is_named = type(wanted) is type(other.request_id) and wanted == other.request_id
            if is_named and (is_session or there.client_conn.peername[0] == flow.client_conn.peername[0]):
                found.append(other)
        return found[0] if len(found) == 1 else None

    async def watch(self) -> None:
        """Runs for the gateway's life: sees decisions made elsewhere, in mitmweb, and clients that left."""
        for poll in count():
            await asyncio.sleep(POLL_SECONDS)
            try:
                if poll % LAPSE_POLLS == 0:
                    await self._approvals.expire_lapsed(now=utc_now())
                if self._held:
                    await self._look()
            except (ApprovalError, JournalError) as error:
                logger.warning("held calls: %s", error)  # a call nobody can decide ends when its time is over

    async def _look(self) -> None:
        states = await self._approvals.states({held.approval.id for held in self._held})
        for held in list(self._held):
            state = states.get(held.approval.id, "withdrawn")
            if state != "pending":
                held.settle(state)
            elif not held.flow.client_conn.state & ConnectionState.CAN_READ:
                held.has_left = True
                held.settle("pending")
            elif not held.flow.intercepted:
                await self._decided_in_mitmweb(held)

    async def _decided_in_mitmweb(self, held: Held) -> None:
        """Resume is a vote to approve, Kill one to deny, by the person whom the policy says mitmweb stands for."""
        was_killed = held.flow.error is not None and held.flow.error.msg == mitmproxy_flow.Error.KILLED_MESSAGE
        reviewer = mitmweb_reviewer(self._live.policy.reviewers, held.approval.question.reviewers)
        if reviewer is None or reviewer.mitmweb is None:
            let_go(held.flow)
            held.flow.intercept()
            held.flow.comment = f"held {held.approval.id}: mitmweb is no reviewer of this call"
            self._show(held.flow)
            return
        if not was_killed and not is_as_shown(held):
            held.was_edited = True  # resumed is the edit, and not the call that was asked about
            held.settle("pending")
            return
        now = utc_now()
        vote = Vote(reviewer.name, reviewer.mitmweb, "deny" if was_killed else "approve", now, "in mitmweb")
        try:
            approval = await self.vote(held.approval.id, vote)
        except ApprovalError:
            return  # decided meanwhile: the next look sees it
        if approval.state == "pending":
            held.flow.intercept()
            self._show(held.flow)

    async def vote(self, approval_id: str, vote: Vote) -> Approval:
        """Journals and stores a vote. Raises `ApprovalError`, and `JournalError`: then the vote does not count."""
        approval = await self._approvals.vote(approval_id, vote)
        for held in self._held:
            if held.approval.id == approval_id and approval.state != "pending":
                held.settle(approval.state)
        return approval

    def let_all_go(self) -> None:
        """Shutting down: every held call gets its answer now. The approvals stay for the call's next try."""
        for held in self._held:
            held.settled.set()

    @property
    def is_empty(self) -> bool:
        """Whether no call waits."""
        return not self._held

    # -- after -------------------------------------------------------------------------------------------------

    async def _conclude(self, held: Held, exchange: Exchange) -> None:
        """Turns the state into passage, used up exactly once, or a refusal."""
        approval, now = held.approval, utc_now()
        if held.has_left or exchange.given_up:
            await self._withdraw(approval)
            if exchange.given_up:
                raise refusal_for(approval, "withdrawn")
            raise Refusal("client-left", "the client left while its call was held", status=499, approval=approval.id)
        if held.state == "pending" and _utc(approval.expires_at) <= now:
            await self._approvals.settle(approval, "expired", now=now)
            held.state = "expired"
        if held.state == "approved":
            self._count(exchange)  # where a limit is used up meanwhile, the approval stays for the next try
            if await self._approvals.use(approval, now=now, exchange=exchange.id):
                return
            await self._approvals.journal("approved", approval)
        elif held.state == "denied":
            await self._approvals.journal("denied", approval)
        raise refusal_for(approval, held.state)

    async def _withdraw(self, approval: Approval) -> None:
        """Takes back a question that nobody waits for any more."""
        if all(other.approval.id != approval.id for other in self._held):
            await self._approvals.settle(approval, "withdrawn", now=utc_now())


def _may_be_given_up(exchange: Exchange) -> bool:
    is_held = exchange.approval is not None or isinstance(exchange.decision, decisions.Hold)
    is_under_way = exchange.release is None and exchange.refusal is None and not exchange.finished
    return is_held and is_under_way and len(exchange.calls) == 1


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
