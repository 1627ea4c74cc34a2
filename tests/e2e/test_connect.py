"""How a tunnel is asked for: without a token, with a bad one, and with one that ends while the tunnel is open."""

import pytest
from raw import RawClient, call, head, proxy_authorization

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(stage):
    with RawClient(stage.gateway, stage.cast) as client:
        yield client


def test_a_client_that_waits_for_a_407_may_answer_it_on_the_same_connection(stage, client) -> None:
    """As git and Java do."""
    reply = client.connect(None)
    assert reply.status == 407
    assert reply.headers["proxy-authenticate"] == 'Basic realm="coatcheck"'
    assert reply.reason == "coatcheck: a token is needed: Proxy-Authorization"
    assert reply.headers["connection"] == "keep-alive"
    assert client.tunnel(stage.token).post(call("get_order", {"order_id": "A-1001"})).status == 200


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        pytest.param(lambda cast: "garbage", 401, "token-malformed", id="garbage"),
        pytest.param(lambda cast: cast.token(lifetime=-60), 401, "token-expired", id="expired"),
        pytest.param(lambda cast: cast.token(audience="https://else.example"), 401, "wrong-audience", id="audience"),
        pytest.param(lambda cast: cast.token(repository_id="1"), 403, "unknown-identity", id="nobody"),
    ],
)
def test_a_bad_token_is_told_inside_the_tunnel_with_the_callers_id(stage, client, bad, status, reason) -> None:
    before = stage.cast.executed()
    reply = client.tunnel(bad(stage.cast)).post(call("get_order", call_id="mine"))
    assert (reply.status, reply.reason_code) == (status, reason)
    assert (reply.json["id"], reply.json["error"]["code"]) == ("mine", 4010)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers.get("www-authenticate", "").startswith("Bearer ") == (status == 401)
    assert "resource_metadata" not in reply.headers.get("www-authenticate", "")
    assert stage.cast.executed() == before


def test_a_good_token_inside_a_tunnel_counts_where_the_tunnels_own_was_bad(stage, client) -> None:
    client.tunnel(stage.cast.token(lifetime=-60))
    body = call("get_order", {"order_id": "A-1001"})
    assert client.post(body).status == 401
    with RawClient(stage.gateway, stage.cast) as again:
        again.tunnel(stage.cast.token(lifetime=-60))
        assert again.post(body, Authorization=f"Bearer {stage.token}").status == 200


def test_a_tunnel_whose_token_ends_gets_a_clean_answer_on_its_next_request(stage, client) -> None:
    body = call("get_order", {"order_id": "A-1001"}, call_id="mine")
    client.tunnel(stage.cast.token(lifetime=4))
    assert client.post(body).status == 200

    def is_over() -> bool:
        with RawClient(stage.gateway, stage.cast) as another:
            return another.tunnel(short).post(body).status == 401

    short = stage.cast.token(lifetime=4)  # ends no earlier than the tunnel's
    stage.gateway.wait_for(is_over)
    reply = client.post(body)
    assert (reply.status, reply.reason_code, reply.json["id"]) == (401, "token-expired", "mine")


def test_a_tunnel_may_be_asked_for_in_http_1_0_as_python_3_11_does(stage, client) -> None:
    """Its `http.client`, and with it requests and pip, sends no Host either. What comes inside is HTTP/1.1."""
    client.send(head(f"CONNECT {client.authority} HTTP/1.0", proxy_authorization(stage.token)))
    assert client.read(is_connect=True).status == 200
    assert client.start_tls().post(call("get_order", {"order_id": "A-1001"})).status == 200
    before = stage.cast.executed()
    client.send(head("POST /mcp HTTP/1.0", f"Host: {client.authority}", "Content-Length: 0"))
    assert client.read().status == 505
    assert stage.cast.executed() == before


def test_a_tunnel_asked_for_in_http_1_0_needs_a_token(client) -> None:
    client.send(head(f"CONNECT {client.authority} HTTP/1.0"))
    assert client.read(is_connect=True).status == 407
