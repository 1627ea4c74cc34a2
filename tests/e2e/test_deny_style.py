"""How a rule's denial is answered, with the official Python client at one end and its server at the other."""

import pytest
from raw import RawClient, call

from coatcheck.journal.read import records

pytestmark = pytest.mark.e2e

MESSAGE = "Orders are kept for ten years."
ASK = ("call", "delete_order", '{"order_id": "A-1000"}')


@pytest.fixture(params=["auto", "legacy"])
def mode(request) -> str:
    return request.param


def styled(cast, style: str):
    text = cast.policy_text().replace("    effect: deny\n", f"    effect: deny\n    deny_style: {style}\n")
    assert style in text
    cast.policy.write_text(text)
    return cast.gateway()


def outcomes(cast, style, mode):
    """Of the denied call, and of one that is allowed."""
    before = len(cast.executed())
    with styled(cast, style) as gateway:
        found = [
            cast.pipeline(*ask, gateway=gateway, token=cast.token(), mode=mode)
            for ask in (ASK, ("call", "get_order", '{"order_id": "A-1000"}'))
        ]
    assert [done["tool"] for done in cast.executed()[before:]] == ["get_order"]
    assert found[1].result["structuredContent"]["id"] == "A-1000"
    return found[0]


def test_an_error_names_its_rule(cast, mode) -> None:
    error = outcomes(cast, "error", mode).error
    assert (error["code"], error["data"]["rule"]) == (4030, "nobody-deletes")


def test_a_hidden_tool_is_one_that_does_not_exist(cast, mode) -> None:
    outcome = outcomes(cast, "hide", mode)
    assert outcome.error == {"code": -32602, "message": "Unknown tool: delete_order", "data": None}
    assert "nobody-deletes" not in outcome.text


def test_a_tool_error_is_a_result_that_the_client_takes(cast, mode) -> None:
    result = outcomes(cast, "tool_error", mode).result
    assert result["isError"] is True
    assert [content["text"] for content in result["content"]] == [MESSAGE]


def test_the_journal_tells_the_rule_whatever_the_caller_is_told(cast) -> None:
    with styled(cast, "hide") as gateway, RawClient(gateway, cast) as client:
        client.connect(cast.token())
        client.start_tls()
        reply = client.post(call("delete_order", {"order_id": "X"}))
    assert (reply.status, reply.json["error"]["code"]) == (200, -32602)
    *_, last = records(cast.state / "journal", kind="refusal")
    assert (last["reason"], last["rule"]) == ("policy-denied", "nobody-deletes")
