"""What only observes notes what it would have refused, and lends no secret to it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.model import Policy, Rule, RuleId, Server
from coatcheck.proxy.authorize import decide_exchange
from coatcheck.proxy.observe import deny, may_have_secrets

POLICY = Policy("urn:test", "p" * 64, ())
NO = Refusal.denied("tool-changed", "it is another", rule="r")


def exchange(**fields) -> Exchange:
    made = Exchange(ExchangeId("x"), POLICY, 0.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_refusal_is_raised_where_the_policy_is_enforced() -> None:
    with pytest.raises(Refusal, match="tool-changed"):
        deny(exchange(), NO)


def test_a_refusal_is_noted_where_it_only_observes_and_the_first_one_stays() -> None:
    made = exchange(observes=True, observed=Allow())
    deny(made, NO)
    deny(made, Refusal("rate-limited", "later"))
    assert made.observed == Deny("tool-changed", "it is another", (RuleId("r"),))


HOLD = Hold((RuleId("h"),), ("desk",), 1, timedelta(minutes=1))
decisions = st.sampled_from([None, Allow(), Allow((RuleId("a"),)), HOLD, Deny("rule", "no", (RuleId("d"),))])


@given(decided=decisions, refusals=st.lists(st.builds(Refusal, st.sampled_from(["a", "b"]), st.just("m"))))
def test_only_what_would_have_gone_as_it_is_may_have_secrets(decided, refusals) -> None:
    made = exchange(observes=True, observed=decided)
    for refusal in refusals:
        deny(made, refusal)
    assert may_have_secrets(made) == (isinstance(decided, Allow) and not refusals)
    assert may_have_secrets(exchange(observed=decided))


SHOP = Server("shop", "https://shop.test/mcp", "https", "shop.test", 443, "/mcp")
READS = Rule(RuleId("reads"), ("any",), "shop", "allow", "p:1:1", tools=("get_*",))


def test_what_is_decided_is_noted_and_what_is_applied_allows() -> None:
    policy = replace(POLICY, servers={"shop": SHOP}, rules=(READS,))
    asked = Inspected((Call("mcp", "tools/call", "get_order"),), b"", "request", None, (1,))
    fields = {"caller": Caller("job", "ci", "sub", "id", None), "server": SHOP, "inspected": asked}
    silent = replace(policy, sha256="q", rules=())
    for given_policy, expected in ((policy, Allow), (silent, Deny)):
        made = exchange(**fields, policy=given_policy, observes=True)
        assert isinstance(decide_exchange(made), Allow)
        assert isinstance(made.decision, Allow)
        assert isinstance(made.observed, expected)
        assert may_have_secrets(made) == (expected is Allow)
    with pytest.raises(Refusal, match="policy-denied"):
        decide_exchange(exchange(**fields, policy=silent))
