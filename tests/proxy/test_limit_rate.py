"""A rule's limit is counted for each caller, on what the rule decided, and refused with what to do."""

from dataclasses import replace
from datetime import timedelta

import pytest
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.model import Policy, Rate, Rule, RuleId, Server
from coatcheck.proxy.limit_rate import LimitRate

RULE = Rule(RuleId("reads"), ("any",), "shop", "allow", "p:1:1", tools=("*",), limit=Rate(2, timedelta(minutes=1)))
OTHER = replace(RULE, id=RuleId("other"), limit=None)
POLICY = Policy(audience="urn:test", sha256="", files=(), rules=(RULE, OTHER))
SHOP = Server("shop", "https://shop.test/mcp", "https", "shop.test", 443, "/mcp")


@pytest.fixture
def asked(exchanges):
    now, flows = [0.0], []
    stage = LimitRate(exchanges, lambda: now[0])

    def ask(name="job", *, rules=("reads",), calls=1, after=0.0, held=False, observed=None):
        now[0] += after
        flow = tflow.tflow()
        flows.append(flow)  # an exchange ends with its flow
        exchange = Exchange(ExchangeId("x"), POLICY, 0.0)
        exchange.caller = Caller(name, "ci", "sub", "id", None)
        exchange.server = SHOP
        exchange.inspected = Inspected((Call("mcp", "tools/call", "get"),) * calls, b"", "request", None, (1,))
        exchange.decision = Allow(tuple(map(RuleId, rules)), tuple(map(RuleId, rules)) * calls)
        if held:
            exchange.decision = Hold(
                (RuleId("asks"),), ("desk",), 1, timedelta(minutes=1), None, exchange.decision.counted
            )
        if observed is not None:
            exchange.observes, exchange.observed, exchange.decision = True, observed, Allow()
        exchanges[flow] = exchange
        stage.request(flow)
        return lambda: stage.count(exchange)

    return ask


def test_what_is_over_the_limit_is_refused_with_the_rule_and_when_to_try_again(asked):
    asked()
    asked()
    with pytest.raises(Refusal) as caught:
        asked()
    refusal = caught.value
    assert (refusal.reason, refusal.status, refusal.code, refusal.rule) == ("rate-limited", 429, 4290, "reads")
    assert (refusal.retryable, refusal.data()["retry_after"]) == (True, 30)
    assert refusal.message == "job may call shop at most 2/min by rule reads"
    asked(after=30)


def test_another_caller_and_another_rule_are_not_counted(asked):
    asked(calls=2)
    asked("etl")
    asked(rules=("other",))
    asked(rules=())
    with pytest.raises(Refusal):
        asked()


def test_each_call_of_a_batch_counts(asked):
    with pytest.raises(Refusal) as caught:
        asked(calls=3)
    assert caught.value.retryable is False
    asked(calls=2)
    with pytest.raises(Refusal):
        asked()


def test_what_is_held_is_counted_when_it_is_approved_and_refused_before_where_nothing_is_left(asked):
    for _ in range(5):
        count = asked(held=True)  # nobody approved yet: retries and questions cost nothing
    count()
    count()
    with pytest.raises(Refusal):
        count()
    with pytest.raises(Refusal, match="rate-limited"):
        asked(held=True)
    asked("etl", held=True)


def test_where_nothing_is_enforced_what_is_over_is_noted(asked, exchanges):
    for expected in (Allow, Allow, Deny):
        asked(observed=Allow((RuleId("reads"),), (RuleId("reads"),)))
        assert isinstance(list(exchanges.values())[-1].observed, expected)
    (*_, last) = exchanges.values()
    assert (last.observed.reason, last.observed.rules) == ("rate-limited", ("reads",))
