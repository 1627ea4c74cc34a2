from datetime import UTC, datetime

import pytest

from coatcheck.mcp.call import Call
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.explain import as_caller, explain, shadow_decision, shadows, with_shadows
from coatcheck.policy.who import who_may

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MERGE = Call("mcp", "tools/call", "merge_pull_request", {"owner": "acme", "repo": "shop"})


def told(policy, call, claims=None, server="github"):
    caller = as_caller(policy, "shop-ci", claims)
    return {one.rule: one for one in explain(policy, caller, policy.servers[server], call, now=NOW)}


def test_each_rule_says_the_first_thing_that_does_not_match(draft):
    rules = """\
  - {id: elsewhere, who: [any], server: prices, http: ["GET /v2/**"], effect: allow}
  - {id: others, who: [group:auditors], server: github, tools: ["*"], effect: allow}
  - {id: docs, who: [any], server: github, resources: ["file:///**"], effect: allow}
  - {id: watch, who: [any], server: github, tools: ["merge_*"], effect: deny, mode: shadow}
"""
    policy = draft.load(draft.edited("masks:\n", rules + "masks:\n"))
    found = told(policy, MERGE, {"repository": "acme/shop"})
    assert {rule: (one.matched, one.why) for rule, one in found.items()} == {
        "ci-reads": (False, "its tools are get_*, list_*, search_*"),
        "ci-merges": (True, "matches, and its condition is true"),
        "no-secrets-api": (False, "its tools are *_secret*"),
        "elsewhere": (False, "it is on prices, not github"),
        "others": (False, "it is for group:auditors"),
        "docs": (False, "it names no tools"),
        "watch": (True, "a shadow rule, recorded only: matches"),
    }
    caller = as_caller(policy, "shop-ci")
    assert [one.rule for one in shadows(policy, caller, policy.servers["github"], MERGE, now=NOW)] == ["watch"]


def test_an_approval_that_holds_what_another_rule_permits_says_so(draft):
    rules = """\
  - {id: all, who: [any], server: prices, http: ["* /v2/**"], effect: allow}
  - {id: asks, who: [any], server: prices, http: ["GET /v2/a"], effect: approve, reviewers: [sre]}
"""
    policy_text = draft.edited("masks:\n", rules + "masks:\n")
    policy = draft.load(policy_text)
    found = told(policy, Call("http", "GET", "/v2/a/"), server="prices")
    assert (found["asks"].matched, found["asks"].why) == (True, "holds it where another rule permits it")
    assert told(policy, Call("http", "GET", "/v2/a"), server="prices")["asks"].why == "matches"
    alone = told(
        draft.load(draft.edited("  - {id: all,", "  - {id: all, mode: shadow,", policy_text)),
        Call("http", "GET", "/v2/a/"),
        server="prices",
    )
    assert (alone["asks"].matched, alone["asks"].why) == (False, "holds it where another rule permits it")
    may = who_may(policy, policy.servers["prices"], Call("http", "GET", "/v2/a/"), now=NOW)
    assert [(one.caller, one.effect, one.rules) for one in may] == [("shop-ci", "approve", ("all", "asks"))]


@pytest.mark.parametrize(
    ("claims", "matched", "why"),
    [
        ({"repository": "acme/shop"}, True, "matches, and its condition is true"),
        ({"repository": "acme/bank"}, False, "its condition is false"),
        ({}, True, "its condition could not be checked: a value it names is not there"),
    ],
    ids=["true", "false", "broken"],
)
def test_a_condition_is_told_as_true_false_or_broken(draft, claims, matched, why):
    one = told(draft.load(), MERGE, claims)["ci-merges"]
    assert (one.matched, one.why) == (matched, why)


def test_each_kind_of_call_is_told_by_the_patterns_of_its_kind(draft):
    rules = """\
  - {id: docs, who: [any], server: github, resources: ["file:///docs/**"], effect: allow}
  - {id: reviews, who: [any], server: github, prompts: ["review_*"], effect: allow}
  - {id: quotes, who: [any], server: prices, http: ["GET /v2/**"], effect: allow}
"""
    policy = draft.load(draft.edited("masks:\n", rules + "masks:\n"))
    resource, other = (Call("mcp", "resources/read", f"file:///{name}") for name in ("docs/a", "etc/a"))
    assert told(policy, resource)["docs"].matched
    assert told(policy, other)["docs"].why == "its resources are file:///docs/**"
    assert told(policy, Call("mcp", "prompts/get", "review_code"))["reviews"].matched
    assert told(policy, Call("mcp", "prompts/get", "plan"))["reviews"].why == "its prompts are review_*"
    assert told(policy, Call("http", "GET", "/v2/eur"), server="prices")["quotes"].matched
    posted = told(policy, Call("http", "POST", "/v2/eur"), server="prices")["quotes"]
    assert (posted.matched, posted.why) == (False, "its http are GET /v2/**")
    assert posted.where.endswith("p.yaml:56:5")


def test_with_shadows_says_what_would_be_decided_if_they_acted(draft):
    watch = "  - {id: watch, who: [any], server: github, tools: ['merge_*'], effect: deny, mode: shadow}\n"
    policy = draft.load(draft.edited("masks:\n", watch + "masks:\n"))
    caller = as_caller(policy, "shop-ci", {"repository": "acme/shop"})
    server = policy.servers["github"]
    assert isinstance(decide(policy, caller, server, [MERGE], now=NOW), Hold)
    assert isinstance(decide(with_shadows(policy), caller, server, [MERGE], now=NOW), Deny)


def test_a_declared_identity_becomes_a_caller_with_the_claims_it_pins_down(draft):
    text = draft.edited("ref: refs/heads/main", "ref: refs/heads/*, env: [a, b], n: 5")
    caller = as_caller(draft.load(text), "shop-ci", {"actor": "x"})
    assert caller.claims == {"repository_id": "74627617", "n": 5, "actor": "x"}
    assert caller.groups == {"ci"}
    with pytest.raises(KeyError):
        as_caller(draft.load(), "nobody")


def test_groups_that_the_claims_list_are_the_callers_too(draft):
    policy = draft.load(draft.edited("    issuer: github\n", "    issuer: corp\n"))
    assert as_caller(policy, "shop-ci", {"realm_access": {"roles": ["ops"]}}).groups == {"ci", "ops"}
    assert as_caller(policy, "shop-ci", {"realm_access": {"roles": "ops"}}).groups == {"ci"}


@pytest.mark.parametrize(
    ("shadow", "expected"),
    [
        pytest.param('tools: ["get_*"], effect: deny', "deny", id="denies"),
        pytest.param('tools: ["get_*"], effect: deny, when: args.missing == 1', "condition-error", id="broken"),
        pytest.param('tools: ["get_*"], effect: approve, reviewers: [sre]', "approve", id="holds"),
        pytest.param('tools: ["other"], effect: deny', None, id="no-match"),
    ],
)
def test_what_shadow_rules_would_have_decided_is_told_where_it_is_something_else(draft, shadow, expected):
    rule = f"  - {{id: watch, who: [any], server: github, {shadow}, mode: shadow}}\n"
    policy = draft.load(draft.edited("masks:\n", rule + "masks:\n"))
    caller, server, call = as_caller(policy, "shop-ci"), policy.servers["github"], Call("mcp", "tools/call", "get_file")
    decision = decide(policy, caller, server, [call], now=NOW)
    assert isinstance(decision, Allow)
    found = shadow_decision(policy, caller, server, [call], decision, now=NOW)
    word = {Deny: "deny", Hold: "approve", type(None): None}[type(found)]
    assert (found.reason if isinstance(found, Deny) and found.reason != "rule" else word) == expected


def test_without_shadow_rules_there_is_nothing_to_tell(draft):
    policy = draft.load()
    caller, server = as_caller(policy, "shop-ci"), policy.servers["github"]
    assert shadow_decision(policy, caller, server, [MERGE], Allow(), now=NOW) is None
