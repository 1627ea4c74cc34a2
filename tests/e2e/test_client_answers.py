"""What the official clients are told of a call that is not let through, in each protocol version they speak.

Law: a refusal reaches the client as an error with its code, its reason and its rule, under the client's own id, as
`application/json`; no client waits for an answer that does not come, and each goes on with its next call.
`scripts/everything` installs what this needs.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import jwt
import pytest
from official import CLIENTS, Official, inspect, needs_everything, play, said, start
from versions import VERSIONS, Scene, serving

from coatcheck.identity.token_request import GRANT_TYPE, JWT
from story.cast import Cast

pytestmark = [pytest.mark.e2e, pytest.mark.clients, needs_everything]

PAIRS = [
    pytest.param(client, version, id=f"{client.name}-{version}")
    for client in CLIENTS
    for version in VERSIONS
    if version <= client.newest and (version == VERSIONS[-1]) == (client.newest == VERSIONS[-1])
]
"""Every client with the versions it speaks; those that speak the newest are tried with the older in their old way."""


@pytest.fixture(scope="module")
def scene(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serving(cast, tmp_path_factory.mktemp("answers")) as scene:
        yield scene


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that holds a client for one second."""
    folder = tmp_path_factory.mktemp("impatient")
    with Cast(folder, hold="1s", stateless=True) as cast:
        cast.make_state()
        with serving(cast, folder) as scene:
            yield scene


def call(tool: str, **arguments: str) -> dict[str, Any]:
    return {"do": "call", "name": tool, "arguments": arguments}


TOLD = [{"status": 200, "type": "application/json", "same id": True}]


def assert_executed(step: dict[str, Any]) -> None:
    assert "error" not in step, step
    assert step["result"]["content"][0]["text"] == f"{step['step']['name']} was executed"


def assert_told(step: dict[str, Any], code: int, reason: str, *, retryable: bool = False) -> dict[str, Any]:
    """The error, whose code and data are the gateway's."""
    assert not step.get("hangs")
    error = step["error"]
    assert (error["code"], error["data"]["reason"], error["data"]["retryable"]) == (code, reason, retryable)
    assert step["answers"] == TOLD
    return error


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_each_refusal_is_told_and_the_next_call_goes_on(scene: Scene, client: Official, version: str, way: str) -> None:
    before = len(scene.executed())
    steps = [
        *[call("opens"), call("shuts"), call("opens"), call("asks"), call("opens"), call("lapses"), call("opens")],
        {"do": "read", "uri": "file:///shut"},
        {"do": "prompt", "name": "shut"},
        *[call("fails"), call("hides"), call("opens")],
    ]
    process = start(client, scene.way(way, version, scene.cast.token()), scene.script(*steps))
    scene.decide_when_asked(process, "deny", before=lambda: None)
    seen = said(process)
    assert seen.get("version") == version, seen
    for step in seen["steps"][::2][:4] + seen["steps"][-1:]:
        assert_executed(step)
    denied = assert_told(seen["steps"][1], 4030, "policy-denied")
    assert denied["data"]["rule"] == f"shuts-{version}"
    assert "It is shut." in denied["message"]
    assert_told(seen["steps"][3], 4031, "approval-denied")
    assert_told(seen["steps"][5], 4032, "approval-expired")
    for step in seen["steps"][7:9]:
        assert_told(step, 4030, "policy-denied")
    fails, hides = seen["steps"][9:11]
    assert (fails["result"]["isError"], fails["result"]["content"]) == (True, [{"type": "text", "text": "It fails."}])
    assert (hides["error"]["code"], hides["error"].get("data")) == (-32602, None)
    assert fails["answers"] == hides["answers"] == TOLD
    assert scene.executed()[before:] == ["opens"] * 5


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_client_that_waited_long_enough_is_told_that_the_call_still_waits(impatient, client, version) -> None:
    """The same call asks nothing new: it joins the approval."""
    steps = impatient.script(call("asks", by=client.name), call("opens"), call("asks", by=client.name), call("opens"))
    seen = play(client, impatient.way("proxy", version, impatient.cast.token()), steps)
    first, opened, second, again = seen["steps"]
    told = [assert_told(step, 4033, "approval-pending", retryable=True) for step in (first, second)]
    assert told[0]["data"]["approval"] == told[1]["data"]["approval"]
    for step in (opened, again):
        assert_executed(step)


NEWEST = [pytest.param(client, client.newest, id=client.name) for client in CLIENTS]


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_caller_whom_no_rule_names_is_told_so_when_it_connects(scene, client, version, way) -> None:
    before = len(scene.far.heard)
    token = scene.cast.token(repository_id="2")
    seen = play(client, scene.way(way, version, token), scene.script(call("opens")))
    assert (seen["failed"]["code"], seen["failed"]["data"]["reason"]) == (4030, "policy-denied")
    assert {json.dumps(answer) for answer in seen["answers"]} == {json.dumps(answer) for answer in TOLD}
    assert len(scene.far.heard) == before


REFUSED_TOKENS = [
    pytest.param({"lifetime": -600}, 401, "the token has expired", id="expired"),
    pytest.param({"audience": "https://other.example"}, 401, "must be minted for the audience", id="another audience"),
    pytest.param({"repository_id": "3"}, 403, "no identity in the policy matches", id="nobody"),
]


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("claims", "status", "words"), REFUSED_TOKENS)
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_client_whose_token_is_refused_says_why(scene, client, version, claims, status, words, way) -> None:
    """TypeScript 2.x keeps the answer in its error's data, Python 1.x only its status line."""
    before = len(scene.far.heard)
    seen = play(client, scene.way(way, version, scene.cast.token(**claims)), scene.script(call("opens")))
    assert words in json.dumps(seen["failed"])
    told = {"status": status, "type": "application/json", "same id": True}
    assert {json.dumps(answer) for answer in seen["answers"]} == {json.dumps(told)}
    assert len(scene.far.heard) == before


@pytest.mark.parametrize("way", ["proxy", "reverse"])
@pytest.mark.parametrize(("client", "version"), NEWEST)
def test_a_token_that_is_taken_back_while_a_call_waits_ends_the_wait(scene, client, version, way) -> None:
    """The call that was approved all the same is not sent, and neither is the next; Python 1.x ends at the first."""
    before, state = len(scene.executed()), str(scene.cast.state)
    form = {"grant_type": GRANT_TYPE, "subject_token": scene.cast.token(), "subject_token_type": JWT}
    token = httpx2.post(f"{scene.gateway.control_url}/token", data=form).raise_for_status().json()["access_token"]
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    steps = scene.script(call("opens"), call("asks", jti=jti), call("opens"))
    process = start(client, scene.way(way, version, token), steps)

    def is_refused() -> bool:
        answer = httpx2.post(scene.way("reverse", version, token).url, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code == 401

    def revoke() -> None:
        scene.cast.cli("identities", "revoke", jti, "--state", state)
        scene.gateway.wait_for(is_refused)

    scene.decide_when_asked(process, "approve", before=revoke)
    seen = said(process)
    assert scene.executed()[before:] == ["opens"]
    last = [seen["failed"]] if "failed" in seen else [step["error"] for step in seen["steps"][1:]]
    assert len(last) == (1 if client.name == "python-1" else 2)
    assert all("this session token was revoked" in json.dumps(error) for error in last)


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_call_that_its_client_gave_up_is_not_sent_though_it_is_approved_then(scene, client, version) -> None:
    """Before 2026-07-28 clients say so in a notification of its own, and leave the call's connection open.

    The call after it takes a second: Python 2.x fails where an answer comes in while it closes.
    """
    before, mark = len(scene.executed()), f"{client.name} {version}"
    steps = [call("opens"), call("asks", mark=mark) | {"patience": 2}, call("lapses", mark=mark), call("opens")]
    seen = play(client, scene.way("proxy", version, scene.cast.token()), scene.script(*steps))
    assert "failed" not in seen, seen
    assert_executed(seen["steps"][0])
    assert "imed out" in seen["steps"][1]["error"]["message"], seen["steps"][1]
    assert seen["steps"][2]["error"]["code"] == 4032
    assert_executed(seen["steps"][3])
    approval = scene.approval(mark)
    scene.gateway.wait_for(lambda: scene.approval(mark)["state"] != "pending")
    assert scene.approval(mark)["state"] == "withdrawn"
    assert scene.vote(approval["id"], "approve").status_code == 409
    assert scene.executed()[before:] == ["opens", "opens"]
    assert [heard for heard in scene.far.heard if b"notifications/cancelled" in heard.body] == []


@pytest.mark.parametrize(("client", "version"), PAIRS)
def test_a_server_that_dies_in_a_call_leaves_no_client_waiting(scene, client, version) -> None:
    """In a stream as before it; Python 1.x takes the 502 before it for the end of everything."""
    way, steps = scene.way("proxy", version, scene.cast.token()), [call("opens"), call("dies-in-stream"), call("opens")]
    seen = play(client, way, scene.script(*steps))
    assert_executed(seen["steps"][0])
    error = seen["steps"][1]["error"]
    assert (error["code"], error["data"]["reason"]) == (5020, "server-failed")
    assert_executed(seen["steps"][2])
    seen = play(client, way, scene.script(call("dies"), call("opens")))
    told = {"status": 502, "type": "application/json", "same id": True}
    if client.name == "python-1":
        assert told in seen["answers"]
        assert "502" in seen["failed"]["message"]
    else:
        assert told in seen["steps"][0]["answers"]
        assert "server-failed" in json.dumps(seen["steps"][0]["error"])
        assert_executed(seen["steps"][1])


@pytest.mark.parametrize("way", ["proxy", "reverse"])
def test_the_inspector_prints_what_it_is_told(scene, way, tmp_path) -> None:
    """It lists the tools before it calls one, so that one which is always denied does not exist for it."""
    good, expired = scene.cast.token(), scene.cast.token(lifetime=-600)
    for arguments, token, words in (
        (["tools/call", "--tool-name", "opens"], good, "opens was executed"),
        (["tools/call", "--tool-name", "shuts"], good, "Tool 'shuts' not found"),
        (["tools/call", "--tool-name", "lapses"], good, "no reviewer decided in time"),
        (["resources/read", "--uri", "file:///shut"], good, "no rule lets shop-ci read"),
        (["tools/call", "--tool-name", "opens"], expired, "the token has expired"),
    ):
        seen = inspect(scene.way(way, "2025-11-25", token), tmp_path, ["--method", *arguments])
        assert words in json.dumps(seen["printed"])
        assert (seen["exit"] == 0) == ("executed" in words)
