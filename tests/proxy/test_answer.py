"""A refusal is told in its caller's terms, with its exact id, and with nothing a server or a stack trace said."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import POLICY_DENIED, Refusal
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.proxy.answer import answer, challenge, connect_answer

DENIED = Refusal.denied("policy-denied", "orders are kept", rule="nobody-deletes")
EXPIRED = Refusal.unauthenticated("token-expired", "the token has expired")
MISSING = Refusal.unauthenticated("token-missing", "a token is needed")


@pytest.fixture
def exchange(exchange_of, flow):
    return exchange_of(flow)


@pytest.mark.parametrize("request_id", [1, 0, -7, "1", "", 'ü"\\', 2**53 - 1, None])
def test_json_rpc_carries_the_callers_exact_id(exchange, request_id) -> None:
    exchange.request_id = request_id
    response = answer(DENIED, exchange)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body = json.loads(response.content)
    assert body["jsonrpc"] == "2.0"
    assert body["id"] == request_id
    assert type(body["id"]) is type(request_id)
    assert body["error"]["code"] == POLICY_DENIED
    assert body["error"]["data"] == {
        "reason": "policy-denied",
        "rule": "nobody-deletes",
        "message": "orders are kept",
        "retryable": False,
    }


def test_each_request_of_a_batch_is_answered_in_one_array(exchange) -> None:
    exchange.inspected = Inspected((), b"", "batch", "2025-03-26", (1, "b"))
    body = json.loads(answer(DENIED, exchange).content)
    assert [(one["id"], one["error"]["code"]) for one in body] == [(1, POLICY_DENIED), ("b", POLICY_DENIED)]


def test_a_batch_of_notifications_is_not_answered(exchange) -> None:
    exchange.inspected = Inspected((), b"", "batch", "2025-03-26", ())
    response = answer(DENIED, exchange)
    assert (response.status_code, response.content) == (202, b"")


def test_what_never_became_an_exchange_is_told_with_id_null() -> None:
    body = json.loads(answer(EXPIRED).content)
    assert body["id"] is None


def test_a_plain_http_api_gets_a_problem(exchange) -> None:
    exchange.is_mcp = False
    response = answer(DENIED, exchange)
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert body["status"] == 403
    assert body["reason"] == "policy-denied"
    assert body["rule"] == "nobody-deletes"
    assert body["type"] == "urn:coatcheck:policy-denied"


@pytest.mark.parametrize("status", [400, 401, 403, 413, 421, 429, 502, 503])
def test_a_status_that_says_something_is_kept_in_both_forms(exchange, status) -> None:
    refusal = Refusal("x", "x", status=status)
    assert answer(refusal, exchange).status_code == status
    exchange.is_mcp = False
    assert answer(refusal, exchange).status_code == status


def test_a_request_of_no_known_server_is_told_in_json_rpc(exchange) -> None:
    exchange.server, exchange.is_mcp = None, False
    assert answer(Refusal("unknown-host", "x", status=403), exchange).headers["content-type"] == "application/json"


def test_a_denied_notification_is_accepted_and_dropped(exchange) -> None:
    call = Call("mcp", "notifications/cancelled")
    exchange.inspected = Inspected((call,), b"", "notification", None, ())
    response = answer(DENIED, exchange)
    assert (response.status_code, response.content, response.headers["content-length"]) == (202, b"", "0")
    assert answer(EXPIRED, exchange).status_code == 401
    exchange.inspected = replace(exchange.inspected, kind="request")
    assert answer(DENIED, exchange).status_code == 200


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        pytest.param(MISSING, {"www-authenticate": 'Bearer realm="coatcheck"'}, id="no token: no error (RFC 6750 3.1)"),
        pytest.param(
            EXPIRED, {"www-authenticate": 'Bearer realm="coatcheck", error="invalid_token"'}, id="a bad token"
        ),
        pytest.param(
            Refusal.unauthenticated("token-missing", "x", status=407),
            {"proxy-authenticate": 'Basic realm="coatcheck"'},
            id="at CONNECT",
        ),
        pytest.param(DENIED, {}, id="denied"),
        pytest.param(Refusal.unauthenticated("issuer-unreachable", "x", status=503), {}, id="keys unreachable"),
    ],
)
def test_a_challenge_stands_where_a_token_would_help_and_nowhere_else(refusal, expected) -> None:
    assert challenge(refusal) == expected
    headers = answer(refusal).headers
    assert {name: headers[name] for name in ("www-authenticate", "proxy-authenticate") if name in headers} == expected


def test_a_body_has_its_length(exchange) -> None:
    response = answer(DENIED, exchange)
    assert int(response.headers["content-length"]) == len(response.content)


def test_a_token_that_is_refused_is_told_in_the_status_line_too() -> None:
    """Some clients show no more of a 401 than that; what they show of other answers is the body."""
    assert answer(EXPIRED).reason == "coatcheck: the token has expired"
    assert answer(DENIED).reason == "OK"
    assert answer(Refusal("bad-request", "the request is not well-formed")).reason == "Bad Request"


@given(message=st.text(max_size=300))
def test_a_status_line_is_printable_ascii_whatever_is_told(message) -> None:
    reason = answer(Refusal.unauthenticated("x", message)).data.reason
    assert len(reason) <= 200
    assert reason.decode("ascii").isprintable()


# -- CONNECT ----------------------------------------------------------------------------------------------------------


def test_a_refused_connect_says_why_where_clients_show_it() -> None:
    response = connect_answer(Refusal("unknown-host", "x.test is not a server of the policy", status=403))
    assert response.status_code == 403
    assert response.reason == "coatcheck: x.test is not a server of the policy"
    assert response.headers["connection"] == "close"


def test_a_407_keeps_the_connection_for_the_next_try() -> None:
    response = connect_answer(Refusal.unauthenticated("token-missing", "a token is needed", status=407))
    assert response.headers["connection"] == "keep-alive"
    assert response.headers["proxy-authenticate"].startswith("Basic")


@given(message=st.text(max_size=300), status=st.sampled_from([200, 202, 400, 401, 403, 407, 409, 429, 499, 502, 503]))
def test_a_refused_connect_has_one_line_of_plain_text_and_is_never_a_success(message, status) -> None:
    """mitmproxy opens the tunnel for every answer from 200 to 299 (RFC 9110 section 9.3.6)."""
    response = connect_answer(Refusal("x", message, status=status))
    assert response.status_code >= 400
    reason = response.data.reason
    assert len(reason) <= 200
    assert b"\r" not in reason
    assert b"\n" not in reason
    assert reason.isascii()


@pytest.mark.parametrize("is_mcp", [True, False], ids=["mcp", "http"])
def test_what_comes_too_often_is_told_in_a_header_when_to_try_again(exchange, is_mcp) -> None:
    exchange.is_mcp = is_mcp
    often = Refusal("rate-limited", "later", status=429, retryable=True, details={"retry_after": 7})
    assert (answer(often, exchange).status_code, answer(often, exchange).headers["retry-after"]) == (429, "7")
    assert "retry-after" not in answer(Refusal("rate-limited", "never", status=429), exchange).headers
