from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coatcheck.mcp.call import Call
from coatcheck.policy.backtest import backtest, redecide
from coatcheck.policy.recorded import Recorded

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def tool(name, **arguments):
    return Call("mcp", "tools/call", name, arguments, {"name": name, "arguments": arguments})


GET = Recorded("s", 1, AT, "shop-ci", "github", "github", (tool("get_issue"),), "allow", ("ci-reads",))
MERGE = replace(GET, calls=(tool("merge_pull_request", owner="acme", repo="shop"),), decision="approve")
QUERY = replace(GET, server="warehouse", calls=(tool("query", n=1),))


def test_what_is_decided_as_before_is_the_same(draft):
    assert redecide(draft.load(), GET).verdict == "same"
    assert backtest(draft.load(), [GET, GET]).count("same") == 2


def test_what_another_policy_decides_otherwise_is_changed_and_grouped(draft):
    policy = draft.load(draft.edited('tools: ["get_*", "list_*", "search_*"]', 'tools: ["list_*"]'))
    other = replace(GET, calls=(tool("get_file"),))
    result = backtest(policy, [GET, GET, other, replace(GET, calls=(tool("list_all"),))])
    (group,) = result.groups
    assert (group.caller, group.server, group.was, group.was_rules) == ("shop-ci", "github", "allow", ("ci-reads",))
    assert (group.now.effect, group.now.why, group.count) == ("deny", "no-rule", 3)
    assert list(group.titles) == ["tools/call get_issue", "tools/call get_file"]
    assert (result.count("same"), result.count("changed"), result.count("unknown")) == (1, 3, 0)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("  shop-ci:\n", "  shop:\n", "unknown-identity"),
        ("    issuer: github\n", "    issuer: corp\n", "unknown-identity"),
        ("expires: 2027-06-30", "expires: 2026-11-23", "identity-expired"),
        ("expires: 2027-06-30", "disabled: true", "identity-disabled"),
    ],
)
def test_a_caller_that_the_policy_would_not_know_is_denied(draft, old, new, why):
    text = draft.edited(old, new).replace("who: [shop-ci]", "who: [any]")
    now = redecide(draft.load(text), GET)
    assert (now.verdict, now.effect, now.why) == ("changed", "deny", why)


def test_a_server_that_is_no_longer_there_is_denied(draft):
    assert redecide(draft.load(), replace(GET, server="gone")).why == "unknown-server"


def test_claims_that_were_not_recorded_are_unknown_until_they_are_given(draft):
    policy = draft.load()
    now = redecide(policy, MERGE)
    assert (now.verdict, now.rules) == ("unknown", ("ci-merges",))
    assert redecide(policy, MERGE, {"repository": "acme/shop"}).verdict == "same"
    assert redecide(policy, MERGE, {"repository": "acme/bank"}).verdict == "changed"


def test_claims_that_the_identity_pins_down_are_known(draft):
    text = draft.edited('repository_id: "74627617"', 'repository_id: "74627617", repository: acme/shop')
    assert redecide(draft.load(text), MERGE).verdict == "same"


def test_groups_of_the_token_are_unknown(draft):
    text = draft.edited("    issuer: github\n", "    issuer: corp\n")
    rule = "  - {id: ops, who: ['group:ops'], server: github, tools: [restart], effect: allow}\n"
    policy = draft.load(draft.edited("masks:\n", rule + "masks:\n", text))
    request = replace(GET, issuer="corp", calls=(tool("restart"),))
    assert redecide(policy, request).rules == ("ops",)
    assert redecide(policy, request).verdict == "unknown"
    assert redecide(policy, request, {"realm_access": {"roles": ["ops"]}}).verdict == "same"
    assert redecide(policy, replace(GET, issuer="corp")).verdict == "same"


def test_a_condition_on_arguments_that_were_cut_or_masked_is_unknown(draft):
    rule = "  - {id: q, who: [any], server: SERVER, tools: [query], when: args.n == 1, effect: allow}\n"
    plain = draft.load(draft.edited("masks:\n", rule.replace("SERVER", "github") + "masks:\n"))
    request = replace(QUERY, server="github")
    assert redecide(plain, request).verdict == "same"
    assert redecide(plain, replace(request, has_arguments=False)).verdict == "unknown"
    masked = draft.load(draft.edited("masks:\n", rule.replace("SERVER", "warehouse") + "masks:\n"))
    assert redecide(masked, QUERY).why == "the arguments are in the recording as masked"


def test_what_is_denied_either_way_is_not_unknown(draft):
    deny = "  - {id: never, who: [any], server: github, tools: ['merge_*'], when: caller.claims.x == 1, effect: deny}\n"
    text = draft.edited("masks:\n", deny + "masks:\n")
    other = replace(GET, calls=(tool("merge_all"),), decision="deny")
    assert redecide(draft.load(text), other).verdict == "same"
    sure = deny.replace(" when: caller.claims.x == 1,", "").replace("never", "sure").replace("merge_*", "merge_p*_r*")
    both = draft.edited("masks:\n", deny + sure.replace("any", "group:ci") + "masks:\n")
    both = both.replace(
        "    effect: approve\n    reviewers: [sre]\n    quorum: 2\n    expires: 15m\n", "    effect: deny\n"
    )
    assert redecide(draft.load(both), replace(MERGE, decision="deny")).verdict == "same"
