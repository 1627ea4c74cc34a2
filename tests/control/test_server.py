"""The control port over a real socket: health and readiness for all, approvals for reviewers who prove who they are."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from coatcheck.approvals.model import Approval, Question, Vote
from coatcheck.approvals.store import ApprovalStore
from coatcheck.control.metrics import Metrics
from coatcheck.control.server import ControlPort
from coatcheck.errors import CoatcheckError, JournalError
from coatcheck.identity.keys import KeySource
from coatcheck.identity.verify import Verifier
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.records import approval_record
from coatcheck.live import Live
from coatcheck.policy.model import IssuerSpec, Policy, Reviewer
from coatcheck.state import StateDirectory
from story.issuer import Issuer
from story.part import free_port

AUDIENCE = "https://gateway.shop.example"
QUESTION = Question(
    caller="shop-ci",
    issuer="corp",
    subject="repo:acme/shop",
    server="shop",
    call_title="tools/call refund_order",
    call_digest="c" * 64,
    request_digest="r" * 64,
    arguments='{"order": "A-1"}',
    rules=("refunds",),
    reviewers=("sre",),
    quorum=1,
    message="Refunds need a person.",
    policy="p" * 64,
)


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as issuer:
        yield issuer


class Port:
    """A control port on a socket of its own, with a real store and verifier behind it."""

    def __init__(self, issuer: Issuer, folder) -> None:
        self.issuer = issuer
        issuers = {"corp": IssuerSpec("corp", issuer.url, ("ES256",))}
        reviewers = {
            "sre": Reviewer("sre", issuer="corp", claims={"groups": "sre"}),
            "support": Reviewer("support", issuer="corp", claims={"groups": "support"}),
            "desk": Reviewer("desk", local=("root",)),
        }
        policy = Policy(AUDIENCE, "5" * 64, (), issuers=issuers, reviewers=reviewers)
        self.live = Live(policy, Verifier(issuers, AUDIENCE, KeySource()), None)
        state = StateDirectory(folder / "state")
        state.create()
        self.engine = state.open_database()
        self.approvals = ApprovalStore(self.engine)
        self.metrics = Metrics()
        self.journaled: list[str] = []
        self.port = free_port()
        self.control = ControlPort(self.live, self.approvals, self.metrics, self.vote)
        self.control.listen("127.0.0.1", self.port)

    async def vote(self, approval_id: str, vote: Vote) -> Approval:
        """As the hold does it: stored, then encoded for the journal."""
        approval = await asyncio.to_thread(self.approvals.vote, approval_id, vote, now=vote.at)
        self.journaled.append(encode_fields(approval_record(event="voted", approval=approval, vote=vote)))
        return approval

    def ask(self, **changes: object) -> str:
        question = replace(QUESTION, **changes)
        return self.approvals.ask(question, now=datetime.now(UTC), expires=timedelta(minutes=5)).id

    def token(self, *groups: str, subject: str = "jane", **claims: object) -> str:
        return self.issuer.token(audience=AUDIENCE, sub=subject, groups=list(groups), **claims)

    async def send(
        self, path: str, *, token: str | None = None, method: str = "GET", host: str | None = None, **more: object
    ) -> HTTPResponse:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= {} if host is None else {"Host": host}
        request = HTTPRequest(f"http://127.0.0.1:{self.port}{path}", method, headers, **more)
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    async def decide(self, approval_id: str, token: str | None, body: object = None) -> HTTPResponse:
        data = body if isinstance(body, bytes) else json.dumps(body or {"verdict": "approve"}).encode()
        return await self.send(f"/approvals/{approval_id}", token=token, method="POST", body=data)


@pytest.fixture
async def port(issuer, tmp_path):
    port = Port(issuer, tmp_path)
    yield port
    port.control.close()
    port.engine.dispose()


def reason(response: HTTPResponse) -> str:
    return json.loads(response.body)["error"]["reason"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/approvals", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "0.0.0.0:{port}"])
async def test_who_came_by_a_foreign_name_is_told_nothing(port, path, host) -> None:
    response = await port.send(path, token=port.token("sre"), host=host.format(port=port.port))
    assert (response.code, reason(response)) == (421, "misdirected")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:{port}", "[::1]:{port}", "gateway.shop.example"])
async def test_a_name_of_this_machine_and_the_gateways_own_are_not_foreign(port, host) -> None:
    assert (await port.send("/readyz", host=host.format(port=port.port))).code == 200


async def test_a_health_check_of_http_1_0_needs_no_name(port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()


async def test_health_says_that_the_loop_turns_and_no_more(port) -> None:
    response = await port.send("/healthz")
    assert (response.code, json.loads(response.body)) == (200, {"status": "ok"})
    assert response.headers["Cache-Control"] == "no-store"
    assert "Server" not in response.headers


async def test_readiness_tells_the_parts_that_cannot_serve(port) -> None:
    ready = await port.send("/readyz")
    assert (ready.code, json.loads(ready.body)["status"]) == (200, "ready")
    assert json.loads(ready.body)["policy"] == "5" * 64
    assert json.loads(ready.body)["enforces"] is True
    port.live.problems["journal"] = "cannot be written"
    port.live.is_draining = True
    response = await port.send("/readyz")
    assert response.code == 503
    body = json.loads(response.body)
    assert body["status"] == "not-ready"
    assert body["problems"] == {"journal": "cannot be written", "shutdown": "the gateway is shutting down"}
    assert (await port.send("/healthz")).code == 200
    port.live.is_draining = False
    port.live.problems = {"policy": "what lies there is refused"}
    assert json.loads((await port.send("/readyz")).body)["status"] == "degraded"
    port.live.problems.clear()
    port.live.is_draining = False
    port.live.problems["policy"] = "refused"
    stale = await port.send("/readyz")
    assert (stale.code, json.loads(stale.body)["status"]) == (200, "degraded")
    assert json.loads(stale.body)["policy_stale"] is True
    port.live.problems["journal"] = "cannot be written"
    assert (await port.send("/readyz")).code == 503
    port.live.problems.clear()
    assert (await port.send("/readyz")).code == 200


async def test_metrics_are_prometheus_text(port) -> None:
    port.metrics.finished(server="shop", outcome="answered", seconds=0.01, scrubbed=2)
    response = await port.send("/metrics")
    assert response.code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = response.body.decode()
    assert 'coatcheck_requests_total{outcome="answered",server="shop"} 1.0' in text
    assert 'coatcheck_secrets_scrubbed_total{server="shop"} 2.0' in text
    assert 'coatcheck_request_seconds_count{server="shop"} 1.0' in text


@pytest.mark.parametrize("path", ["/", "/approvals/", "/approvals/a/b", "/approvals/..%2f", "/flows", "/readyz/x"])
async def test_nothing_else_is_served(port, path) -> None:
    response = await port.send(path)
    assert response.code in (404, 405)
    assert json.loads(response.body)["error"]["reason"] in ("not-found", "error")


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("DELETE", "/approvals"), ("PUT", "/readyz")])
async def test_a_method_that_is_not_known_is_refused_in_json(port, method, path) -> None:
    response = await port.send(path, method=method, body=None if method == "DELETE" else b"{}")
    assert response.code == 405
    assert reason(response) == "error"


# -- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code", "why"),
    [
        pytest.param(lambda p: {}, 401, "token-missing", id="none"),
        pytest.param(lambda p: {"Authorization": "Bearer garbage"}, 401, "token-missing", id="not one of ours"),
        pytest.param(lambda p: {"Authorization": f"Basic {p.token('sre')}"}, 401, "token-missing", id="basic"),
        pytest.param(
            lambda p: {"Authorization": f"Bearer {p.token('sre', lifetime=-60)}"}, 401, "token-expired", id="old"
        ),
        pytest.param(
            lambda p: {"Authorization": f"Bearer {p.token('sre')[:-6]}AAAAAA"}, 401, "bad-signature", id="forged"
        ),
        pytest.param(
            lambda p: {"Authorization": "Bearer " + p.issuer.token(audience="https://else.example", groups=["sre"])},
            401,
            "wrong-audience",
            id="another audience",
        ),
        pytest.param(
            lambda p: {"Proxy-Authorization": f"Bearer {p.token('sre')}"}, 401, "token-missing", id="elsewhere"
        ),
        pytest.param(lambda p: {"Authorization": f"Bearer {p.token('dev')}"}, 403, "not-a-reviewer", id="no reviewer"),
        pytest.param(lambda p: {"Authorization": f"Bearer {p.token()}"}, 403, "not-a-reviewer", id="no group"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "decide"])
async def test_approvals_are_for_reviewers_who_prove_it(port, headers, code, why, verb) -> None:
    approval = port.ask()
    method, path = ("GET", "/approvals") if verb == "list" else ("POST", f"/approvals/{approval}")
    body = None if verb == "list" else b'{"verdict": "approve"}'
    url = f"http://127.0.0.1:{port.port}{path}"
    response = await AsyncHTTPClient().fetch(HTTPRequest(url, method, headers(port), body=body), raise_error=False)
    assert (response.code, reason(response)) == (code, why)
    assert ("WWW-Authenticate" in response.headers) is (code == 401)
    assert port.approvals.get(approval).state == "pending"
    good = await port.send("/approvals", token=port.token("sre"))
    assert good.code == 200


async def test_an_issuer_that_cannot_be_reached_is_a_503(port) -> None:
    with Issuer() as gone:
        token = gone.token(audience=AUDIENCE, sub="jane", groups=["sre"])
        issuers = {"corp": IssuerSpec("corp", gone.url, ("ES256",))}
    port.live.policy = replace(port.live.policy, issuers=issuers)
    port.live.verifier = Verifier(issuers, AUDIENCE, KeySource())
    response = await port.send("/approvals", token=token)
    assert (response.code, reason(response)) == (503, "issuer-unreachable")


async def test_a_list_shows_what_its_reviewer_may_decide_and_no_more(port) -> None:
    mine = port.ask()
    others = port.ask(reviewers=("support",))
    both = port.ask(reviewers=("support", "sre"))

    async def listed(*groups: str) -> set[str]:
        response = await port.send("/approvals", token=port.token(*groups))
        assert response.headers["Content-Type"].startswith("application/json")
        return {approval["id"] for approval in json.loads(response.body)}

    assert await listed("sre") == {mine, both}
    assert await listed("support") == {others, both}
    assert await listed("sre", "support") == {mine, others, both}


async def test_what_waits_is_listed_however_much_was_asked_since_and_what_has_expired_is_not_said_to_wait(port) -> None:
    past, mine = datetime.now(UTC) - timedelta(minutes=10), port.ask()
    old = port.approvals.ask(QUESTION, now=past, expires=timedelta(minutes=5)).id
    for _ in range(60):
        port.ask(reviewers=("support",))
    listed = json.loads((await port.send("/approvals", token=port.token("sre"))).body)
    assert [approval["id"] for approval in listed] == [mine]
    assert old not in [approval.id for approval in port.approvals.pending(now=datetime.now(UTC))]


@pytest.mark.parametrize("verb", ["list", "decide"])
async def test_a_database_that_fails_is_a_503_and_its_own_words_are_not_told(port, verb, caplog) -> None:
    approval, token = port.ask(), port.token("sre")
    assert (await port.send("/approvals", token=token)).code == 200
    with port.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE approvals")
    response = await (port.send("/approvals", token=token) if verb == "list" else port.decide(approval, token))
    assert (response.code, reason(response)) == (503, "state-unavailable")
    assert "table" not in response.body.decode()
    assert "Traceback" not in caplog.text


async def test_a_connection_that_says_nothing_is_closed(port, monkeypatch) -> None:
    monkeypatch.setattr("coatcheck.control.server.IDLE_SECONDS", 0.05)
    port.control.close()
    port.control.listen("127.0.0.1", port.port)
    for sent in (b"", b"GET /rea", b"POST /approvals/X HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


# -- deciding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "state"), [("approve", "approved"), ("deny", "denied")])
async def test_a_reviewers_verdict_counts(port, verdict, state) -> None:
    approval = port.ask()
    response = await port.decide(approval, port.token("sre"), {"verdict": verdict, "reason": "looked at it"})
    assert response.code == 200
    body = json.loads(response.body)
    assert (body["id"], body["state"]) == (approval, state)
    assert [(vote["reviewer"], vote["person"], vote["reason"]) for vote in body["votes"]] == [
        ("sre", "jane", "looked at it")
    ]
    assert port.approvals.get(approval).state == state
    assert len(port.journaled) == 1


async def test_a_vote_that_cannot_be_journaled_is_told_to_its_reviewer(port) -> None:
    async def cannot(_approval_id: str, _vote: Vote) -> Approval:
        raise JournalError("the journal is not open")

    approval = port.ask()
    port.control.vote = cannot
    response = await port.decide(approval, port.token("sre"))
    assert (response.code, reason(response)) == (503, "journal-unavailable")


async def test_a_second_vote_is_a_conflict(port) -> None:
    approval = port.ask(quorum=2)
    assert json.loads((await port.decide(approval, port.token("sre"))).body)["state"] == "pending"
    again = await port.decide(approval, port.token("sre"))
    assert (again.code, reason(again)) == (409, "not-decidable")
    assert "already voted" in again.body.decode()
    second = await port.decide(approval, port.token("sre", subject="joe"))
    assert json.loads(second.body)["state"] == "approved"
    late = await port.decide(approval, port.token("sre", subject="ann"), {"verdict": "deny"})
    assert late.code == 409
    assert port.approvals.get(approval).state == "approved"


async def test_a_caller_does_not_decide_its_own_call(port) -> None:
    approval = port.ask()
    own = await port.decide(approval, port.token("sre", subject=QUESTION.subject))
    assert own.code == 409
    assert "own call" in own.body.decode()
    assert port.approvals.get(approval).state == "pending"
    assert (await port.decide(approval, port.token("sre"))).code == 200


async def test_an_approval_of_other_reviewers_or_of_none_is_not_told_apart(port) -> None:
    others = port.ask(reviewers=("support",))
    local = port.ask(reviewers=("desk",))
    answers = [await port.decide(one, port.token("sre")) for one in (others, local, "0000000000", "nonsense")]
    assert {(answer.code, answer.body) for answer in answers} == {(403, answers[0].body)}
    assert port.approvals.get(others).state == "pending"


async def test_what_has_expired_is_a_conflict(port) -> None:
    past = datetime.now(UTC) - timedelta(minutes=10)
    approval = port.approvals.ask(QUESTION, now=past, expires=timedelta(minutes=5)).id
    response = await port.decide(approval, port.token("sre"))
    assert (response.code, reason(response)) == (409, "not-decidable")
    assert "expired" in response.body.decode()


async def test_an_id_may_be_written_as_people_write_it(port) -> None:
    writings = (str.lower, lambda i: f"{i[:5]}-{i[5:]}", lambda i: i.replace("0", "O").replace("1", "l"))
    for write in writings:
        approval = port.ask()
        assert (await port.decide(write(approval), port.token("sre"))).code == 200
        assert port.approvals.get(approval).state == "approved"


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "a string": b'"approve"',
    "no verdict": b"{}",
    "another verdict": b'{"verdict": "maybe"}',
    "a list of verdicts": b'{"verdict": ["approve"]}',
    "upper case": b'{"verdict": "APPROVE"}',
    "a number for a reason": b'{"verdict": "approve", "reason": 1}',
    "not UTF-8": b'{"verdict": "approve", "reason": "\xff"}',
    "two verdicts": b'{"verdict": "deny", "verdict": "approve"}',
    "deeply nested": b"[" * 60_000,
    "half a character": b'{"verdict": "approve", "reason": "\\ud800"}',
}


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_bad_body_decides_nothing(port, body) -> None:
    approval = port.ask()
    response = await port.decide(approval, port.token("sre"), BAD_BODIES[body])
    assert (response.code, reason(response)) == (400, "bad-request")
    assert port.approvals.get(approval).state == "pending"


async def test_a_body_over_the_limit_decides_nothing(port) -> None:
    approval = port.ask()
    body = json.dumps({"verdict": "approve", "reason": "x" * 100_000}).encode()
    assert (await port.decide(approval, port.token("sre"), body)).code != 200
    assert port.approvals.get(approval).state == "pending"


async def test_a_taken_address_is_an_operators_error(port) -> None:
    other = ControlPort(port.live, port.approvals, port.metrics, port.vote)
    with pytest.raises(CoatcheckError) as caught:
        other.listen("127.0.0.1", port.port)
    assert caught.value.problems[0].where == "coatcheck_control"
    other.close()


async def test_nothing_is_logged_of_what_was_asked(port, caplog) -> None:
    caplog.set_level("DEBUG")
    token = port.token("sre")
    await port.decide(port.ask(), token, {"verdict": "approve", "reason": "canary reason"})
    await port.send("/approvals", token=token[:-4] + "AAAA")
    assert token.rpartition(".")[2][:20] not in caplog.text
    assert "canary" not in caplog.text
