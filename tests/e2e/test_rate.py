"""A rule's limit in the real gateway: what is over it is refused, journaled and not executed."""

import json

import pytest
from raw import RawClient, call

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
