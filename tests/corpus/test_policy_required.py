"""Where a policy's sha256 is required, no other policy is ever in force: not at the start, not later."""

import http.client
import json
from contextlib import closing

import pytest
from ground import Ground, denied, wait_until
from raw import call
from test_starts import ended

from coatcheck.policy.load import load_policy
from story.processes import Gateway

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

PATIENCE_SECONDS = 30.0


def readiness(ground: Ground) -> tuple[int, dict]:
    with closing(http.client.HTTPConnection("127.0.0.1", ground.gateway.control_port, timeout=60)) as connection:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def other(place: Ground, tmp_path):
    """The policy of this ground in a file of its own, so that it can change."""
    file = tmp_path / "policy.yaml"
    file.write_text(place.policy_text())
    return file


def wide(text: str) -> str:
    """The policy with its deny turned into an allow: valid, and not what was required."""
    return text.replace("effect: deny", "effect: allow")


WRONG = {
    "another": lambda sha256: "0" * 64,
    "another's first half": lambda sha256: sha256[:32] + "0" * 32,
    "cut": lambda sha256: sha256[:63],
    "in capitals": lambda sha256: sha256.upper(),
    "a word": lambda sha256: "any",
}


@pytest.mark.attack("POL-23")
@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_another_policy_than_the_required_one_refuses_to_start(place, other, tmp_path, spoil) -> None:
    sha256 = load_policy(other).sha256
    gateway = Gateway(other, place.state, output=tmp_path / "out")
    done = ended(gateway, "--set", f"coatcheck_policy_sha256={spoil(sha256)}")
    assert done.returncode == 1, done.stdout
    assert "sha256" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.attack("POL-20", "POL-23")
def test_the_required_policy_stays_in_force_whatever_its_file_becomes(place, other) -> None:
    text, sha256 = other.read_text(), load_policy(other).sha256
    with place.running(policy=other, COATCHECK_POLICY_SHA256=sha256) as ground:
        start = len(ground.journal())
        status, said = readiness(ground)
        assert (status, said["status"], said["policy"], said["policy_stale"]) == (200, "ready", sha256, False)
        draft = other.with_name("draft")
        draft.write_text(wide(text))
        draft.rename(other)
        assert wait_until(lambda: readiness(ground)[1]["policy_stale"], seconds=PATIENCE_SECONDS)
        status, said = readiness(ground)
        assert (status, said["status"], said["policy"]) == (200, "degraded", sha256)
        with ground.watch(refusals=1), ground.tunnel() as client:
            denied(client.outcome(ground.post(call("delete_order", {"order_id": "A"}))), 200, "policy-denied")
        told = [record["event"] for record in ground.journal()[start:] if record["kind"] == "lifecycle"]
        assert told == ["policy-refused"]
        other.write_text(text)
        assert wait_until(lambda: not readiness(ground)[1]["policy_stale"], seconds=PATIENCE_SECONDS)
        assert ground.is_well()
