import json

import pytest

from coatcheck.errors import PARSE_ERROR, POLICY_DENIED, Refusal
from coatcheck.mcp.answers import error_body, error_event, problem_body, problem_status, told_of_tool
from coatcheck.mcp.inspect import UnsupportedVersion
from coatcheck.mcp.methods import VERSIONS

DENIED = Refusal.denied("policy-denied", "no rule lets shop-ci call drop on shop", rule="no-drops")


@pytest.mark.parametrize("request_id", [1, 0, "1", "", None])
def test_a_refusal_is_a_json_rpc_error_with_the_callers_exact_id(request_id):
    answer = json.loads(error_body(request_id, DENIED))
    assert answer == {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {
            "code": POLICY_DENIED,
            "message": "no rule lets shop-ci call drop on shop",
            "data": {
                "reason": "policy-denied",
                "rule": "no-drops",
                "message": "no rule lets shop-ci call drop on shop",
                "retryable": False,
            },
        },
    }
    assert type(answer["id"]) is type(request_id)


@pytest.mark.parametrize(
    ("style", "member", "value"),
    [
        ("hide", "error", {"code": -32602, "message": "Unknown tool: drop"}),
        ("tool_error", "result", {"content": [{"type": "text", "text": "not today"}], "isError": True}),
    ],
)
def test_a_style_is_all_that_the_caller_is_told(style, member, value):
    refusal = Refusal.denied("policy-denied", "no", rule="r", told=told_of_tool(style, "drop", "not today"))
    assert json.loads(error_body(7, refusal)) == {"jsonrpc": "2.0", "id": 7, member: value}
    assert (refusal.reason, refusal.rule) == ("policy-denied", "r")


def test_a_tools_error_says_that_it_is_complete_where_results_say_so():
    assert told_of_tool("tool_error", "drop", "no", is_stateless=True)["result"]["resultType"] == "complete"


def test_the_usual_style_changes_nothing():
    assert told_of_tool("error", "drop", "not today") is None


def test_an_approval_is_named_where_there_is_one():
    refusal = Refusal("approval-pending", "ask an SRE", status=200, code=4033, approval="a1", retryable=True)
    data = json.loads(error_body(1, refusal))["error"]["data"]
    assert (data["approval"], data["retryable"]) == ("a1", True)


def test_a_refusal_on_a_stream_is_one_message_event():
    event = error_event("x", Refusal("malformed-json", "two\nlines", code=PARSE_ERROR)).encode()
    head, data, end = event.split(b"\n", 2)
    assert (head, end) == (b"event: message", b"\n")
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"] == "two\nlines"


def test_an_unknown_version_is_answered_with_the_known_ones():
    data = json.loads(error_body(1, UnsupportedVersion("2027-01-01")))["error"]["data"]
    assert (data["supported"], data["requested"]) == (list(VERSIONS), "2027-01-01")


def test_a_plain_http_client_gets_problem_json():
    assert json.loads(problem_body(DENIED)) == {
        "type": "urn:coatcheck:policy-denied",
        "title": "policy denied",
        "status": 403,
        "detail": "no rule lets shop-ci call drop on shop",
        "reason": "policy-denied",
        "rule": "no-drops",
        "message": "no rule lets shop-ci call drop on shop",
        "retryable": False,
    }


@pytest.mark.parametrize(("status", "told"), [(200, 403), (401, 401), (503, 503)])
def test_a_status_that_only_json_rpc_clients_understand_becomes_403(status, told):
    assert problem_status(Refusal("x", "y", status=status)) == told
