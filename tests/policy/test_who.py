from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.mcp.call import Call
from coatcheck.policy.decision import Hold
from coatcheck.policy.who import Access, who_may

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GET = Call("mcp", "tools/call", "get_issue")
MERGE = Call("mcp", "tools/call", "merge_pull_request")


def found(policy, call, server="github", now=NOW):
    return who_may(policy, policy.servers[server], call, now=now)


def test_identities_are_listed_with_the_strictest_effect_and_whose_approval_it_needs(draft):
    policy = draft.load()
    asks = Hold(("ci-merges",), ("sre",), 2, timedelta(minutes=15), "Merging from CI needs an SRE.")
    assert found(policy, MERGE) == [Access("shop-ci", "approve", True, ("ci-merges",), asks)]
    assert found(policy, GET) == [Access("shop-ci", "allow", False, ("ci-reads",))]


def test_whoever_a_deny_stops_or_no_rule_names_is_not_listed(draft):
    policy = draft.load()
    assert found(policy, Call("mcp", "tools/call", "get_secret")) == []
    assert found(policy, Call("mcp", "tools/call", "drop")) == []
    assert found(policy, GET, server="prices") == []


@pytest.mark.parametrize("added", ["disabled: true", "expires: 2026-11-23"])
def test_an_identity_that_is_switched_off_may_nothing(draft, added):
    text = draft.edited("expires: 2027-06-30", added)
    assert found(draft.load(text), GET) == []
    assert len(found(draft.load(), GET)) == 1


def test_the_handshake_is_for_everyone_with_a_permitting_rule(draft):
    policy = draft.load()
    listing = Call("mcp", "tools/list")
    assert [(one.caller, one.effect) for one in found(policy, listing)] == [("shop-ci", "allow")]
    assert found(policy, listing, server="prices") == []


def test_what_a_group_of_the_token_would_add_is_listed_with_that_group(draft):
    text = draft.edited("    issuer: github\n", "    issuer: corp\n")
    rule = "  - {id: ops, who: ['group:ops'], server: github, tools: [restart], effect: allow}\n"
    policy = draft.load(draft.edited("masks:\n", rule + "masks:\n", text))
    restart = Call("mcp", "tools/call", "restart")
    assert found(policy, restart) == [Access("shop-ci", "allow", False, ("ops",), group="ops")]
    assert [one.group for one in found(policy, GET)] == [None]
