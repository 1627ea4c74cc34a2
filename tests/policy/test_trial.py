from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coatcheck.policy.cases import Case, Token, call_of
from coatcheck.policy.trial import coverage, try_cases

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GET = Case("reads", "x:1:1", "shop-ci", {}, "github", call_of("tool", "get_issue", {}), "allow", ("ci-reads",))
MERGE = Case(
    "merges",
    "x:2:1",
    "shop-ci",
    {"repository": "acme/shop"},
    "github",
    call_of("tool", "merge_pull_request", {"owner": "acme", "repo": "shop"}),
    "approve",
)
MAIN = {"repository_id": "74627617", "ref": "refs/heads/main"}


def problem(policy, case):
    (outcome,) = try_cases(policy, [case], now=NOW)
    return outcome.problem.what if outcome.problem else None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, None, id="as it is"),
        pytest.param({"expect": "deny"}, "expected deny, got allow (ci-reads)", id="another effect"),
        pytest.param(
            {"rules": ("ci-merges",)}, "expected it by rule ci-merges, got allow (ci-reads)", id="another rule"
        ),
        pytest.param({"rules": ("ci-read",)}, "unknown rule 'ci-read'", id="a rule that is not there"),
        pytest.param({"server": "gihub", "expect": "deny", "rules": ()}, "unknown server 'gihub'", id="unknown server"),
        pytest.param(
            {"caller": "shop", "expect": "deny", "rules": ()}, "unknown identity 'shop'", id="unknown identity"
        ),
        pytest.param(
            {"caller": Token("hub", MAIN), "expect": "deny", "rules": ()}, "unknown issuer 'hub'", id="unknown issuer"
        ),
        pytest.param({"caller": Token("github", MAIN)}, None, id="a token of the identity"),
        pytest.param(
            {"caller": Token("github", {**MAIN, "ref": "x"})},
            "expected allow, got deny (unknown-identity: no identity in the policy matches this token's claims)",
            id="a token of nobody",
        ),
        pytest.param(
            {"caller": Token("github", {}), "expect": "deny", "rules": (), "reason": "unknown-identity"},
            None,
            id="a token of nobody, expected",
        ),
        pytest.param(
            {"at": datetime(2028, 1, 1, tzinfo=UTC)},
            "expected allow, got deny (identity-expired: identity shop-ci is expired)",
            id="another day",
        ),
        pytest.param(
            {"call": call_of("tool", "drop", {}), "expect": "deny", "rules": (), "reason": "rule"},
            "expected the reason rule, got deny (no-rule: no rule lets shop-ci call drop on github)",
            id="another reason",
        ),
    ],
)
def test_a_case_passes_only_when_all_it_names_is_so(draft, changes, expected):
    found = problem(draft.load(), replace(GET, **changes))
    assert found == (expected if expected is None else f"case 'reads': {expected}")


def test_a_condition_sees_the_cases_claims(draft):
    policy = draft.load()
    assert problem(policy, MERGE) is None
    assert "expected approve, got deny (no-rule" in problem(policy, replace(MERGE, claims={"repository": "acme/bank"}))


def test_coverage_counts_the_rules_that_some_case_matches(draft):
    policy = draft.load()
    assert coverage(policy, []).untried == ("ci-reads", "ci-merges", "no-secrets-api")
    made = try_cases(policy, [GET, MERGE], now=NOW)
    assert (coverage(policy, made).rules, coverage(policy, made).untried) == (3, ("no-secrets-api",))
    misses = try_cases(policy, [replace(MERGE, claims={"repository": "acme/bank"}, expect="deny")], now=NOW)
    assert misses[0].problem is None
    assert "ci-merges" in coverage(policy, misses).untried
