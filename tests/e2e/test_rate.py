"""A rule's limit in the real gateway: what is over it is refused, journaled and not executed."""

import json

import pytest
from raw import RawClient, call
from reviewer import decide

from story.cast import Pipeline

pytestmark = pytest.mark.e2e


def test_calls_over_a_rules_limit_are_refused_and_not_executed(fresh) -> None:
    text = fresh.policy.read_text()
    fresh.policy.write_text(text.replace("  - id: ci-reads\n", "  - id: ci-reads\n    limit: 2/d\n", 1))
    assert "limit" in fresh.policy.read_text()
    ask = ("call", "get_order", '{"order_id": "A-1"}')
    with fresh.gateway() as gateway:
        outcomes = [fresh.pipeline(*ask, gateway=gateway, token=fresh.token()) for _ in range(3)]
    assert [outcome.error is None for outcome in outcomes] == [True, True, False]
    error = outcomes[2].error
    assert error["code"] == 4290
    assert (error["data"]["reason"], error["data"]["rule"]) == ("rate-limited", "ci-reads")
    assert 0 < error["data"]["retry_after"] <= 43_200
    assert error["message"] == "shop-ci may call shop at most 2/d by rule ci-reads"
    assert len(fresh.executed()) == 2
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        client.tunnel(fresh.token())
        *_, refused = [client.post(call("get_order", {"order_id": "A-1"})) for _ in range(3)]
    assert (refused.status, refused.json["error"]["data"]["retryable"]) == (429, True)
    assert int(refused.headers["retry-after"]) == refused.json["error"]["data"]["retry_after"]
    records = json.loads(fresh.cli("journal", "query", "--kind", "refusal", "--state", str(fresh.state), "--json"))
    assert any("rate-limited" in json.dumps(record) for record in records)


def test_a_held_call_counts_when_it_is_approved_and_nobody_is_asked_in_vain(fresh) -> None:
    text = fresh.policy.read_text()
    fresh.policy.write_text(text.replace("  - id: ci-refunds\n", "  - id: ci-refunds\n    limit: 1/d\n", 1))
    with fresh.gateway() as gateway:

        def refund(order: str) -> Pipeline:
            arguments = json.dumps({"order_id": order, "amount": 5})
            return fresh.start_pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())

        denied, approved = refund("R-1"), refund("R-2")
        for order, verdict in (("R-1", "deny"), ("R-2", "approve")):
            decide(gateway, fresh.policy, verdict, order)
        assert denied.finish().error["data"]["reason"] == "approval-denied"
        assert approved.finish().error is None
        assert refund("R-3").finish().error["data"]["reason"] == "rate-limited"
    assert [done["tool"] for done in fresh.executed()] == ["refund_order"]


def test_an_approval_is_no_way_around_the_limit_of_a_rule_that_allows(fresh) -> None:
    text = fresh.policy.read_text()
    limited = "  - {id: few, who: [group:ci], server: shop, tools: [refund_order], effect: allow, limit: 1/d}\n"
    fresh.policy.write_text(text.replace("rules:\n", f"rules:\n{limited}", 1))
    with fresh.gateway() as gateway:

        def refund(order: str) -> Pipeline:
            arguments = json.dumps({"order_id": order, "amount": 5})
            return fresh.start_pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())

        first = refund("R-1")
        decide(gateway, fresh.policy, "approve", "R-1")
        assert first.finish().error is None
        error = refund("R-2").finish().error
    assert (error["data"]["reason"], error["data"]["rule"]) == ("rate-limited", "few")
    assert len(fresh.executed()) == 1
