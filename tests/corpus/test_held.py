"""A held call lets nothing past it, and what permits it permits nothing else."""

import json

import pytest
from ground import Ground, denied, wait_until
from raw import call

from story.processes import run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def patient(place: Ground):
    """A gateway that holds its clients for as long as a slow machine needs to decide."""
    policy = place.folder / "patient.yaml"
    policy.write_text(place.policy_text().replace("hold: 20s", "hold: 4m"))
    with place.running(policy=policy) as ground:
        yield ground


def waiting(ground: Ground) -> set[str]:
    done = run_cli("approvals", "list", "--state", str(ground.state), "--json")
    return {one["id"] for one in json.loads(done.stdout)}


def asked(ground: Ground, before: set[str]) -> str:
    """The one question that was not there before, once it is."""
    assert wait_until(lambda: bool(waiting(ground) - before), seconds=PATIENCE_SECONDS)
    (found,) = waiting(ground) - before
    return found


def decide(ground: Ground, verdict: str, approval_id: str):
    policy = str(ground.folder / "patient.yaml")
    return run_cli("approvals", verdict, approval_id, "--policy", policy, "--state", str(ground.state))


PAY = {"order_id": "A", "amount": 1}


@pytest.mark.attack("APPR-13")
@pytest.mark.parametrize("behind", ["get_order", "delete_order"], ids=["allowed", "denied"])
def test_what_is_sent_behind_a_held_call_waits_and_is_policed_on_its_own(patient, behind) -> None:
    before = waiting(patient)
    arrive = 2 if behind == "get_order" else 1
    with (
        patient.watch(refusals=2 - arrive, arrive=arrive) as watch,
        patient.tunnel(timeout=PATIENCE_SECONDS) as client,
    ):
        client.send(patient.post(call("pay", PAY, call_id=1)) + patient.post(call(behind, PAY, call_id=2)))
        approval = asked(patient, before)
        assert watch.arrived() == []
        assert decide(patient, "approve", approval).returncode == 0
        first, second = client.read(), client.read()
        assert (first.json["id"], second.json["id"]) == (1, 2)
        assert "result" in first.json
        assert ("result" in second.json) is (behind == "get_order")
        assert [json.loads(heard.body)["params"]["name"] for heard in watch.arrived()] == ["pay", behind][:arrive]


@pytest.mark.attack("APPR-08", "APPR-01")
def test_an_approval_is_for_one_call_and_the_next_of_the_same_is_asked_anew(patient) -> None:
    before = waiting(patient)
    body = call("pay", PAY)
    with patient.watch(refusals=1, arrive=1) as watch, patient.tunnel(timeout=PATIENCE_SECONDS) as client:
        client.send(patient.post(body))
        first = asked(patient, before)
        assert decide(patient, "approve", first).returncode == 0
        assert client.read().status == 200
        assert watch.arrived()[0].body == json.dumps(json.loads(body), separators=(",", ":")).encode()
        client.send(patient.post(body))
        second = asked(patient, before)
        assert second != first
        assert decide(patient, "deny", second).returncode == 0
        assert client.read().json["error"]["code"] == 4031


@pytest.mark.attack("APPR-04", "APPR-05")
def test_the_first_of_two_verdicts_counts_and_the_second_is_told(patient) -> None:
    before = waiting(patient)
    with patient.watch(refusals=1) as watch, patient.tunnel(timeout=PATIENCE_SECONDS) as client:
        client.send(patient.post(call("pay", PAY)))
        approval = asked(patient, before)
        assert decide(patient, "deny", approval).returncode == 0
        late = decide(patient, "approve", approval)
        assert late.returncode == 1
        assert late.stderr.startswith("error: ")
        assert client.read().json["error"]["code"] == 4031
        assert watch.arrived() == []


@pytest.mark.attack("APPR-14")
@pytest.mark.parametrize("changed", [{}, {"amount": 2}, {"extra": None}], ids=["same", "another", "more"])
def test_the_same_call_joins_the_question_and_another_asks_its_own(patient, changed) -> None:
    before = waiting(patient)
    with (
        patient.watch(refusals=2) as watch,
        patient.tunnel(timeout=PATIENCE_SECONDS) as one,
        patient.tunnel(timeout=PATIENCE_SECONDS) as two,
    ):
        one.send(patient.post(call("pay", PAY, call_id="one")))
        first = asked(patient, before)
        two.send(patient.post(call("pay", PAY | changed, call_id="two")))
        if changed:
            second = asked(patient, before | {first})
            assert decide(patient, "deny", second).returncode == 0
            assert two.read().json["error"]["code"] == 4031
        assert decide(patient, "deny", first).returncode == 0
        assert one.read().json["error"]["code"] == 4031
        if not changed:
            denied(two.read(), 200)
        assert watch.arrived() == []


def set_secret(ground: Ground, value: str) -> None:
    done = run_cli("vault", "set", "api-key", "--server", "api", "--state", str(ground.state), stdin=value + "\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.attack("APPR-22")
def test_a_held_call_that_is_approved_takes_the_credential_of_that_moment(patient) -> None:
    before, fresh, mark = waiting(patient), "sk-live-put-in-while-it-was-held", patient.api.mark()
    assert patient.credential.encode() in credential_now(patient)
    with patient.tunnel(timeout=PATIENCE_SECONDS) as client:
        client.send(patient.post(call("pay", PAY)))
        approval = asked(patient, before)
        set_secret(patient, fresh)
        try:
            assert wait_until(lambda: fresh.encode() in credential_now(patient), seconds=PATIENCE_SECONDS)
            assert decide(patient, "approve", approval).returncode == 0
            assert client.read().status == 200
        finally:
            set_secret(patient, patient.credential)
    (paid,) = [heard for heard in patient.api.requests_since(mark) if b'"pay"' in heard.body]
    assert fresh.encode() in paid.raw
    assert patient.credential.encode() not in paid.raw
    assert wait_until(lambda: patient.credential.encode() in credential_now(patient), seconds=PATIENCE_SECONDS)


def credential_now(ground: Ground) -> bytes:
    """What the server gets with an ordinary call."""
    mark = ground.api.mark()
    ground.is_well()
    return ground.api.requests_since(mark)[0].raw
