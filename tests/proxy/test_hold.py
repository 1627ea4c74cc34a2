"""A held call waits for a reviewer; it is sent once, as it was shown, or it is not sent."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.test import tflow

from coatcheck.approvals.model import ApprovalError, Vote
from coatcheck.approvals.store import ApprovalStore
from coatcheck.control.metrics import Metrics
from coatcheck.errors import JournalError, Refusal
from coatcheck.exchange import Digest, Exchange, ExchangeId, Writing
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller
from coatcheck.journal.read import records
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live
from coatcheck.mcp.correlation import Conversation
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.proxy.authorize import decide_exchange
from coatcheck.proxy.hold import HoldCall
from coatcheck.proxy.inspect import inspect_flow
from coatcheck.proxy.journaled import JournaledApprovals
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.relay import Relay
from coatcheck.proxy.release import ReleaseRequest
from coatcheck.state import StateDirectory

POLICY = """
coatcheck: 1
gateway: {audience: "https://gateway.shop.example", hold: HOLD}
issuers:
  ci: {issuer: "https://ci.shop.example", algorithms: [ES256]}
identities:
  job: {issuer: ci, claims: {repository_id: "1"}, owner: team@shop.example}
reviewers:
  desk: {local: [deputy]}
  console: {mitmweb: chief}
  sre: {issuer: ci, claims: {role: sre}}
servers:
  shop: {url: "http://shop.test/mcp", addresses: [127.0.0.0/8]}
  plain: {url: "http://plain.test/", addresses: [127.0.0.0/8]}
rules:
  - {id: plain-refunds, who: [job], server: plain, http: ["POST /refunds"], effect: approve, reviewers: [desk]}
  - {id: reads, who: [job], server: shop, tools: [get_order], effect: allow}
  - id: refunds
    who: [job]
    server: shop
    tools: [refund]
    effect: approve
    reviewers: [desk, console]
    expires: 2m
    message: "A refund needs the desk."
masks:
  - {id: personal, server: shop, detect: [email], as: redact}
  - {id: personal-too, server: plain, detect: [email], as: redact}
"""


def call(tool: str = "refund", **arguments: object) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


class Desk:
    """A hold with everything real around it, and the votes that end it."""

    def __init__(self, folder: Path, exchanges) -> None:
        self.folder = folder
        self.exchanges = exchanges
        state = StateDirectory(folder / "state")
        state.create()
        self.engine = state.open_database()
        self.approvals = ApprovalStore(self.engine)
        self.journal = JournalWriter(state.journal, clock=lambda: datetime.now(UTC))
        self.journal.start()
        self.metrics = Metrics()
        self.shown: list[str] = []
        self.counts: list[Exchange] = []
        self.live = Live(self.policy(), None, None)
        self.relay = Relay(lambda: datetime.now(UTC))
        self.hold = HoldCall(
            self.live,
            exchanges,
            JournaledApprovals(self.approvals, self.journal),
            Maskers(bytes(32)),
            self.metrics,
            lambda flow: self.shown.append(flow.comment),
            None,
            self.relay,
            self.counts.append,
        )
        self.watching = asyncio.create_task(self.hold.watch())

    def policy(self, changes: Mapping[str, str] | None = None, *, hold: str = "20s") -> Policy:
        text = POLICY.replace("HOLD", hold)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "policy.yaml"
        path.write_text(text)
        return load_policy(path, secrets=frozenset())

    def flow(self, body: bytes, query: str = "") -> http.HTTPFlow:
        """A request that was inspected and decided."""
        flow = tflow.tflow()
        flow.request = http.Request.make(
            "POST", f"http://shop.test/mcp{query}", body, {"content-type": "application/json"}
        )
        flow.client_conn.state = ConnectionState.OPEN
        flow.live = True
        exchange = self.exchanges[flow] = Exchange(ExchangeId("x-1"), self.live.policy, 0.0)
        exchange.target = Target("http", "shop.test", 80)
        exchange.server = self.live.policy.servers["shop"]
        exchange.is_mcp = True
        exchange.headers = {"content-type": "application/json", "host": "shop.test"}
        ends = datetime.now(UTC) + timedelta(minutes=5)
        exchange.caller = Caller("job", "ci", "repo:1", "token-1", ends, claims={"repository_id": "1"})
        inspect_flow(flow, exchange, self.relay)
        decide_exchange(exchange)
        return flow

    def plain(self, body: bytes, content_type: str = "application/json") -> http.HTTPFlow:
        """A request to a plain HTTP API, inspected and decided."""
        flow = self.flow(call("get_order"))
        exchange = self.exchanges[flow]
        flow.request = http.Request.make("POST", "http://plain.test/refunds?page=1&token=canary", body)
        exchange.target, exchange.server = Target("http", "plain.test", 80), self.live.policy.servers["plain"]
        exchange.is_mcp, exchange.headers = False, {"content-type": content_type, "host": "plain.test"}
        inspect_flow(flow, exchange, self.relay)
        decide_exchange(exchange)
        return flow

    async def held(self, flow: http.HTTPFlow) -> asyncio.Task[None]:
        """The flow at the hold, once it waits."""
        task = asyncio.create_task(self.hold.request(flow))
        await self.until(lambda: flow.intercepted or task.done())
        return task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - flows have no event of their own
                await asyncio.sleep(0.005)

    async def vote(self, flow: http.HTTPFlow, verdict: str = "approve", person: str = "deputy") -> None:
        now = datetime.now(UTC)
        await self.hold.vote(self.exchanges[flow].approval, Vote("desk", person, verdict, now))

    async def release(self, flow: http.HTTPFlow) -> None:
        """The last stage, for a request whose record is on disk."""
        written = asyncio.get_running_loop().create_future()
        written.set_result(1)
        self.exchanges[flow].writing = Writing(Digest(b"d"), written)
        await ReleaseRequest(self.exchanges).request(flow)

    def state_of(self, flow: http.HTTPFlow) -> str:
        return self.approvals.get(self.exchanges[flow].approval).state

    def events(self) -> list[str]:
        return [
            record["event"] for record in records(self.folder / "state" / "journal") if record["kind"] == "approval"
        ]


@pytest.fixture
async def desk(tmp_path, exchanges):
    desk = Desk(tmp_path, exchanges)
    yield desk
    desk.watching.cancel()
    desk.journal.close()
    desk.engine.dispose()


async def refused(task: asyncio.Task[None]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asyncio.wait_for(task, 5)
    return caught.value


async def test_an_approved_call_goes_on(desk) -> None:
    flow = desk.flow(call(order="A-1"))
    before = flow.request.data.content
    task = await desk.held(flow)
    assert flow.intercepted
    assert flow.marked
    assert "tools/call refund by job" in flow.comment
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)
    assert not flow.intercepted
    assert not flow.marked
    assert flow.request.data.content == before
    assert desk.state_of(flow) == "used"
    assert desk.events() == ["asked", "voted", "used"]
    assert desk.hold.is_empty


async def test_a_call_counts_when_it_is_approved_and_keeps_its_approval_where_a_limit_is_used_up(desk) -> None:
    def used_up(_exchange) -> None:
        raise Refusal("rate-limited", "later", status=429)

    body = call(order="A-1")
    task = await desk.held(first := desk.flow(body))
    assert desk.counts == []
    desk.hold._count = used_up
    await desk.vote(first)
    assert (await refused(task)).reason == "rate-limited"
    assert desk.state_of(first) == "approved"
    desk.hold._count = desk.counts.append
    again = desk.flow(body)
    await asyncio.wait_for(desk.hold.request(again), 5)
    assert desk.counts == [desk.exchanges[again]]
    assert desk.state_of(again) == "used"


@pytest.mark.parametrize("verdict", ["deny", None])
async def test_a_call_that_is_not_approved_is_not_counted(desk, verdict) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    if verdict is None:
        desk.hold.let_all_go()
    else:
        await desk.vote(flow, verdict)
    await refused(task)
    assert desk.counts == []


@pytest.mark.parametrize("tool", ["get_order"])
async def test_an_allowed_call_is_not_held(desk, tool) -> None:
    flow = desk.flow(call(tool))
    await desk.hold.request(flow)
    assert desk.approvals.recent() == []


async def test_a_denied_call_is_told_who_may_help_and_is_not_sent(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    await desk.vote(flow, "deny")
    refusal = await refused(task)
    assert (refusal.reason, refusal.code, refusal.status) == ("approval-denied", 4031, 200)
    assert refusal.approval == desk.exchanges[flow].approval
    assert refusal.rule == "refunds"
    assert "A refund needs the desk." in refusal.message
    assert not flow.intercepted


async def test_a_vote_that_was_cast_elsewhere_is_seen(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    vote = Vote("desk", "deputy", "approve", datetime.now(UTC))
    desk.approvals.vote(desk.exchanges[flow].approval, vote, now=vote.at)
    await asyncio.wait_for(task, 5)
    assert desk.state_of(flow) == "used"


async def test_what_is_shown_is_masked_and_says_how_much_of_it_is_not_shown(desk) -> None:
    flow = desk.flow(call(mail="jane.doe@customer.example", rows=[1] * 3000))  # more once it is laid out
    await desk.held(flow)
    (approval,) = desk.approvals.pending()
    assert "jane.doe" not in approval.question.arguments
    assert "mail" in approval.question.arguments
    whole = json.dumps({"mail": "[redacted]", "rows": [1] * 3000}, indent=2)
    assert approval.question.arguments.endswith(f"… ({len(whole)} characters)")
    assert "jane.doe" not in "".join(desk.shown)


async def test_all_that_an_mcp_call_asks_for_is_shown(desk) -> None:
    params = {"name": "refund", "arguments": {"order": "A-1"}, "task": {"ttl": 60_000}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    await desk.held(desk.flow(json.dumps(body).encode()))
    (approval,) = desk.approvals.pending()
    assert json.loads(approval.question.arguments) == params


async def test_the_query_of_an_mcp_servers_url_is_shown_and_an_approval_is_for_no_other(desk) -> None:
    """Servers choose by it what a call is about: `?project_ref=…&read_only=true`."""
    first = desk.flow(call(order="A-1"), "?project=staging&token=canary")
    task = await desk.held(first)
    (approval,) = desk.approvals.pending()
    shown = {"query": "project=staging&token=***", "asked": {"order": "A-1"}}
    assert json.loads(approval.question.arguments) == shown
    others = [await desk.held(desk.flow(call(order="A-1"), query)) for query in ("?project=production", "")]
    assert len(desk.approvals.pending()) == 3
    await desk.vote(first)
    await asyncio.wait_for(task, 5)
    assert not any(other.done() for other in others)
    for other in others:
        other.cancel()


async def test_the_body_of_a_plain_http_call_is_shown_masked_and_an_approval_is_for_no_other(desk) -> None:
    asked, others = b'{"amount":1,"mail":"jane.doe@customer.example"}', [b'{"amount":1000000}', b"", b"\xff"]
    first = desk.plain(asked)
    task = await desk.held(first)
    (approval,) = desk.approvals.pending()
    shown = json.loads(approval.question.arguments)
    assert shown["body"]["amount"] == 1
    assert shown["query"] == "page=1&token=***"
    assert "jane.doe" not in approval.question.arguments
    assert "canary" not in approval.question.arguments
    tasks = [await desk.held(desk.plain(body)) for body in others]
    tasks.append(await desk.held(desk.plain(asked, "application/xml")))
    assert len(desk.approvals.pending()) == 1 + len(tasks)
    await desk.vote(first)
    await asyncio.wait_for(task, 5)
    assert not any(other.done() for other in tasks)
    same = desk.plain(asked)
    await desk.held(same)
    assert desk.exchanges[same].approval != approval.id  # spent
    for other in tasks:
        other.cancel()


async def test_arguments_that_are_long_are_cut_once_and_say_how_long_they_are(desk) -> None:
    asked = {"lines": [1] * 5000}
    await desk.held(desk.flow(call(**asked)))
    (approval,) = desk.approvals.pending()
    assert len(approval.question.arguments) < 17_000
    assert approval.question.arguments.endswith(f"({len(json.dumps(asked, indent=2))} characters)")


async def test_the_time_for_holding_clients_ends_with_a_pending_answer(desk) -> None:
    desk.live.policy = desk.policy(hold="1s")
    flow = desk.flow(call())
    refusal = await refused(await desk.held(flow))
    assert (refusal.reason, refusal.code, refusal.retryable) == ("approval-pending", 4033, True)
    assert desk.state_of(flow) == "pending"


async def test_a_question_that_nobody_answered_in_time_is_journaled_as_expired_though_nobody_waits_for_it(desk) -> None:
    flow = desk.flow(call())
    await desk.held(flow)
    (kept,) = desk.approvals.pending()
    past = datetime.now(UTC) - timedelta(minutes=10)
    lapsed = desk.approvals.ask(kept.question, now=past, expires=timedelta(minutes=2))
    desk.watching.cancel()
    desk.watching = asyncio.create_task(desk.hold.watch())  # looks when it begins, and every few seconds
    await desk.until(lambda: desk.approvals.get(lapsed.id).state == "expired")
    found = [one for one in records(desk.folder / "state" / "journal") if one.get("approval") == lapsed.id]
    assert [one["event"] for one in found] == ["expired"]
    assert desk.approvals.get(kept.id).state == "pending"


async def test_the_next_try_joins_the_open_question_and_uses_its_answer_once(desk) -> None:
    desk.live.policy = desk.policy(hold="1s")
    first = desk.flow(call(order="A-1"))
    await refused(await desk.held(first))
    await desk.vote(first)
    second = desk.flow(call(order="A-1"))
    await asyncio.wait_for(await desk.held(second), 5)
    assert desk.exchanges[second].approval == desk.exchanges[first].approval
    assert desk.state_of(first) == "used"
    third = desk.flow(call(order="A-1"))
    await desk.held(third)
    assert desk.exchanges[third].approval != desk.exchanges[first].approval


async def test_another_calls_approval_does_not_count(desk) -> None:
    first, second = desk.flow(call(order="A-1")), desk.flow(call(order="A-2"))
    one, other = await desk.held(first), await desk.held(second)
    await desk.vote(first)
    await asyncio.wait_for(one, 5)
    assert not other.done()
    assert second.intercepted
    other.cancel()


async def test_of_two_that_wait_for_one_answer_one_is_sent(desk) -> None:
    flows = [desk.flow(call(order="A-1")) for _ in range(2)]
    tasks = [await desk.held(flow) for flow in flows]
    await desk.vote(flows[0])
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    (refusal,) = [end for end in ends if end is not None]
    assert refusal.reason == "approval-used"
    assert ends.count(None) == 1


EDITS = {
    "body": lambda flow: setattr(flow.request, "content", call(order="A-9")),
    "another tool": lambda flow: setattr(flow.request, "content", call("get_order")),
    "path": lambda flow: setattr(flow.request, "path", "/mcp?x=1"),
    "a header": lambda flow: flow.request.headers.add("x-new", "1"),
    "host": lambda flow: setattr(flow.request, "host", "evil.test"),
    "port": lambda flow: setattr(flow.request, "port", 81),
    "scheme": lambda flow: setattr(flow.request, "scheme", "https"),
}


@pytest.mark.parametrize("edit", EDITS)
async def test_a_request_that_was_edited_while_it_waited_is_not_sent(desk, edit) -> None:
    flow = desk.flow(call(order="A-1"))
    task = await desk.held(flow)
    EDITS[edit](flow)
    await desk.vote(flow)
    refusal = await refused(task)
    assert refusal.reason == "changed-while-held"
    assert refusal.approval == desk.exchanges[flow].approval


@pytest.mark.parametrize("edit", ["method", "not JSON"])
async def test_an_edit_that_cannot_be_understood_is_not_sent(desk, edit) -> None:
    flow = desk.flow(call(order="A-1"))
    task = await desk.held(flow)
    if edit == "method":
        flow.request.method = "PUT"
    else:
        flow.request.content = b"{"
    await desk.vote(flow)
    assert (await refused(task)).status in (400, 405)


# -- what changes while a call waits ----------------------------------------------------------------------------------


async def test_a_policy_that_did_not_change_what_is_decided_lets_the_call_go_on(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    desk.live.policy = desk.policy(hold="21s")
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)


APPROVE = "    effect: approve\n    reviewers: [desk, console]\n    expires: 2m\n"
CHANGES = {
    "denies now": ({APPROVE: "    effect: deny\n"}, "policy-denied"),
    "no rule any more": ({"tools: [refund]": "tools: [other]"}, "policy-denied"),
    "another server": ({"shop.test/mcp": "shop.test/mcp/v2"}, "changed-while-held"),
    "no identity any more": ({"repository_id:": "other_id:"}, "unknown-identity"),
    "other reviewers": ({"reviewers: [desk, console]": "reviewers: [sre]"}, None),
    "a larger quorum": ({"    expires: 2m\n": "    expires: 2m\n    quorum: 2\n"}, None),
    "another identity": ({"job: {issuer": "renamed: {issuer", "who: [job]": "who: [renamed]"}, None),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_approval_under_another_policy_does_not_count(desk, change) -> None:
    changes, reason = CHANGES[change]
    flow = desk.flow(call())
    task = await desk.held(flow)
    desk.live.policy = desk.policy(changes)
    await desk.vote(flow)
    refusal = await refused(task)
    assert reason is None or refusal.reason == reason


async def test_a_caller_whose_token_ended_meanwhile_is_refused(desk) -> None:
    flow = desk.flow(call())
    exchange = desk.exchanges[flow]
    exchange.caller = replace(exchange.caller, expires_at=datetime.now(UTC) + timedelta(milliseconds=50))
    task = await desk.held(flow)
    await desk.until(lambda: exchange.caller.expires_at <= datetime.now(UTC))
    await desk.vote(flow)
    assert (await refused(task)).reason == "token-expired"


async def test_a_client_that_left_withdraws_its_question(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    flow.client_conn.state = ConnectionState.CLOSED
    assert (await refused(task)).reason == "client-left"
    assert desk.state_of(flow) == "withdrawn"
    assert desk.events() == ["asked", "withdrawn"]


async def test_a_client_that_left_does_not_withdraw_what_another_still_waits_for(desk) -> None:
    first, second = desk.flow(call()), desk.flow(call())
    one, other = await desk.held(first), await desk.held(second)
    first.client_conn.state = ConnectionState.CLOSED
    assert (await refused(one)).reason == "client-left"
    assert desk.state_of(second) == "pending"
    await desk.vote(second)
    await asyncio.wait_for(other, 5)


def cancelled(request_id: object = 1) -> bytes:
    params = {"requestId": request_id, "reason": "it took too long"}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode()


async def test_a_call_that_its_client_cancels_is_not_sent_and_withdraws_its_question(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    told = await refused(asyncio.create_task(desk.hold.request(desk.flow(cancelled()))))
    assert (told.reason, told.status) == ("held-call-cancelled", 200)
    refusal = await refused(task)
    assert (refusal.reason, refusal.status) == ("approval-withdrawn", 200)
    assert desk.state_of(flow) == "withdrawn"
    assert desk.events() == ["asked", "withdrawn"]


@pytest.mark.parametrize("request_id", ["1", 2, True, None, [1]])
async def test_what_cancels_another_call_goes_on_and_leaves_this_one_waiting(desk, request_id) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    await desk.hold.request(desk.flow(cancelled(request_id)))
    assert flow.intercepted
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("other", ["address", "conversation"])
async def test_nobody_else_cancels_a_call_by_its_id(desk, other) -> None:
    flow, canceller = desk.flow(call()), desk.flow(cancelled())
    task = await desk.held(flow)
    if other == "address":
        canceller.client_conn.peername = ("192.0.2.7", 4711)
    else:
        desk.exchanges[canceller].conversation = Conversation()
    await desk.hold.request(canceller)
    assert flow.intercepted
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)


async def test_without_sessions_an_id_that_two_calls_have_cancels_neither(desk) -> None:
    flows = [desk.flow(call(order=order)) for order in ("A-1", "A-2")]
    tasks = [await desk.held(flow) for flow in flows]
    await desk.hold.request(desk.flow(cancelled()))
    for flow, task in zip(flows, tasks, strict=True):
        assert flow.intercepted
        await desk.vote(flow)
        await asyncio.wait_for(task, 5)


async def test_a_vote_that_comes_with_the_cancellation_does_not_send_the_call(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    await refused(asyncio.create_task(desk.hold.request(desk.flow(cancelled()))))
    for held in desk.hold._held:
        held.settle("approved")
    assert (await refused(task)).reason == "approval-withdrawn"


@pytest.mark.parametrize("step", ["find_or_ask", "use"])
async def test_a_cancellation_that_comes_while_the_approval_is_stored_stops_the_call(desk, step) -> None:
    """Both steps wait for the disk: before the call is held, and after it was approved."""
    flow, loop = desk.flow(call()), asyncio.get_running_loop()
    stored, told = getattr(desk.approvals, step), []

    async def cancel() -> None:
        told.append((await refused(asyncio.create_task(desk.hold.request(desk.flow(cancelled()))))).reason)

    def cancelled_meanwhile(*arguments, **more) -> object:
        asyncio.run_coroutine_threadsafe(cancel(), loop).result()
        return stored(*arguments, **more)

    setattr(desk.approvals, step, cancelled_meanwhile)
    task = await desk.held(flow)
    if step == "find_or_ask":
        assert (await refused(task)).reason == "approval-withdrawn"
        assert desk.state_of(flow) == "withdrawn"
    else:
        await desk.vote(flow)
        await asyncio.wait_for(task, 5)
        assert (await refused(asyncio.create_task(desk.release(flow)))).reason == "held-call-cancelled"
        assert desk.exchanges[flow].release is None
    assert told == ["held-call-cancelled"]


@pytest.mark.parametrize("how", ["cancelled", "left", "wanted still", "released before"])
async def test_a_call_that_was_approved_is_not_sent_where_its_client_gave_it_up_meanwhile(desk, how) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)
    if how == "released before":
        await desk.release(flow)
    match how:
        case "cancelled":
            await refused(asyncio.create_task(desk.hold.request(desk.flow(cancelled()))))
            assert (await refused(asyncio.create_task(desk.release(flow)))).reason == "held-call-cancelled"
        case "left":
            flow.client_conn.state = ConnectionState.CLOSED
            assert (await refused(asyncio.create_task(desk.release(flow)))).reason == "client-left"
        case "wanted still":
            await desk.release(flow)
        case _:
            await desk.hold.request(desk.flow(cancelled()))  # the server has the call: it hears of its end too
    assert (desk.exchanges[flow].release is not None) is (how in ("wanted still", "released before"))


async def test_shutting_down_answers_what_is_held_and_keeps_the_question(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    desk.live.is_draining = True
    desk.hold.let_all_go()
    refusal = await refused(task)
    assert (refusal.reason, refusal.status, refusal.retryable) == ("shutting-down", 503, True)
    assert desk.state_of(flow) == "pending"


async def test_a_call_that_was_approved_while_shutting_down_is_not_sent_and_keeps_its_approval(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    desk.live.is_draining = True
    await desk.vote(flow)
    assert (await refused(task)).reason == "shutting-down"
    assert desk.state_of(flow) == "approved"


# -- mitmweb ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("act", "state"), [("resume", "used"), ("kill", "denied")])
async def test_mitmwebs_buttons_are_its_reviewers_votes(desk, act, state) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    getattr(flow, act)()
    if act == "resume":
        await asyncio.wait_for(task, 5)
    else:
        assert (await refused(task)).reason == "approval-denied"
        assert flow.error is None
        assert flow.live
    (vote,) = desk.approvals.get(desk.exchanges[flow].approval).votes
    assert (vote.reviewer, vote.person) == ("console", "chief")
    assert desk.state_of(flow) == state


@pytest.mark.parametrize("edit", EDITS)
async def test_resuming_an_edited_call_in_mitmweb_approves_neither_it_nor_the_call_as_it_was(desk, edit) -> None:
    flow = desk.flow(call(order="A-1"))
    task = await desk.held(flow)
    EDITS[edit](flow)
    flow.resume()
    assert (await refused(task)).reason == "changed-while-held"
    approval = desk.approvals.get(desk.exchanges[flow].approval)
    assert (approval.state, approval.votes) == ("withdrawn", ())
    again = desk.flow(call(order="A-1"))
    task = await desk.held(again)
    assert desk.exchanges[again].approval != desk.exchanges[flow].approval
    await desk.vote(again)
    await asyncio.wait_for(task, 5)


async def test_mitmweb_decides_nothing_where_it_is_no_reviewer(desk) -> None:
    desk.live.policy = desk.policy({"reviewers: [desk, console]": "reviewers: [desk]"})
    flow = desk.flow(call())
    task = await desk.held(flow)
    flow.resume()
    await desk.until(lambda: flow.intercepted)
    assert not task.done()
    assert "mitmweb is no reviewer" in flow.comment
    assert desk.state_of(flow) == "pending"
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)


async def test_the_caller_does_not_decide_its_own_call(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    with pytest.raises(ApprovalError, match="own call"):
        await desk.vote(flow, person="repo:1")
    assert flow.intercepted
    assert not task.done()


async def test_what_ended_before_is_not_held(desk) -> None:
    for spoil in ("response", "error", "live"):
        flow = desk.flow(call())
        setattr(flow, spoil, {"response": http.Response.make(), "error": http.Response, "live": False}[spoil])
        await desk.hold.request(flow)
    assert desk.approvals.recent() == []


async def test_the_number_of_held_calls_is_a_metric(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    assert b"coatcheck_held_calls 1.0" in desk.metrics.render()
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)
    assert b"coatcheck_held_calls 0.0" in desk.metrics.render()


async def test_a_journal_that_cannot_be_written_lets_no_held_call_go(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    approval = desk.exchanges[flow].approval
    desk.journal.close()
    vote = Vote("desk", "deputy", "approve", datetime.now(UTC))
    desk.approvals.vote(approval, vote, now=vote.at)
    refusal = await refused(task)
    assert (refusal.reason, refusal.status, refusal.retryable) == ("journal-unavailable", 503, True)
    assert not flow.intercepted


@pytest.mark.parametrize("when", ["it is asked", "it was approved"])
async def test_a_database_that_fails_lets_no_held_call_go_and_is_said_to_have_failed(desk, when) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow) if when == "it was approved" else None
    with desk.engine.begin() as connection:
        if task is None:
            connection.exec_driver_sql("DROP TABLE approvals")
        else:
            connection.exec_driver_sql("UPDATE approvals SET state = 'approved', decided_at = created_at")
            connection.exec_driver_sql("ALTER TABLE approvals RENAME COLUMN open_key TO gone")
    refusal = await refused(task or asyncio.create_task(desk.hold.request(flow)))
    assert (refusal.reason, refusal.status, refusal.retryable) == ("approvals-unavailable", 503, True)
    assert not flow.intercepted


async def test_a_vote_that_cannot_be_journaled_does_not_count(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    desk.journal.close()
    with pytest.raises(JournalError):
        await desk.vote(flow)
    assert desk.state_of(flow) == "pending"
    task.cancel()


async def test_each_step_names_the_exchange_it_is_of(desk) -> None:
    flow = desk.flow(call())
    task = await desk.held(flow)
    await desk.vote(flow)
    await asyncio.wait_for(task, 5)
    steps = [one for one in records(desk.folder / "state" / "journal") if one["kind"] == "approval"]
    assert [(step["event"], step["exchange"]) for step in steps] == [("asked", "x-1"), ("voted", None), ("used", "x-1")]
