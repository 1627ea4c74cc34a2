import json

import pytest
from click.testing import CliRunner

from coatcheck.errors import PolicyError
from coatcheck_cli.policy import policy


@pytest.fixture
def run(draft):
    draft.load()

    def invoke(command, *options):
        path = str(draft.folder / "p.yaml")
        return CliRunner().invoke(policy, [command, "--policy", path, *options], catch_exceptions=False)

    return invoke


MERGE = ("--caller", "shop-ci", "--server", "github", "--tool", "merge_pull_request")


def test_check_says_what_is_in_a_policy(run, draft):
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: 1 file, 1 identity, 4 servers, 3 rules, sha256 ")
    assert "warning: server prices: no rule is about it" in result.stderr


def test_check_prints_the_same_as_json(run, draft):
    data = json.loads(run("check", "--json").stdout)
    assert data["files"] == [str(draft.folder / "p.yaml")]
    assert (data["identities"], data["servers"], data["rules"], data["masks"]) == (1, 4, 3, 1)
    assert data["sha256"] == draft.load().sha256
    assert any(one["where"] == "server prices" for one in data["warnings"])


def test_check_reports_every_problem_with_its_place_and_a_hint(draft):
    (draft.folder / "p.yaml").write_text(draft.edited("    tools: [merge", "    tool: [merge"))
    with pytest.raises(PolicyError) as caught:
        CliRunner().invoke(policy, ["check", "--policy", str(draft.folder / "p.yaml")], catch_exceptions=False)
    lines = caught.value.lines()
    assert f"error: {draft.folder}/p.yaml:42:5: unknown key 'tool'" in lines
    assert "hint: did you mean 'tools'?" in lines


def test_explain_says_the_decision_and_every_rules_part_in_it(run):
    arguments = ("--args", '{"owner": "acme", "repo": "shop"}', "--claims", '{"repository": "acme/shop"}')
    result = run("explain", *MERGE, *arguments)
    assert result.stdout.startswith("hold for 2 of sre within 15m (ci-merges)")
    assert "no-secrets-api" in result.stdout
    data = json.loads(run("explain", *MERGE, *arguments, "--json").stdout)
    assert data["decision"]["decision"] == "hold"
    assert [rule["rule"] for rule in data["rules"] if rule["matched"]] == ["ci-merges"]


def test_explain_says_why_a_call_is_denied(run):
    result = run("explain", "--caller", "shop-ci", "--server", "github", "--tool", "drop\x1b[31m")
    assert result.stdout.startswith("deny: no-rule: no rule lets shop-ci call drop\\x1b[31m on github")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (("--tool", "get_issue"), "allow (ci-reads)"),
        (("--method", "tools/list"), "allow (handshake and lists)"),
        (("--resource", "file:///x"), "deny: no-rule"),
        (("--prompt", "x"), "deny: no-rule"),
        (("--http", "GET /x?token=1"), "deny: no-rule: no rule lets shop-ci GET /x on github"),
    ],
    ids=lambda what: what[0] if isinstance(what, tuple) else "",
)
def test_explain_takes_any_kind_of_call(run, what, expected):
    assert run("explain", "--caller", "shop-ci", "--server", "github", *what).stdout.startswith(expected)


def test_who_lists_the_identities_that_may(run):
    assert "shop-ci" in run("who", "--server", "github", "--tool", "merge_pull_request").stdout
    assert run("who", "--server", "github", "--tool", "drop").stdout == "no identity may\n"
    data = json.loads(run("who", "--server", "github", "--tool", "get_x", "--json").stdout)
    nobody = {"reviewers": [], "quorum": None, "expires": None}
    assert data == [{"identity": "shop-ci", "effect": "allow", "if": [], "limits": {}, "rules": ["ci-reads"], **nobody}]


def test_who_says_with_whose_approval(run):
    printed = run("who", "--server", "github", "--tool", "merge_pull_request").stdout
    assert "2 of sre within 15m" in printed
    data = json.loads(run("who", "--server", "github", "--tool", "merge_pull_request", "--json").stdout)
    assert (data[0]["reviewers"], data[0]["quorum"], data[0]["if"]) == (["sre"], 2, ["its condition holds"])


def test_explain_says_what_shadow_rules_would_change(run, draft):
    watch = "  - {id: watch, who: [any], server: github, tools: ['get_*'], effect: deny, mode: shadow}\n"
    draft.load(draft.edited("masks:\n", watch + "masks:\n"))
    get = ("--caller", "shop-ci", "--server", "github", "--tool", "get_issue")
    lines = run("explain", *get).stdout.splitlines()
    assert lines[:2] == [
        "allow (ci-reads)",
        "with its shadow rules: deny: rule: rule watch denies shop-ci to call get_issue on github",
    ]
    data = json.loads(run("explain", *get, "--json").stdout)
    assert data["with_shadows"]["rules"] == ["watch"]
    assert data["rules"][-1]["effect"] == "deny (shadow)"
    assert data["rules"][-1]["where"].endswith("p.yaml:54:5")


def test_explain_says_the_limits(run, draft):
    get = ("--caller", "shop-ci", "--server", "github", "--tool", "get_issue")
    assert "limit" not in run("explain", *get).stdout
    draft.load(draft.edited("  - id: ci-reads\n", "  - id: ci-reads\n    limit: 30/min\n"))
    first, head, *rows = run("explain", *get).stdout.splitlines()
    assert (first, head.split()) == ("allow (ci-reads)", ["rule", "effect", "matched", "limit", "why"])
    assert rows[0].split()[:4] == ["ci-reads", "allow", "yes", "30/min"]
    data = json.loads(run("explain", *get, "--json").stdout)
    assert data["decision"]["limits"] == {"ci-reads": "30/min"}
    assert [row["limit"] for row in data["rules"]] == ["30/min", None, None]


def test_explain_says_when_the_identity_is_refused_before_any_rule(run, draft):
    draft.load(draft.edited("expires: 2027-06-30", "disabled: true"))
    get = ("--caller", "shop-ci", "--server", "github", "--tool", "get_issue")
    assert run("explain", *get).stdout.startswith("refused before any rule: identity shop-ci is disabled")
    assert json.loads(run("explain", *get, "--json").stdout)["refused"] == "identity shop-ci is disabled"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--caller", "shop-ci", "--server", "github"), id="no call"),
        pytest.param((*MERGE, "--prompt", "x"), id="two calls"),
        pytest.param((*MERGE[:4], "--http", "/x"), id="a request without its method"),
        pytest.param((*MERGE[:4], "--resource", "x:y", "--args", '{"a": 1}'), id="arguments of a resource"),
        pytest.param((*MERGE, "--args", "[1]"), id="arguments that are no object"),
        pytest.param((*MERGE, "--args", '{"a": 1, "a": 2}'), id="arguments that the gateway refuses"),
        pytest.param((*MERGE, "--args", "{"), id="arguments that are no JSON"),
    ],
)
def test_misuse_is_exit_2(run, options):
    assert run("explain", *options).exit_code == 2


def test_an_unknown_name_is_an_error_with_a_hint(run):
    from coatcheck.errors import CoatcheckError

    with pytest.raises(CoatcheckError, match="unknown server 'gihub'") as caught:
        run("who", "--server", "gihub", "--tool", "x")
    assert caught.value.problems[0].hint == "did you mean 'github'?"
    with pytest.raises(CoatcheckError, match="unknown identity"):
        run("explain", "--caller", "shop", "--server", "github", "--tool", "x")


def test_explain_says_what_pins_and_masks_apply_to_a_call_that_goes(run, draft):
    get = ("--caller", "shop-ci", "--server", "github", "--tool", "get_issue")
    assert run("explain", *get).stdout.splitlines()[-1] == (
        "pins: hold: if its definition changes, it is hidden and denied until 'coatcheck policy pin' accepts it"
    )
    text = draft.edited("    credential: github-pat\n", "    credential: github-pat\n    pins: warn\n")
    draft.load(draft.edited("    server: warehouse\n    detect", "    server: github\n    detect", text))
    pins, mask = run("explain", *get).stdout.splitlines()[-2:]
    assert pins == "pins: warn: if its definition changes, it is called all the same, and journaled"
    assert mask == "mask: personal-data: email, credit-card, iban, $..ssn as partial"
    assert json.loads(run("explain", *get, "--json").stdout)["terms"] == {
        "pins": "warn",
        "pin_reviewers": [],
        "masks": ["personal-data"],
        "deny_style": None,
    }
    assert "pins" not in run("explain", "--caller", "shop-ci", "--server", "github", "--tool", "drop").stdout


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("hide", "told as: a tool that does not exist (-32602)"),
        ("tool_error", "told as: the tool's own failure (isError), with the message"),
    ],
)
def test_explain_says_how_a_denial_is_told(run, draft, style, told):
    secret = ("--caller", "shop-ci", "--server", "github", "--tool", "list_secrets")
    assert "told as" not in run("explain", *secret).stdout
    draft.load(draft.edited("    effect: deny\n", f"    effect: deny\n    deny_style: {style}\n"))
    assert run("explain", *secret).stdout.splitlines()[-1] == told
    assert json.loads(run("explain", *secret, "--json").stdout)["terms"]["deny_style"] == style


def test_who_says_how_often(run, draft):
    get = ("--server", "github", "--tool", "get_issue")
    assert "limit" not in run("who", *get).stdout
    draft.load(draft.edited("  - id: ci-reads\n", "  - id: ci-reads\n    limit: 30/min\n"))
    head, row = run("who", *get).stdout.splitlines()
    assert head.split() == ["identity", "effect", "approval", "if", "limit", "rules"]
    assert row.split() == ["shop-ci", "allow", "30/min", "ci-reads"]
    assert json.loads(run("who", *get, "--json").stdout)[0]["limits"] == {"ci-reads": "30/min"}
