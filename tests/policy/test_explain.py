from datetime import UTC, datetime

import pytest

from coatcheck.mcp.call import Call
from coatcheck.policy.explain import Access, as_caller, explain, shadows, who_may

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
        "ci-merges": (True, "matches"),
        "no-secrets-api": (False, "its tools are *_secret*"),
        "elsewhere": (False, "it is on prices, not github"),
        "others": (False, "it is for group:auditors"),
        "docs": (False, "it names no tools"),
        "watch": (True, "a shadow rule: recorded only"),
    }
    caller = as_caller(policy, "shop-ci")
    assert [one.rule for one in shadows(policy, caller, policy.servers["github"], MERGE, now=NOW)] == ["watch"]


@pytest.mark.parametrize(
    ("claims", "matched", "why"),
    [
        ({"repository": "acme/shop"}, True, "matches"),
        ({"repository": "acme/bank"}, False, "its condition is false"),
        ({}, True, "its condition could not be checked: a value it names is not there"),
    ],
    ids=["true", "false", "broken"],
)
def test_a_condition_is_told_as_true_false_or_broken(draft, claims, matched, why):
    one = told(draft.load(), MERGE, claims)["ci-merges"]
    assert (one.matched, one.why) == (matched, why)


def test_who_may_lists_identities_with_the_strictest_effect(draft):
    policy = draft.load()
    github = policy.servers["github"]
    assert who_may(policy, github, MERGE) == [Access("shop-ci", "approve", True, ("ci-merges",))]
    get = Call("mcp", "tools/call", "get_issue")
    assert who_may(policy, github, get) == [Access("shop-ci", "allow", False, ("ci-reads",))]
    assert who_may(policy, github, Call("mcp", "tools/call", "get_secret")) == []
    assert who_may(policy, github, Call("mcp", "tools/call", "drop")) == []


def test_a_declared_identity_becomes_a_caller_with_the_claims_it_pins_down(draft):
    text = draft.edited("ref: refs/heads/main", "ref: refs/heads/*, env: [a, b], n: 5")
    caller = as_caller(draft.load(text), "shop-ci", {"actor": "x"})
    assert caller.claims == {"repository_id": "74627617", "n": 5, "actor": "x"}
    assert caller.groups == {"ci"}
    with pytest.raises(KeyError):
        as_caller(draft.load(), "nobody")
