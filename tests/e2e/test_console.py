"""mitmweb shows what is held and lets its reviewer decide; it shows no secret, and steers nothing else."""

import json
import urllib.error
import urllib.request

import pytest
from reviewer import wait_for_approval

from story.processes import Gateway, run_cli

pytestmark = pytest.mark.e2e

PASSWORD = "console-password"


class Console:
    """mitmweb's API, as its page uses it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._gateway.web_url}{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {PASSWORD}")
        request.add_header("Cookie", "_mitmproxy_xsrf=x")
        request.add_header("X-XSRFToken", "x")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def flows(self) -> list[dict]:
        return json.loads(self.ask("GET", "/flows")[1])


@pytest.fixture(scope="module")
def web(cast, tmp_path_factory):
    """The story's policy with mitmweb's person as the reviewer, under mitmweb."""
    policy = tmp_path_factory.mktemp("web") / "policy.yaml"
    text = cast.policy_text()
    start = text.index("  desk:")
    policy.write_text(text[:start] + "  desk: {mitmweb: desk@shop.example}\n" + text[text.index("servers:") :])
    gateway = Gateway(
        policy, cast.state, output=policy.with_name("out"), form="mitmweb", more=("--set", f"web_password={PASSWORD}")
    )
    with gateway:
        yield gateway


@pytest.fixture
def console(web) -> Console:
    return Console(web)


def held_flow(console: Console, gateway, approval_id: str) -> dict:
    found: list[dict] = []

    def there() -> bool:
        found[:] = [flow for flow in console.flows() if approval_id in flow["comment"] and flow["intercepted"]]
        return bool(found)

    gateway.wait_for(there)
    return found[0]


def hold(cast, web, order: str):
    arguments = json.dumps({"order_id": order, "amount": 1})
    pipeline = cast.start_pipeline("call", "refund_order", arguments, gateway=web, token=cast.token())
    return pipeline, wait_for_approval(web, order)


def refunds(cast) -> int:
    return len([done for done in cast.executed() if done["tool"] == "refund_order"])


def test_a_held_call_shows_with_marker_and_comment_and_resume_approves_it(cast, web, console) -> None:
    before = refunds(cast)
    pipeline, approval = hold(cast, web, "W-1")
    flow = held_flow(console, web, approval["id"])
    assert flow["marked"]
    assert "refund_order" in flow["comment"]
    assert console.ask("POST", f"/flows/{flow['id']}/resume")[0] == 200
    assert pipeline.finish().error is None
    assert refunds(cast) == before + 1
    shown = json.loads(run_cli("approvals", "show", approval["id"], "--state", str(cast.state), "--json").stdout)
    assert [vote["person"] for vote in shown["votes"]] == ["desk@shop.example"]


def test_kill_denies_a_held_call_at_once(cast, web, console) -> None:
    before = refunds(cast)
    pipeline, approval = hold(cast, web, "W-2")
    flow = held_flow(console, web, approval["id"])
    assert console.ask("POST", f"/flows/{flow['id']}/kill")[0] == 200
    assert pipeline.finish(timeout_seconds=60).error["code"] == 4031
    assert refunds(cast) == before


def test_an_edit_while_held_makes_the_hold_fail(cast, web, console) -> None:
    before = refunds(cast)
    pipeline, approval = hold(cast, web, "W-3")
    flow = held_flow(console, web, approval["id"])
    body = json.loads(console.ask("GET", f"/flows/{flow['id']}/request/content.data")[1])
    body["params"]["arguments"]["amount"] = 1000
    assert console.ask("PUT", f"/flows/{flow['id']}", {"request": {"content": json.dumps(body)}})[0] == 200
    assert console.ask("POST", f"/flows/{flow['id']}/resume")[0] == 200
    outcome = pipeline.finish()
    assert outcome.result is None
    assert "changed-while-held" in outcome.text
    assert refunds(cast) == before


def test_what_steers_the_gateway_is_locked(console) -> None:
    assert console.ask("GET", "/flows")[0] == 200
    assert console.ask("GET", "/options")[0] == 200
    assert console.ask("PUT", "/options", {"scripts": []})[0] == 403
    assert console.ask("PUT", "/options", {"rawtcp": True})[0] == 403
    assert console.ask("POST", "/commands/script.run", {"arguments": []})[0] == 403
    assert console.ask("POST", "/flows/resume")[0] == 403
    assert console.ask("POST", "/clear")[0] == 403
    assert console.ask("POST", "/flows/dump", {})[0] == 403


def test_a_replay_is_refused(cast, web, console) -> None:
    flow = console.flows()[-1]
    assert console.ask("POST", f"/flows/{flow['id']}/replay")[0] == 403


def test_no_secret_shows_in_a_flow_while_a_slow_call_is_in_flight(cast, web, console) -> None:
    pipeline = cast.start_pipeline("call", "slow", '{"seconds": 2}', gateway=web, token=cast.token())
    seen = []
    while pipeline.is_running:
        text = console.ask("GET", "/flows")[1]
        assert cast.credential.encode() not in text
        seen += [flow for flow in json.loads(text) if not flow.get("response")]
    assert seen, "the call was never seen in flight"
    assert pipeline.finish().error is None
