"""The laws of `decide`, as properties over any rules and calls."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.decide import decide, knows, may_see
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.explain import explain, shadows
from coatcheck.policy.model import Identity, Policy, Rule, RuleId, Server
from coatcheck.policy.who import who_may

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHOP = Server("shop", "https://shop.example/mcp", "https", "shop.example", 443, "/mcp")
OTHER = Server("other", "https://other.example/mcp", "https", "other.example", 443, "/mcp")
CI = Caller("shop-ci", "github", "s", "t", NOW + timedelta(minutes=5), frozenset({"ci"}))
IDENTITY = Identity("shop-ci", "github", {"a": "b"}, frozenset({"ci"}))


def policy(*rules):
    servers = {"shop": SHOP, "other": OTHER}
    return Policy("https://g.example", "0" * 64, (), identities={"shop-ci": IDENTITY}, servers=servers, rules=rules)


def tool(name, **arguments):
    return Call("mcp", "tools/call", name, arguments, {"name": name, "arguments": arguments}, 1)


NAMES = st.sampled_from(["get", "get_order", "delete", "delete_order", "a/b", "x\n"])
CONDITIONS = st.sampled_from([None, *map(compile_condition, ("args.n < 5", "args.n > 2", "args.flag"))])
RULES = st.builds(
    Rule,
    id=st.integers(0, 99).map(lambda n: RuleId(f"r{n}")),
    who=st.sampled_from([("any",), ("shop-ci",), ("group:ci",), ("etl",)]),
    server=st.sampled_from(["shop", "shop", "other"]),
    effect=st.sampled_from(["allow", "approve", "deny"]),
    where=st.just("p.yaml:1:1"),
    tools=st.lists(st.sampled_from(["*", "get*", "delete_*", "*_order", "get", "a/b"]), max_size=2).map(tuple),
    methods=st.sampled_from([(), (), ("*",), ("tools/*",), ("tasks/get",)]),
    when=CONDITIONS,
    reviewers=st.just(("sre",)),
    quorum=st.integers(1, 2),
    expires=st.sampled_from([timedelta(minutes=5), timedelta(minutes=15)]),
    shadow=st.booleans(),
)
LISTS = st.lists(RULES, max_size=6, unique_by=lambda made: made.id)
ARGUMENTS = st.dictionaries(st.sampled_from(["n", "flag"]), st.integers(0, 9) | st.booleans() | st.just("x"))
CALLS = st.builds(lambda name, arguments: tool(name, **arguments), NAMES, ARGUMENTS) | st.sampled_from(
    [Call("mcp", "tasks/get"), Call("mcp", "tools/list"), Call("mcp", "ping")]
)
BATCHES = st.lists(CALLS, min_size=1, max_size=3)
STRICTNESS = {Allow: 0, Hold: 1, Deny: 2}


@given(LISTS, BATCHES, RULES)
@settings(max_examples=150)
def test_adding_a_deny_never_makes_a_decision_less_strict(rules, calls, added):
    added = replace(added, id=RuleId("added"), effect="deny")
    before = decide(policy(*rules), CI, SHOP, calls, now=NOW)
    after = decide(policy(*rules, added), CI, SHOP, calls, now=NOW)
    assert STRICTNESS[type(after)] >= STRICTNESS[type(before)]


@given(LISTS, NAMES, ARGUMENTS)
@settings(max_examples=100)
def test_a_deny_that_matches_always_denies(rules, name, arguments):
    added = Rule(RuleId("added"), ("group:ci",), "shop", "deny", "p.yaml:1:1", tools=("*",))
    assert decide(policy(*rules, added), CI, SHOP, [tool(name, **arguments)], now=NOW).reason == "rule"


@given(LISTS, BATCHES, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_the_order_of_rules_never_matters(rules, calls, random):
    shuffled = random.sample(rules, len(rules))
    assert decide(policy(*rules), CI, SHOP, calls, now=NOW) == decide(policy(*shuffled), CI, SHOP, calls, now=NOW)


@given(LISTS, NAMES, ARGUMENTS)
@settings(max_examples=150)
def test_what_a_list_hides_is_denied_for_every_argument(rules, name, arguments):
    made = policy(*rules)
    if not may_see(made, CI, SHOP, "tools", name, now=NOW):
        assert isinstance(decide(made, CI, SHOP, [tool(name, **arguments)], now=NOW), Deny)


@given(LISTS, BATCHES)
@settings(max_examples=150)
def test_a_batch_is_allowed_only_when_each_call_is(rules, calls):
    made = policy(*rules)
    whole = decide(made, CI, SHOP, calls, now=NOW)
    each = [decide(made, CI, SHOP, [call], now=NOW) for call in calls]
    assert STRICTNESS[type(whole)] == max(STRICTNESS[type(one)] for one in each)


@given(LISTS, CALLS)
@settings(max_examples=150)
def test_only_a_permitting_rule_that_names_the_caller_lets_anything_through(rules, call):
    made = policy(*rules)
    if not knows(made, CI, SHOP):
        assert isinstance(decide(made, CI, SHOP, [call], now=NOW), Deny)


@given(LISTS, CALLS)
@settings(max_examples=150)
def test_an_explanation_agrees_with_the_decision(rules, call):
    made = policy(*rules)
    decision = decide(made, CI, SHOP, [call], now=NOW)
    told = explain(made, CI, SHOP, call, now=NOW)
    assert [one.rule for one in told] == [rule.id for rule in rules]
    matched = {one.rule for one in told if one.matched}
    shadow = {rule.id for rule in rules if rule.shadow}
    assert set(decision.rules) <= matched - shadow
    if isinstance(decision, Deny) and decision.reason in {"no-rule", "unknown-method"}:
        assert not matched - shadow
    assert {one.rule for one in shadows(made, CI, SHOP, call, now=NOW)} == matched & shadow


@given(LISTS, NAMES, ARGUMENTS)
@settings(max_examples=150)
def test_who_may_names_everyone_who_is_let_through(rules, name, arguments):
    made = policy(*rules)
    found = who_may(made, SHOP, tool(name), now=NOW)
    decision = decide(made, CI, SHOP, [tool(name, **arguments)], now=NOW)
    if not isinstance(decision, Deny):
        assert [access.caller for access in found] == ["shop-ci"]
        assert found[0].depends or found[0].effect == ("allow" if isinstance(decision, Allow) else "approve")
    if not found:
        assert isinstance(decision, Deny)
