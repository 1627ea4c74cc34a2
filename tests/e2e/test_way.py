"""The way of a request through the real gateway, with the official client and server."""

import itertools
import json

import pytest
from reviewer import decide, wait_for_approval

from story.cast import Cast
from story.processes import run_cli

pytestmark = pytest.mark.e2e


def test_an_allowed_call_reaches_the_server_with_the_real_credential(stage) -> None:
    before = len(stage.cast.executed())
    outcome = stage.cast.pipeline("call", "get_order", '{"order_id": "A-1"}', gateway=stage.gateway, token=stage.token)
    assert outcome.error is None
    assert "A-1" in json.dumps(outcome.result)
    (executed,) = stage.cast.executed()[before:]
    assert executed["tool"] == "get_order"
    assert executed["authorization_ok"] is True


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_both_eras_of_the_protocol_work(stage, mode: str) -> None:
    arguments = ("call", "get_order", '{"order_id": "A-2"}')
    outcome = stage.cast.pipeline(*arguments, gateway=stage.gateway, token=stage.token, mode=mode)
    assert outcome.error is None
    assert outcome.failed is None


def test_the_caller_never_sees_the_secret_even_when_the_server_echoes_it(stage) -> None:
    outcome = stage.cast.pipeline("whoami", gateway=stage.gateway, token=stage.token)
    assert stage.cast.credential not in outcome.text
    assert "*" * len(stage.cast.credential) in outcome.text


def test_a_list_shows_only_what_the_caller_may_call(stage) -> None:
    outcome = stage.cast.pipeline("list", gateway=stage.gateway, token=stage.token)
    assert "get_order" in outcome.text
    assert "refund_order" in outcome.text
    assert "delete_order" not in outcome.text


def test_a_denied_call_gets_the_rule_and_its_message_and_is_not_executed(stage) -> None:
    before = stage.cast.executed()
    outcome = stage.cast.pipeline(
        "call", "delete_order", '{"order_id": "A-1"}', gateway=stage.gateway, token=stage.token
    )
    assert outcome.error["code"] == 4030
    assert outcome.error["data"]["rule"] == "nobody-deletes"
    assert outcome.error["data"]["message"] == "Orders are kept for ten years."
    assert outcome.error["data"]["retryable"] is False
    assert stage.cast.executed() == before


def test_a_stream_arrives_event_by_event_and_masked(stage) -> None:
    outcome = stage.cast.pipeline("export", gateway=stage.gateway, token=stage.token)
    times = [event.at for event in outcome.events]
    assert len(times) == 20
    assert times[-1] - times[0] > 0.5
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.4
    assert "@" not in "".join(event.text for event in outcome.events).replace("***@", "")


@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_a_held_call_is_decided_by_a_reviewer_and_executed_at_most_once(stage, verdict: str) -> None:
    cast: Cast = stage.cast
    before = [call for call in cast.executed() if call["tool"] == "refund_order"]
    order = f"R-{verdict}"
    arguments = json.dumps({"order_id": order, "amount": 5})
    pipeline = cast.start_pipeline("call", "refund_order", arguments, gateway=stage.gateway, token=stage.token)
    wait_for_approval(stage.gateway, order)
    assert pipeline.is_running
    approval = decide(stage.gateway, cast.policy, verdict, order)
    outcome = pipeline.finish()
    after = [call for call in cast.executed() if call["tool"] == "refund_order"]
    if verdict == "approve":
        assert outcome.error is None
        assert len(after) == len(before) + 1
    else:
        assert outcome.error["code"] == 4031
        assert outcome.error["data"]["approval"] == approval["id"]
        assert after == before
    again = run_cli("approvals", "approve", approval["id"], "--state", str(cast.state), "--policy", str(cast.policy))
    assert again.returncode == 1
    assert "already decided" in again.stderr


def test_no_token_and_a_wrong_audience_are_refused(stage) -> None:
    before = stage.cast.executed()
    none = stage.cast.pipeline("list", gateway=stage.gateway, token="")
    wrong = stage.cast.pipeline("list", gateway=stage.gateway, token=stage.cast.token(audience="https://else.example"))
    assert "407" in none.text
    assert "audience" in wrong.text
    assert stage.cast.executed() == before


def test_the_journal_verifies_and_a_flipped_byte_is_located(stage) -> None:
    state = stage.cast.state
    good = run_cli("journal", "verify", "--state", str(state))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "verifies" in good.stdout


def test_no_canary_stands_in_the_state_or_the_output(stage) -> None:
    asked = '{"order_id": "4111 1111 1111 1111"}'  # what is asked for is recorded as well
    stage.cast.pipeline("call", "get_order", asked, gateway=stage.gateway, token=stage.token)
    assert "4111 1111 1111 1111" in str(stage.cast.executed()[-1])
    canaries = [stage.cast.credential.encode(), stage.token.rpartition(".")[2].encode()]
    canaries += [b"4111111111111111", b"4111 1111 1111 1111"]
    for path in stage.cast.state.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [canary for canary in canaries if canary in data], path
    assert stage.cast.credential not in stage.gateway.text()
