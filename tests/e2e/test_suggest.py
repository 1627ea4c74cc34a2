"""What a real gateway recorded, turned into a policy and decided again by it."""

import json

import pytest

from story.processes import run_cli

pytestmark = pytest.mark.e2e


def test_suggest_then_backtest_on_what_the_gateway_recorded_changes_nothing(fresh, tmp_path) -> None:
    with fresh.gateway() as gateway:
        token = fresh.token()
        for call in (
            ("list",),
            ("call", "get_order", '{"order_id": "A-1"}'),
            ("call", "get_order", '{"order_id": "A-2"}'),
            ("whoami",),
            ("call", "delete_order", '{"order_id": "A-1"}'),
        ):
            fresh.pipeline(*call, gateway=gateway, token=token)
    state = ("--state", str(fresh.state))
    suggested = tmp_path / "suggested.yaml"
    suggested.write_text(fresh.cli("policy", "suggest", "--policy", str(fresh.policy), *state))
    assert "tools:\n      - get_order\n      - whoami\n" in suggested.read_text()
    data = json.loads(fresh.cli("policy", "backtest", str(suggested), *state, "--json"))
    assert data["same"] >= 5
    assert (data["changed"], data["unknown"], data["groups"]) == (0, 0, [])
    assert json.loads(fresh.cli("policy", "check", "--policy", str(suggested), "--json"))["rules"] == 1


def test_backtest_shows_what_a_stricter_policy_would_have_refused(fresh, tmp_path) -> None:
    with fresh.gateway() as gateway:
        fresh.pipeline("call", "get_order", '{"order_id": "A-1"}', gateway=gateway, token=fresh.token())
    stricter = tmp_path / "stricter.yaml"
    stricter.write_text(fresh.policy.read_text().replace('tools: ["get_*",', 'tools: ["list_all",'))
    done = run_cli("policy", "backtest", str(stricter), "--state", str(fresh.state), "--json")
    assert done.returncode == 1
    (group,) = json.loads(done.stdout)["groups"]
    assert (group["was"], group["now"]["effect"]) == ({"effect": "allow", "rules": ["ci-reads"]}, "deny")
    assert group["calls"] == ["tools/call get_order"]
