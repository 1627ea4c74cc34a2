"""A gateway killed at any point of a held call leaves nothing that ran twice, or is not written down."""

import json
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from ground import wait_until
from raw import RawClient
from test_fail_closed import FAULTY, MODERN, FaultyGateway, modern_call

from coatcheck.journal.read import records
from story.cast import Cast
from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

POINTS = [
    "before:asked", "after:asked", "after:find_or_ask",
    "before:voted", "after:voted", "after:vote",
    "before:used", "after:used", "after:use",
    "before:request", "after:request",
]  # fmt: skip
HEADERS = MODERN | {"Mcp_Name": "refund_order"}


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    """The story with a reviewer who votes at the control port."""
    with Cast(tmp_path_factory.mktemp("killed"), stateless=True) as cast:
        text = cast.policy_text().replace("reviewers: [desk]", "reviewers: [desk, phone]")
        phone = "  phone: {issuer: ci, claims: {role: sre}}\n"
        cast.policy.write_text(text.replace("reviewers:\n", f"reviewers:\n{phone}", 1))
        cast.make_state()
        yield cast


class Pipeline(threading.Thread):
    """One refund; `reply` is None where the gateway died before it answered."""

    def __init__(self, cast: Cast, gateway: Gateway, order: str) -> None:
        super().__init__(daemon=True)
        self._send = (cast, gateway, modern_call("refund_order", {"order_id": order, "amount": 1}))
        self.reply = None
        self.start()

    def run(self) -> None:
        cast, gateway, body = self._send
        try:
            with RawClient(gateway, cast, timeout=40) as client:
                self.reply = client.tunnel(cast.token()).post(body, **HEADERS)
        except (EOFError, OSError):
            return


def approvals(cast: Cast, order: str) -> list[dict]:
    """The rows about this order, as they are in the database: the gateway may be dead."""
    with closing(sqlite3.connect(cast.state / "state.db")) as database:
        database.row_factory = sqlite3.Row
        try:
            rows = [dict(row) for row in database.execute("SELECT * FROM approvals")]
        except sqlite3.OperationalError:
            return []  # not made yet
    return [row for row in rows if order in row["question"]]


def steps(cast: Cast, approval: str) -> list[dict]:
    return [one for one in records(cast.state / "journal") if one["kind"] == "approval" and one["approval"] == approval]


def executed(cast: Cast, order: str) -> int:
    return sum(done["tool"] == "refund_order" and order in json.dumps(done) for done in cast.executed())


def vote(cast: Cast, gateway: Gateway, approval: str) -> None:
    """At the control port, so that the gateway itself counts it; the answer may never come."""
    token = cast.token(role="sre", sub="somebody-else", repository_id="0")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"verdict": "approve"}).encode()
    request = urllib.request.Request(f"{gateway.control_url}/approvals/{approval}", body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as reply:
        assert reply.status == 200


def pending(cast: Cast, order: str) -> str | None:
    return next((row["id"] for row in approvals(cast, order) if row["state"] == "pending"), None)


def written_down(cast: Cast, order: str) -> None:
    """Whatever the database says of this order, the journal says too."""
    for row in approvals(cast, order):
        told = steps(cast, row["id"])
        assert "asked" in [step["event"] for step in told]
        assert row["state"] != "used" or "used" in [step["event"] for step in told]
        journaled = {voted["person"] for step in told for voted in step["votes"]}
        assert {voted["person"] for voted in json.loads(row["votes"])} <= journaled
    sent = [
        one
        for one in records(cast.state / "journal")
        if one["kind"] == "request" and one["approval"] in {row["id"] for row in approvals(cast, order)}
    ]
    assert len(sent) >= executed(cast, order)


def to_its_end(cast: Cast, gateway: Gateway, order: str) -> None:
    """Sends the refund again and approves what is asked, until it was answered with a result."""
    pipeline = Pipeline(cast, gateway, order)
    gateway.wait_for(lambda: not pipeline.is_alive() or pending(cast, order) is not None)
    if pipeline.is_alive() and (approval := pending(cast, order)) is not None:
        vote(cast, gateway, approval)
    pipeline.join(30)
    assert pipeline.reply is not None
    assert "result" in pipeline.reply.json, pipeline.reply


@pytest.mark.parametrize("point", POINTS)
def test_a_gateway_killed_there_never_lets_a_call_run_twice_or_unrecorded(cast, point) -> None:
    order = f"K-{POINTS.index(point)}-"
    with FaultyGateway(cast, FAULTY, COATCHECK_TEST_FAULT=f"kill:{point}") as gateway:
        pipeline = Pipeline(cast, gateway, order)
        assert wait_until(lambda: not pipeline.is_alive() or pending(cast, order) is not None, seconds=20)
        if pipeline.is_alive() and (approval := pending(cast, order)) is not None and "ask" not in point:
            try:
                vote(cast, gateway, approval)
            except OSError:
                assert "vote" in point
        pipeline.join(30)
        assert gateway.wait(timeout_seconds=60) == -9
    assert pipeline.reply is None
    assert executed(cast, order) == 0
    written_down(cast, order)
    assert run_cli("journal", "verify", "--state", str(cast.state)).returncode == 0

    with cast.gateway() as gateway:
        to_its_end(cast, gateway, order)
        assert executed(cast, order) == 1
        written_down(cast, order)
        again = Pipeline(cast, gateway, order)  # used up: it is a new question
        gateway.wait_for(lambda: pending(cast, order) is not None)
        assert again.is_alive()
    again.join(30)
    assert executed(cast, order) == 1
