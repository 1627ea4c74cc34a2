"""What is not a plain, understood request to a declared server is refused, and nothing reaches the server."""

import json
from urllib.parse import urlsplit

import pytest
from raw import RawClient, call

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(stage):
    with RawClient(stage.gateway, stage.cast) as client:
        yield client


def test_a_good_request_over_a_raw_tunnel_is_answered(stage, client) -> None:
    """The positive control of this file."""
    reply = client.tunnel(stage.token).post(call("get_order", {"order_id": "B-1"}))
    assert reply.status in (200, 400)  # the shop decides about a session; the gateway passed it


BODIES = [
    pytest.param(b"{", 400, "malformed-json", id="malformed JSON"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, None, id="duplicate key"),
    pytest.param(b"[" + call("get_order") + b"]", 400, None, id="batch outside 2025-03-26"),
    pytest.param(call("get_order").decode().encode("utf-16"), 400, None, id="UTF-16"),
    pytest.param(b"\xff\xfe" + call("get_order"), 400, None, id="not UTF-8"),
    pytest.param(b"", 400, None, id="no body"),
    pytest.param(b"null", 400, None, id="null"),
    pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, None, id="null id"),
    pytest.param(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}} {}', 400, None, id="two documents"
    ),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}}', 400, None, id="a response"),
]


@pytest.mark.parametrize(("body", "status", "reason"), BODIES)
def test_a_body_that_is_not_understood_is_refused(stage, client, body, status, reason) -> None:
    before = stage.cast.executed()
    reply = client.tunnel(stage.token).post(body)
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json"
    assert "error" in reply.json
    assert "id" in reply.json
    if reason:
        assert reply.reason_code == reason
    assert stage.cast.executed() == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content_Type": "text/plain"}, 415, id="content type"),
        pytest.param({"Content_Type": "application/json; charset=utf-16"}, 415, id="charset"),
        pytest.param({"Content_Encoding": "gzip"}, 415, id="encoded"),
        pytest.param({"Host": "evil.example"}, 421, id="another Host"),
        pytest.param({"Upgrade": "websocket"}, 403, id="upgrade"),
        pytest.param({"Trailer": "X"}, 400, id="trailer"),
        pytest.param({"Connection": "Mcp-Name"}, 400, id="hop-by-hop listing"),
    ],
)
def test_a_head_that_is_not_plain_is_refused(stage, client, headers, status) -> None:
    before = stage.cast.executed()
    assert client.tunnel(stage.token).post(call("get_order"), **headers).status == status
    assert stage.cast.executed() == before


def test_a_body_over_the_limit_is_refused_in_json(stage, client) -> None:
    client.tunnel(stage.token)
    host = urlsplit(stage.cast.shop.url).netloc
    client.send(
        f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {11 * 1024 * 1024}\r\n\r\n".encode()
    )
    reply = client.read()
    assert reply.status == 413
    assert reply.json["error"]["data"]["reason"] == "body-too-large"


def test_an_unknown_host_is_refused_at_connect(stage, client) -> None:
    reply = client.connect(stage.token, "evil.example:443")
    assert reply.status == 403
    assert "not a server of the policy" in reply.reason


@pytest.mark.parametrize("authority", ["127.1:443", "2130706433:443", "localhost:53"])
def test_an_address_in_disguise_is_refused_at_connect(stage, client, authority) -> None:
    assert client.connect(stage.token, authority).status in (400, 403)


def test_connect_without_a_token_is_407_with_a_challenge_and_a_reason(stage, client) -> None:
    reply = client.connect(None)
    assert reply.status == 407
    assert reply.headers["proxy-authenticate"].startswith("Basic")
    assert "token" in reply.reason


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "x" * 20_000], ids=["garbage", "three parts", "too large"])
def test_a_bad_token_is_told_inside_the_tunnel(stage, client, token) -> None:
    before = stage.cast.executed()
    reply = client.connect(token)
    if reply.status == 200:
        reply = client.start_tls().post(call("get_order"))
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json["error"]["code"] == 4010
    else:
        assert reply.status in (401, 407)
    assert stage.cast.executed() == before


def test_bytes_that_are_not_http_do_not_pass(stage, client) -> None:
    client.connect(stage.token)
    client.send(b"\x00\x01\x02\x03\r\n\r\n")
    assert b"HTTP/1.1 200" not in client.rest()


def test_the_clients_token_never_reaches_the_server(stage) -> None:
    token = stage.token
    outcome = stage.cast.pipeline("whoami", gateway=stage.gateway, token=token)
    seen = json.dumps(outcome.result).lower()
    assert token.lower() not in seen
    assert "proxy-authorization" not in seen


def test_an_upstream_that_is_down_is_a_502_in_json_rpc(fresh) -> None:
    fresh.shop.kill()
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        reply = client.tunnel(fresh.token()).post(call("get_order", call_id="mine"))
        assert reply.status == 502
        assert reply.headers["content-type"] == "application/json"
        assert reply.json["id"] == "mine"
        assert reply.json["error"]["code"] == 5020
