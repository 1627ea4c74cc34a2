import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from coatcheck.errors import PolicyError, Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.match import match_identity
from coatcheck.mcp.call import Call
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Deny
from coatcheck.policy.explain import as_caller
from coatcheck.policy.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_a_whole_policy_is_read_into_values(draft):
    policy = draft.load()
    assert policy.audience == "https://gateway.example.com"
    assert policy.hold == timedelta(seconds=30)
    assert policy.sha256 == hashlib.sha256(draft.text.encode()).hexdigest()
    assert policy.files == (draft.folder / "p.yaml",)
    assert policy.issuers["github"].issuer == "https://token.actions.githubusercontent.com"
    assert policy.issuers["corp"].groups_claim == "realm_access.roles"
    assert policy.issuers["corp"].leeway == timedelta(seconds=10)
    assert policy.identities["shop-ci"].claims == {"repository_id": "74627617", "ref": "refs/heads/main"}
    assert policy.identities["shop-ci"].expires == date(2027, 6, 30)
    assert policy.identities["shop-ci"].groups == {"ci"}
    assert policy.reviewers["desk"].local == ("root", "oncall")
    assert policy.reviewers["web"].mitmweb == "console"
    warehouse = policy.servers["warehouse"]
    assert warehouse.origin == ("https", "mcp.warehouse.internal", 8443)
    assert warehouse.path == "/mcp"
    assert warehouse.ca == draft.folder / "ca.pem"
    assert warehouse.addresses == (ip_network("10.20.0.0/16"), ip_network("::1/128"))
    assert policy.servers["packages"].tunnel
    assert policy.servers["packages"].path == "/"
    merges = policy.rules[1]
    assert (merges.id, merges.effect, merges.reviewers, merges.quorum) == ("ci-merges", "approve", ("sre",), 2)
    assert merges.expires == timedelta(minutes=15)
    assert merges.when is not None
    assert merges.where.endswith("p.yaml:39:5")
    assert policy.masks[0].form == "partial"


def test_every_problem_is_reported_at_once_in_the_files_order(draft):
    text = draft.edited("hold: 30s", "hold: x")
    text = draft.edited("tunnel: true", "tunnel: on", text)
    text = draft.edited("effect: allow", "efect: allow", text)
    places = [at for at, _, _ in draft.faults(text)]
    assert places == ["p.yaml:4:9", "p.yaml:27:57", "p.yaml:34:5", "p.yaml:38:5"]


def test_one_mistake_is_reported_once(draft):
    found = draft.faults(draft.edited("    issuer: github\n", "    issuer: gitub\n"))
    assert [said for _, said, _ in found] == ["unknown issuer 'gitub'"]


def test_a_misspelt_key_is_not_reported_a_second_time_as_a_missing_one(draft):
    found = draft.faults(draft.edited("    tools: [merge", "    tool: [merge"))
    assert [said for _, said, _ in found] == ["unknown key 'tool'"]


def test_a_folder_is_merged_by_file_name(draft):
    cut = draft.text.index("rules:")
    (draft.folder / "b.yml").write_text("coatcheck: 1\n" + draft.text[cut:])
    (draft.folder / "a.yaml").write_text(draft.text[:cut])
    (draft.folder / ".hidden.yaml").write_text("not: policy")
    (draft.folder / "notes.txt").write_text("not policy")
    (draft.folder / "sub").mkdir()
    (draft.folder / "sub" / "c.yaml").write_text("not: policy")
    policy = load_policy(draft.folder)
    assert [file.name for file in policy.files] == ["a.yaml", "b.yml"]
    assert len(policy.rules) == 3
    both = (draft.folder / "a.yaml").read_bytes() + (draft.folder / "b.yml").read_bytes()
    assert policy.sha256 == hashlib.sha256(both).hexdigest()


def test_a_name_is_declared_once_in_all_files(draft):
    (draft.folder / "a.yaml").write_text(draft.text)
    (draft.folder / "b.yaml").write_text(draft.text)
    with pytest.raises(PolicyError) as caught:
        load_policy(draft.folder)
    said = [problem.what for problem in caught.value.problems]
    for expected in (
        "a second 'gateway'",
        "duplicate name 'github' in issuers",
        "duplicate name 'shop-ci' in identities",
    ):
        assert expected in said
    assert "duplicate rule id 'ci-reads'" in said
    assert "duplicate mask id 'personal-data'" in said
    assert caught.value.problems[0].where == f"{draft.folder}/b.yaml:2:1"


def test_a_file_that_cannot_be_read_refuses_the_whole_policy(draft):
    (draft.folder / "a.yaml").write_text(draft.text)
    (draft.folder / "b.yaml").write_text("coatcheck: 1\nrules: [\n")
    (draft.folder / "c.yaml").write_text("")
    with pytest.raises(PolicyError) as caught:
        load_policy(draft.folder)
    assert [problem.where for problem in caught.value.problems] == [
        f"{draft.folder}/b.yaml:3:1",
        f"{draft.folder}/c.yaml:1:1",
    ]


def test_no_policy_is_an_error_and_not_an_empty_policy(draft):
    for path in (draft.folder / "absent.yaml", draft.folder, draft.folder / "absent"):
        with pytest.raises(PolicyError):
            load_policy(path)
    (draft.folder / "a.yaml").mkdir()
    with pytest.raises(PolicyError, match="not a file"):
        load_policy(draft.folder)


def test_a_section_may_be_left_out_but_not_left_empty(draft):
    small = "coatcheck: 1\ngateway: {audience: 'https://gateway.example.com'}\n"
    assert draft.load(small).rules == ()
    for section in ("issuers", "identities", "reviewers", "servers"):
        assert draft.faults(small + f"{section}: {{}}\n")
        assert draft.faults(small + f"{section}:\n")
    for section in ("rules", "masks"):
        assert draft.faults(small + f"{section}: []\n")
        assert draft.faults(small + f"{section}: {{}}\n")
    found = draft.faults("coatcheck: 1\n")
    assert found[0][1] == "missing section 'gateway'"


@pytest.mark.parametrize(
    "file",
    sorted(file for file in POLICIES.rglob("*.y*ml") if ".test." not in file.name),
    ids=lambda file: str(file.relative_to(POLICIES)),
)
def test_every_policy_that_ships_loads(file):
    policy = load_policy(file)
    assert policy.files == (file,)


def test_the_default_policy_denies_everything():
    policy = load_policy(POLICIES)
    assert not policy.rules
    assert not policy.identities
    assert not policy.servers


@pytest.mark.parametrize(
    ("name", "caller", "server", "call", "expected"),
    [
        ("read-only-ci", "docs-ci", "github", Call("mcp", "tools/call", "get_issue"), Allow),
        ("read-only-ci", "docs-ci", "github", Call("mcp", "tools/call", "create_issue"), Deny),
        ("read-only-ci", "docs-ci", "github", Call("mcp", "tools/call", "list_secret_scanning_alerts"), Deny),
        ("data-pipeline", "nightly-etl", "prices", Call("http", "GET", "/v2/prices/eur"), Allow),
        ("data-pipeline", "nightly-etl", "prices", Call("http", "POST", "/v2/prices/eur"), Deny),
        ("data-pipeline", "nightly-etl", "packages", Call("http", "CONNECT", "/"), Allow),
        ("two-stage", "shop-plan", "github", Call("mcp", "tools/call", "get_issue"), Allow),
        ("two-stage", "shop-release", "github", Call("mcp", "tools/call", "get_issue"), Allow),
        (
            "data-pipeline",
            "nightly-etl",
            "warehouse",
            Call("mcp", "tools/call", "run_query", {"dataset": "sales", "limit": 10}),
            Allow,
        ),
        (
            "data-pipeline",
            "nightly-etl",
            "warehouse",
            Call("mcp", "tools/call", "run_query", {"dataset": "hr", "limit": 10}),
            Deny,
        ),
    ],
    ids=str,
)
def test_the_examples_decide_as_their_comments_say(name, caller, server, call, expected):
    policy = load_policy(POLICIES / "examples" / f"{name}.yaml")
    decision = decide(policy, as_caller(policy, caller), policy.servers[server], [call], now=NOW)
    assert isinstance(decision, expected)


@pytest.mark.parametrize(
    ("environment", "caller", "repo", "expected"),
    [
        ("plan", "shop-plan", "shop", Deny),
        ("production", "shop-release", "shop", Allow),
        ("production", "shop-release", "other", Deny),
    ],
)
def test_the_stages_of_one_pipeline_are_told_apart_by_their_environment(environment, caller, repo, expected):
    policy = load_policy(POLICIES / "examples" / "two-stage.yaml")
    claims = {"repository_id": "74627617", "repository": "acme/shop", "ref": "refs/heads/main"}
    verified = Verified("github", "s", claims | {"environment": environment}, "t", NOW)
    found = match_identity(policy.identities, policy.issuers, verified, now=NOW)
    assert found.name == caller
    call = Call("mcp", "tools/call", "create_release", {"owner": "acme", "repo": repo})
    assert isinstance(decide(policy, found, policy.servers["github"], [call], now=NOW), expected)
    for other in ("", "planning", "staging"):
        nobody = replace(verified, claims=claims | {"environment": other})
        with pytest.raises(Refusal, match="unknown-identity"):
            match_identity(policy.identities, policy.issuers, nobody, now=NOW)


def test_a_word_that_was_cut_short_is_told_in_full(draft):
    [(_, _, hint)] = draft.faults(draft.edited("preset: github-actions", "preset: github"))
    assert hint == "did you mean 'github-actions'?"


def test_a_time_without_its_unit_is_told_with_one(draft):
    [(where, _, hint)] = draft.faults(draft.edited("hold: 30s", "hold: 30"))
    assert (where, hint) == ("p.yaml:4:9", "with its unit, such as 30s")
