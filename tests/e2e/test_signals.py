"""Ends, wanted and unwanted: what is held gets an answer, what is written stays true."""

import json

import pytest
from raw import RawClient, call
from reviewer import wait_for_approval

from story.cast import Cast
from story.processes import run_cli

pytestmark = pytest.mark.e2e


def test_sigterm_answers_a_held_call_and_sends_nothing(fresh) -> None:
    with fresh.gateway() as gateway:
        arguments = json.dumps({"order_id": "S-1", "amount": 1})
        pipeline = fresh.start_pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())
        wait_for_approval(gateway, "S-1")
        assert gateway.stop() == 0
        outcome = pipeline.finish()
    assert outcome.result is None
    assert not [done for done in fresh.executed() if done["tool"] == "refund_order"]


def test_a_pending_approval_survives_a_restart_and_permits_the_same_call_once(fresh) -> None:
    arguments = json.dumps({"order_id": "S-2", "amount": 1})
    with fresh.gateway() as gateway:
        pipeline = fresh.start_pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())
        approval = wait_for_approval(gateway, "S-2")
        gateway.stop()
        pipeline.finish()
        where = ("--state", str(fresh.state), "--policy", str(fresh.policy))
        assert run_cli("approvals", "approve", approval["id"], *where).returncode == 0
        gateway.start()
        outcome = fresh.pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())
        assert outcome.error is None
        assert len([done for done in fresh.executed() if done["tool"] == "refund_order"]) == 1


def test_sigkill_in_mid_call_leaves_a_journal_that_verifies(fresh) -> None:
    with fresh.gateway() as gateway:
        pipeline = fresh.start_pipeline("call", "slow", '{"seconds": 5}', gateway=gateway, token=fresh.token())
        gateway.wait_for(lambda: '"slow"' in journal_text(fresh))
        gateway.kill()
        pipeline.kill()
        verified = run_cli("journal", "verify", "--state", str(fresh.state))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        gateway.start()
        outcome = fresh.pipeline("call", "get_order", '{"order_id": "A"}', gateway=gateway, token=fresh.token())
        assert outcome.error is None
        gateway.stop()
    assert run_cli("journal", "verify", "--state", str(fresh.state)).returncode == 0


def test_a_torn_last_line_is_reported_as_torn_and_a_flipped_byte_as_tampering(fresh) -> None:
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        client.tunnel(fresh.token()).post(call("get_order", {"order_id": "T"}))
        gateway.stop()
    (file,) = sorted((fresh.state / "journal").glob("*.jsonl"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    torn = run_cli("journal", "verify", "--state", str(fresh.state))
    assert torn.returncode == 0
    assert "torn" in torn.stdout + torn.stderr
    lines = whole.splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"kind"', b'"kinD"')
    file.write_bytes(b"".join(lines))
    flipped = run_cli("journal", "verify", "--state", str(fresh.state))
    assert flipped.returncode == 1
    assert f"{file.name}:2" in flipped.stdout + flipped.stderr


def journal_text(cast) -> str:
    return "".join(file.read_text() for file in (cast.state / "journal").glob("*.jsonl"))


def test_a_client_that_leaves_while_held_takes_its_question_with_it(fresh) -> None:
    arguments = json.dumps({"order_id": "S-3", "amount": 1})
    with fresh.gateway() as gateway:
        pipeline = fresh.start_pipeline("call", "refund_order", arguments, gateway=gateway, token=fresh.token())
        approval = wait_for_approval(gateway, "S-3")
        pipeline.kill()
        gateway.wait_for(lambda: state_of(fresh, approval["id"]) == "withdrawn")
        where = ("--state", str(fresh.state), "--policy", str(fresh.policy))
        assert run_cli("approvals", "approve", approval["id"], *where).returncode == 1
    assert not [done for done in fresh.executed() if done["tool"] == "refund_order"]


def test_a_hold_that_nobody_decides_is_answered_as_pending_and_the_same_call_joins_it(tmp_path) -> None:
    arguments = json.dumps({"order_id": "S-4", "amount": 1})
    with Cast(tmp_path, hold="1s", stateless=True) as cast:
        cast.make_state()
        with cast.gateway() as gateway:
            first = cast.pipeline("call", "refund_order", arguments, gateway=gateway, token=cast.token())
            assert first.error["code"] == 4033
            assert first.error["data"]["retryable"] is True
            second = cast.pipeline("call", "refund_order", arguments, gateway=gateway, token=cast.token())
            assert second.error["data"]["approval"] == first.error["data"]["approval"]
            where = ("--state", str(cast.state), "--policy", str(cast.policy))
            assert run_cli("approvals", "approve", first.error["data"]["approval"], *where).returncode == 0
            third = cast.pipeline("call", "refund_order", arguments, gateway=gateway, token=cast.token())
            assert third.error is None
            fourth = cast.pipeline("call", "refund_order", arguments, gateway=gateway, token=cast.token())
            assert fourth.error["code"] == 4033
            assert fourth.error["data"]["approval"] != first.error["data"]["approval"]
        assert len([done for done in cast.executed() if done["tool"] == "refund_order"]) == 1


def test_an_approval_that_nobody_gives_expires(tmp_path) -> None:
    arguments = json.dumps({"order_id": "S-5", "amount": 1})
    with Cast(tmp_path, stateless=True) as cast:
        cast.make_state()
        cast.policy.write_text(cast.policy.read_text().replace("expires: 2m", "expires: 1s"))
        with cast.gateway() as gateway:
            outcome = cast.pipeline("call", "refund_order", arguments, gateway=gateway, token=cast.token())
        assert outcome.error["code"] == 4032
        assert not [done for done in cast.executed() if done["tool"] == "refund_order"]


def state_of(cast, approval_id: str) -> str:
    shown = run_cli("approvals", "show", approval_id, "--state", str(cast.state), "--json")
    return json.loads(shown.stdout)["state"]
