import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.approvals.model import Approval, Question, Vote
from coatcheck.errors import Refusal
from coatcheck.identity.caller import Caller, Exchanged, Verified
from coatcheck.identity.match import match_identity
from coatcheck.identity.session_store import IssuedToken
from coatcheck.journal.records import (
    approval_record,
    lifecycle_record,
    outcome_record,
    refusal_record,
    request_record,
    token_record,
)
from coatcheck.mcp.call import Call
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.model import Identity, IssuerSpec, RuleId

NOW = datetime(2026, 11, 24, 10, 15, tzinfo=UTC)
CALLER = Caller(
    name="shop-ci",
    issuer="github",
    subject="repo:acme/shop:ref:refs/heads/main",
    token_id="d1",
    expires_at=NOW,
    claims={"run_id": "17", "repository": "acme/shop", "email": "someone@acme.dev", "jti": "raw-token-id"},
)
CALL = Call(
    kind="mcp",
    method="tools/call",
    name="refund_order",
    arguments={"order": "argument-value"},
    params={"name": "refund_order", "arguments": {"order": "argument-value"}},
    id=7,
)
QUESTION = Question(
    caller="shop-ci",
    issuer="github",
    subject="repo:acme/shop",
    server="shop",
    call_title="tools/call refund_order",
    call_digest=CALL.digest,
    request_digest="r",
    arguments="argument-value",
    rules=("refunds",),
    reviewers=("sre",),
    quorum=1,
    message=None,
    policy="p",
)


def request(decision, caller: Caller | None = CALLER, **beside):
    return request_record(
        exchange="x1",
        caller=caller,
        server="shop",
        calls=[CALL],
        decision=decision,
        policy="p",
        target="POST https://shop.test/mcp",
        approval="K7Q2M4X9WD",
        secrets=["shop-key"],
        digest="r",
        **beside,
    )


def test_a_request_tells_who_what_and_why_and_no_argument():
    record = request(Allow((RuleId("reads"),)))
    assert record["caller"] == {
        "name": "shop-ci",
        "issuer": "github",
        "subject": "repo:acme/shop:ref:refs/heads/main",
        "token_id": "d1",
        "run": {"repository": "acme/shop", "run_id": "17"},
    }
    assert record["calls"] == [{"method": "tools/call", "name": "refund_order", "digest": CALL.digest}]
    assert record["decision"] == {"effect": "allow", "rules": ["reads"]}
    told = (record["server"], record["target"], record["policy"], record["approval"], record["secrets"])
    assert told == ("shop", "POST https://shop.test/mcp", "p", "K7Q2M4X9WD", ["shop-key"])
    text = json.dumps(record)
    for private in ("argument-value", "someone@acme.dev", "raw-token-id"):
        assert private not in text


@pytest.mark.parametrize(
    ("decision", "written"),
    [
        pytest.param(Allow((RuleId("a"),)), {"effect": "allow", "rules": ["a"]}, id="allow"),
        pytest.param(
            Hold((RuleId("a"),), ("sre",), 2, timedelta(minutes=15)),
            {"effect": "approve", "rules": ["a"], "reviewers": ["sre"], "quorum": 2},
            id="hold",
        ),
        pytest.param(Deny("no-rule", "text"), {"effect": "deny", "rules": [], "reason": "no-rule"}, id="deny"),
    ],
)
def test_a_decision_is_told_by_its_effect_and_rules(decision, written):
    assert request(decision)["decision"] == written


def test_a_caller_with_a_session_token_is_told_by_it_too():
    caller = replace(CALLER, exchanged=Exchanged("j" * 32, CALLER.name))
    assert request(Allow(), caller=caller)["caller"] == request(Allow())["caller"] | {"session_token": "j" * 32}


def test_a_caller_is_told_by_the_claims_that_made_it_that_identity_and_by_no_others():
    verified = Verified("ci", "s", {"repository_id": "74", "job": {"stage": "w"}, "email": "a@acme.dev"}, "d" * 32, NOW)
    identities = {"bot": Identity("bot", "ci", {"repository_id": ("74", "75"), "job.stage": "w"})}
    issuers = {"ci": IssuerSpec("ci", "https://ci", ("ES256",))}
    caller = match_identity(identities, issuers, verified, now=NOW)
    assert request(Allow(), caller=caller)["caller"]["claims"] == {"repository_id": "74", "job.stage": "w"}


def test_a_session_token_is_recorded_with_its_run_and_without_itself():
    token = IssuedToken("j" * 32, "bot", "https://idp", "sub", "d" * 32, {"run_id": "7"}, 1, 2)
    assert token_record(event="revoked", token=token) == {
        "event": "revoked",
        "session_token": "j" * 32,
        "identity": "bot",
        "issuer": "https://idp",
        "subject": "sub",
        "token_id": "d" * 32,
        "expires": 2,
        "run": {"run_id": "7"},
    }


def test_a_request_without_a_caller_says_so():
    assert request(Allow(), caller=None)["caller"] is None


def test_an_outcome_counts_what_was_masked_and_scrubbed():
    record = outcome_record(
        exchange="x1",
        status=200,
        outcome="answered",
        milliseconds=1.23456,
        masked={"personal-data": 2},
        scrubbed={"shop-key": 1},
        bytes_sent=10,
        session=None,
    )
    assert (record["outcome"], record["milliseconds"], record["masked"]) == ("answered", 1.235, {"personal-data": 2})


def test_a_refusal_tells_its_reason_and_not_its_message():
    refusal = Refusal.denied("policy-denied", "a message for the caller", rule="no-secrets-api")
    record = refusal_record(exchange="x1", caller=CALLER, target="POST https://h/", refusal=refusal, policy="p")
    assert (record["reason"], record["rule"], record["status"]) == ("policy-denied", "no-secrets-api", 200)
    assert (record["target"], record["policy"]) == ("POST https://h/", "p")
    assert "a message for the caller" not in json.dumps(record)


def test_a_refusal_tells_which_run_was_refused_and_no_other_claim():
    refusal = Refusal.denied("policy-denied", "m")
    record = refusal_record(exchange="x1", caller=CALLER, target="POST https://h/", refusal=refusal, policy="p")
    assert (record["caller"], record["token_id"]) == ("shop-ci", "d1")
    assert record["run"] == {"run_id": "17", "repository": "acme/shop"}
    assert "someone@acme.dev" not in json.dumps(record)
    nobody = refusal_record(exchange="x1", caller=None, target="-", refusal=refusal, policy=None)
    assert (nobody["caller"], nobody["token_id"], nobody["run"]) == (None, None, {})


def test_an_approval_tells_every_vote_and_no_argument():
    vote = Vote("sre", "ada", "approve", NOW, "fine")
    approval = Approval("K7Q2M4X9WD", QUESTION, "approved", NOW, NOW, NOW, (vote,))
    record = approval_record(event="voted", approval=approval, exchange="x1", vote=vote)
    written = {"reviewer": "sre", "person": "ada", "verdict": "approve", "at": "2026-11-24T10:15:00.000Z"}
    assert record["vote"] == {**written, "reason": "fine"}
    assert record["votes"] == [record["vote"]]
    assert record["call_digest"] == CALL.digest
    assert "argument-value" not in json.dumps(record)


def test_a_lifecycle_event_carries_its_details():
    record = lifecycle_record(event="policy-loaded", version="1", policy="p", details={"rules": 3})
    assert record == {"event": "policy-loaded", "version": "1", "policy": "p", "details": {"rules": 3}}


def test_what_would_have_been_decided_stands_beside_what_was():
    plain = request(Allow())
    told = request(Allow(), observed=Deny("no-rule", "nothing permits it"), shadow=Allow((RuleId("some-day"),)))
    assert told == plain | {
        "observed": {"effect": "deny", "rules": [], "reason": "no-rule"},
        "shadow": {"effect": "allow", "rules": ["some-day"]},
    }
    assert list(told)[: len(plain)] == list(plain)


def test_a_refusal_says_what_shadow_rules_would_have_done_and_whether_it_was_one():
    of = {"exchange": "x1", "caller": CALLER, "target": "-", "refusal": Refusal("policy-denied", "no"), "policy": "p"}
    plain = refusal_record(**of)
    assert refusal_record(**of, shadow=Allow()) == plain | {"shadow": {"effect": "allow", "rules": []}}
    assert refusal_record(**of, was_served=True) == plain | {"was_served": True}
    assert refusal_record(**of, asked="roots/list") == plain | {"asked": "roots/list"}
