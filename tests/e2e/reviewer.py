"""A reviewer on the command line: sees a question once it is asked, and decides it."""

import json
from pathlib import Path

from story.processes import Gateway, run_cli


def wait_for_approval(gateway: Gateway, text: str = "") -> dict:
    """The pending approval whose title or arguments hold `text`, once there is one."""
    found: list[dict] = []

    def is_asked() -> bool:
        listed = json.loads(run_cli("approvals", "list", "--state", str(gateway.state), "--json").stdout or "[]")
        found[:] = [one for one in listed if one["state"] == "pending" and text in one["call_title"] + one["arguments"]]
        return bool(found)

    gateway.wait_for(is_asked, within_seconds=20)
    return found[0]


def decide(gateway: Gateway, policy: Path, verdict: str, text: str = "") -> dict:
    """Decides the question of `wait_for_approval`, under `policy`."""
    approval = wait_for_approval(gateway, text)
    where = ("--state", str(gateway.state), "--policy", str(policy))
    done = run_cli("approvals", verdict, approval["id"], *where)
    assert done.returncode == 0, done.stderr
    return approval
