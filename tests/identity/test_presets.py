import re
from importlib import import_module
from pathlib import Path

import pytest

from coatcheck.identity.jose import ALGORITHMS
from coatcheck.identity.match import read_claim
from coatcheck.identity.presets import PRESETS

RUNS = {
    "github-actions": ({"run_id": "9", "run_attempt": "1", "check_run_id": "7", "sha": "d34db33f"}, 4),
    "gitlab": ({"pipeline_id": "455", "job_id": "1123", "sha": "d34db33f"}, 3),
    "kubernetes": (
        {"kubernetes.io": {"namespace": "ns", "node": {"name": "n"}, "pod": {"name": "p", "uid": "u"}}},
        3,
    ),
    "spiffe": ({"jti": "1"}, 1),
    "google": ({"google": {"compute_engine": {"instance_id": "152986662232938449", "instance_name": "n"}}}, 2),
    "azure": ({"uti": "u"}, 1),
    "aws": ({"jti": "1"}, 1),
    "buildkite": ({"build_number": 1, "build_commit": "9f31820", "job_id": "0184990a"}, 3),
    "circleci": ({"oidc.circleci.com/project-id": "p", "oidc.circleci.com/vcs-ref": "refs/heads/main"}, 2),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_known_by_its_own_name_and_allows_public_key_algorithms_only(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert set(preset.algorithms) <= ALGORITHMS
    assert preset.algorithms
    assert preset.issuer is None or (preset.issuer.startswith("https://") and not preset.issuer.endswith("/"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_is_told_from_the_claims_such_a_token_has(name):
    claims, count = RUNS[name]
    found = [read_claim(claims, claim) for claim in PRESETS[name].run_claims]
    assert len([value for value in found if value]) == count


PINNED = [
    ("github-actions", "repository_id", "74627617", True),
    ("github-actions", "repository_id", "7462*", False),
    ("github-actions", "sub", "repo:acme@12/shop@74627617:ref:refs/heads/main", True),
    ("github-actions", "sub", "repo:acme@12/*", True),
    ("github-actions", "sub", "repo:acme/shop:ref:refs/heads/main", False),
    ("github-actions", "sub", "repo:*@12/shop@74627617:ref:refs/heads/main", False),
    ("github-actions", "sub", "repo:acme/shop:environment:x@12/y", False),
    ("gitlab", "project_id", "278964", True),
    ("google", "sub", "107517467455664443765", True),
    ("google", "sub", "*", False),
    ("google", "google.compute_engine.project_number", "739419398126", True),
    ("azure", "oid", "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb", True),
    ("azure", "oid", "aaaaaaaa-*", False),
    ("buildkite", "organization_id", "0184990a-477b-4fa8-9968-496074483cee", True),
    ("buildkite", "sub", "organization:acme:pipeline:shop:ref:refs/heads/main:commit:*:step:*", False),
]


@pytest.mark.parametrize(("name", "claim", "value", "pinned"), PINNED)
def test_an_id_stays_with_its_owner_and_a_name_or_a_glob_does_not(name, claim, value, pinned):
    assert bool(re.fullmatch(PRESETS[name].pins[claim], value)) == pinned


@pytest.mark.parametrize("name", PRESETS)
def test_an_issuer_that_everybody_shares_has_claims_that_tell_owners_apart(name):
    assert PRESETS[name].pins or PRESETS[name].issuer is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_its_tokens_hold_and_as_of_when(name):
    module = import_module(f"coatcheck.identity.presets.{name.replace('-', '_')}")
    said = " ".join(module.__doc__.split())
    assert re.search(r"as of [A-Z][a-z]+ 20[0-9]{2}\)", said)
    assert "Worth matching: `" in said


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_in_the_readme(name):
    rows = (Path(__file__).parents[2] / "README.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
    issuer = PRESETS[name].issuer
    assert issuer is None or issuer.removeprefix("https://") in row
