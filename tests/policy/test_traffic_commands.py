import json

import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck.policy.load import load_policy
from coatcheck_cli.policy import policy


def run(*options):
    return CliRunner().invoke(policy, [*map(str, options)], catch_exceptions=False)


@pytest.fixture
def session(draft, record, asks):
    draft.load()
    return record(
        asks("get_issue", {"n": 1}, "allow", ("ci-reads",)),
        asks("get_file", {"n": 1}, "allow", ("ci-reads",)),
        asks("get_user", {"n": 1}, "allow", ("ci-reads",)),
        asks("merge_pull_request", {"owner": "acme", "repo": "shop"}, "approve", ("ci-merges",)),
        asks("merge_pull_request", {"owner": "acme", "repo": "bank"}, "deny"),
        asks("drop", {}, "deny"),
    )


def test_suggest_prints_a_policy_that_says_what_it_generalised(draft, session):
    result = run("suggest", "--policy", draft.folder / "p.yaml", "--sessions", session)
    assert result.exit_code == 0
    assert "  # get_* is wider than what was seen: get_file, get_issue, get_user\n" in result.stdout
    suggested = draft.folder / "suggested.yaml"
    suggested.write_text(result.stdout)
    rules = load_policy(suggested).rules
    assert [(rule.effect, rule.tools) for rule in rules] == [
        ("allow", ("get_*",)),
        ("approve", ("merge_pull_request",)),
    ]
    assert rules[1].when.source == '"repo" in args && args["repo"] in ["shop"]'
    assert (rules[1].reviewers, rules[1].quorum) == (("sre",), 2)
    again = run("backtest", suggested, "--sessions", session)
    assert (again.exit_code, again.stdout) == (0, "6 requests: 6 same, 0 changed, 0 unknown\n")


def test_backtest_shows_what_changes_by_rule_and_caller(draft, session):
    draft.load(draft.edited('tools: ["get_*", "list_*", "search_*"]', "tools: [get_issue]"))
    result = run("backtest", draft.folder / "p.yaml", "--sessions", session.parent.parent)
    assert result.exit_code == 1
    assert "6 requests: 2 same, 2 changed, 2 unknown" in result.stdout
    assert "claims are not in the recording" in " ".join(result.stdout.split())
    claims = ("--claims", '{"repository": "acme/shop"}')
    data = json.loads(run("backtest", draft.folder / "p.yaml", "--sessions", session, *claims, "--json").stdout)
    assert (data["same"], data["changed"], data["unknown"]) == (4, 2, 0)
    (group,) = data["groups"]
    assert group["was"] == {"effect": "allow", "rules": ["ci-reads"]}
    assert group["now"] == {"effect": "deny", "rules": [], "why": "no-rule"}
    assert (group["times"], group["calls"]) == (2, ["tools/call get_file", "tools/call get_user"])


def test_sessions_are_a_file_a_folder_or_the_states_own(draft, session, tmp_path):
    state = tmp_path / "state"
    new = draft.folder / "p.yaml"
    said = [
        run("backtest", new, *options).stdout.splitlines()[-1]
        for options in (
            ("--sessions", session),
            ("--sessions", session.parent),
            ("--sessions", state),
            ("--sessions", session, "--sessions", state),
            ("--state", state),
        )
    ]
    assert said == ["6 requests: 4 same, 0 changed, 2 unknown"] * 5
    assert run("backtest", new, "--state", state, "--caller", "etl").stdout.startswith("0 requests")


def test_no_recording_is_an_error(draft, tmp_path):
    draft.load()
    empty = tmp_path / "none"
    empty.mkdir()
    with pytest.raises(CoatcheckError, match="no recorded sessions"):
        run("backtest", draft.folder / "p.yaml", "--sessions", empty)


def test_suggest_may_be_for_one_caller_exact_or_rules_alone(draft, session):
    options = ("suggest", "--policy", draft.folder / "p.yaml", "--sessions", session)
    exact = run(*options, "--exact", "--rules-only").stdout
    assert "get_*" not in exact
    assert "get_issue" in exact
    assert "identities:" not in exact
    with pytest.raises(CoatcheckError, match="unknown identity 'shop'"):
        run(*options, "--caller", "shop")


def test_suggest_says_what_of_the_rules_it_does_not_take_over(draft, session):
    options = ("suggest", "--policy", draft.folder / "p.yaml", "--sessions", session)
    assert "Not taken over" not in run(*options).stdout
    limited = draft.edited("  - id: ci-reads\n", "  - id: ci-reads\n    limit: 30/min\n")
    draft.load(draft.edited("    effect: deny\n", "    effect: deny\n    deny_style: hide\n", limited))
    assert "# Not taken over from the rules it replaces: limit and deny_style.\n" in run(*options).stdout
