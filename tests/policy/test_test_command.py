import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck_cli.policy import policy

POLICIES = Path(__file__).parents[2] / "policies"
EXAMPLES = sorted(file for file in (POLICIES / "examples").glob("*.yaml") if not file.name.endswith(".test.yaml"))
GOOD = "  - {name: reads, caller: shop-ci, server: github, tool: get_issue, expect: allow, rule: ci-reads}\n"
BAD = "  - {name: drops, caller: shop-ci, server: github, tool: drop, expect: allow}\n"


def run(*options):
    return CliRunner().invoke(policy, ["test", *map(str, options)], catch_exceptions=False)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name)
def test_every_example_has_cases_that_pass_and_try_all_its_rules(example):
    (data,) = json.loads(run(example, "--json").stdout)
    assert data["policy"] == str(example)
    assert data["cases"]
    assert all(case["passed"] for case in data["cases"])
    assert data["coverage"]["uncovered"] == []
    assert data["coverage"]["rules"] > 0


def test_cases_that_pass_are_counted_and_rules_that_are_not_covered_named(draft):
    draft.load()
    (draft.folder / "p.test.yaml").write_text("coatcheck: 1\npolicy: p.yaml\ncases:\n" + GOOD)
    result = run(draft.folder / "p.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{draft.folder}/p.test.yaml: 1 of 1 cases passed",
        "rules covered: 1 of 3; not covered: ci-merges, no-secrets-api",
    ]


def test_a_case_that_fails_is_an_error_with_its_place(draft):
    draft.load()
    (draft.folder / "p.test.yaml").write_text("coatcheck: 1\npolicy: p.yaml\ncases:\n" + GOOD + BAD)
    with pytest.raises(CoatcheckError) as caught:
        run(draft.folder / "p.yaml")
    said = "case 'drops': expected allow, got deny (no-rule: no rule lets shop-ci call drop on github)"
    assert caught.value.lines() == [f"error: {draft.folder}/p.test.yaml:5:5: {said}"]
    result = run(draft.folder / "p.yaml", "--json")
    assert result.exit_code == 1
    assert [case["passed"] for case in json.loads(result.stdout)[0]["cases"]] == [True, False]


def test_a_policy_that_does_not_load_fails_its_tests(draft):
    draft.load()
    (draft.folder / "p.test.yaml").write_text("coatcheck: 1\npolicy: p.yaml\ncases:\n" + GOOD)
    (draft.folder / "p.yaml").write_text(draft.edited("effect: allow", "efect: allow"))
    with pytest.raises(CoatcheckError, match="unknown key 'efect'"):
        run(draft.folder)
