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


def test_ids_are_not_among_the_claims_that_can_be_taken_over():
    for preset in PRESETS.values():
        assert not any(claim.endswith(("_id", ".uid")) for claim in preset.mutable_claims)
