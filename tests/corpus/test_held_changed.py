"""What changes while a call is held is what counts when it is let go: the policy, its identities, and the clock."""

import time
from pathlib import Path

import pytest
from ground import Ground, wait_until
from raw import call
from test_faults import FAULTY
from test_held import PATIENCE_SECONDS, PAY, asked, decide, waiting

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]


@pytest.fixture
def changing(place: Ground):
    """A gateway whose policy the test may change; its text, and where it stands."""
    policy = place.folder / "patient.yaml"
    text = place.policy_text().replace("hold: 20s", "hold: 4m")
    policy.write_text(text)
    with place.running(policy=policy) as ground:
        yield ground, policy, text
    policy.write_text(text)


@pytest.mark.attack("APPR-22")
@pytest.mark.parametrize(
    ("old", "new", "statuses"),
    [
        pytest.param("", "", (200,), id="control"),
        pytest.param(
            'claims: {repository_id: "74627617"}', 'claims: {repository_id: "1"}', (401, 403), id="identity gone"
        ),
        pytest.param(
            "    owner: platform@shop.example\n",
            "    owner: platform@shop.example\n    expires: 2020-01-01\n",
            (401, 403),
            id="identity expired",
        ),
    ],
)
def test_a_held_call_of_an_identity_that_is_no_more_is_not_sent(changing, old, new, statuses) -> None:
    ground, policy, text = changing
    before, mark = waiting(ground), ground.api.mark()
    with ground.tunnel(timeout=PATIENCE_SECONDS) as client:
        client.send(ground.post(call("pay", PAY | {"changed": new})))
        approval = asked(ground, before)
        if old:
            loads = len(policies_loaded(ground))
            policy.write_text(text.replace(old, new, 1))
            assert wait_until(lambda: len(policies_loaded(ground)) > loads, seconds=PATIENCE_SECONDS)
        assert decide(ground, "approve", approval).returncode == 0
        reply = client.read()
    paid = [heard for heard in ground.api.requests_since(mark) if b'"pay"' in heard.body]
    assert reply.status in statuses, reply
    assert len(paid) == (0 if old else 1)
    if old:
        policy.write_text(text)
        ground.gateway.wait_for(lambda: len(policies_loaded(ground)) > loads + 1)
        ground.is_well()


def policies_loaded(ground: Ground) -> list[dict]:
    return [one for one in ground.journal() if one.get("event") == "policy-loaded"]


@pytest.mark.attack("APPR-25")
@pytest.mark.parametrize("seconds", [-3600, 3600], ids=["back", "forth"])
def test_a_clock_that_jumps_lengthens_no_hold_and_makes_no_approval_good(tmp_path, seconds) -> None:
    """The gateway's clock jumps while the call is held; the reviewer's own does not."""
    with Ground(tmp_path) as place:  # its own: verify flags a journal whose clock jumped
        jump(place, tmp_path / "clock", seconds)


def jump(place: Ground, clock: Path, seconds: int) -> None:
    policy = place.folder / "patient.yaml"
    policy.write_text(place.policy_text().replace("hold: 20s", "hold: 10s"))
    with place.running(policy=policy, script=FAULTY, COATCHECK_TEST_CLOCK=str(clock)) as ground:
        body = call("pay", PAY | {"jump": seconds})
        before, mark = waiting(ground), ground.api.mark()
        with ground.tunnel(timeout=PATIENCE_SECONDS) as client:
            client.send(ground.post(body))
            approval = asked(ground, before)
            clock.write_text(str(seconds))
            reply = client.read()  # the hold ends in its own time, by a clock that does not jump
            assert reply.json["error"]["code"] in (4032, 4033), reply
        if seconds < 0:  # by the gateway's clock the verdict is from the future: nobody can say that it came in time
            assert decide(ground, "approve", approval).returncode == 0
            then = int(time.time()) + seconds
            token = ground.token(iat=then - 60, exp=then + 600)  # good by the gateway's clock
            with ground.tunnel(timeout=PATIENCE_SECONDS, token=token) as client:
                reply = client.outcome(ground.post(body))
            assert reply.json["error"]["code"] in (4031, 4032, 4033), reply
        assert ground.api.requests_since(mark) == []
        clock.unlink()
        ground.is_well()
        if seconds < 0:  # the clock is right again, and so is the approval
            with ground.tunnel(timeout=PATIENCE_SECONDS) as client:
                assert "result" in client.outcome(ground.post(body)).json
