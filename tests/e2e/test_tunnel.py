"""A server behind `tunnel: true` is reached and not opened: its own TLS, to its own name, after a verdict."""

import socket
import ssl
import struct

import pytest
from far_end import FarEnd, gateway_with
from raw import RawClient, head, proxy_authorization

from coatcheck.journal.read import records

pytestmark = pytest.mark.e2e

POLICY = """
coatcheck: 1
servers:
  packages: {{url: "https://{allowed}/", addresses: [127.0.0.0/8, "::1/128"], tunnel: true}}
  closed: {{url: "https://{denied}/", addresses: [127.0.0.0/8, "::1/128"], tunnel: true}}
  risky: {{url: "https://{held}/", addresses: [127.0.0.0/8, "::1/128"], tunnel: true}}
  odd: {{url: "https://localhost:5353/mcp", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: odd-reads, who: [group:ci], server: odd, tools: ["get_*"], effect: allow}}
  - {{id: packages, who: [group:ci], server: packages, http: ["CONNECT /"], effect: allow}}
  - {{id: nobody-here, who: [shop-ci], server: closed, http: ["CONNECT /never"], effect: allow}}
  - {{id: asks-first, who: [group:ci], server: risky, http: ["CONNECT /"], effect: approve, reviewers: [desk]}}
"""


@pytest.fixture(scope="module")
def far(cast):
    certificate = cast.authority.server_cert("localhost", "127.0.0.1")
    with FarEnd(certificate) as far:
        yield far


@pytest.fixture(scope="module")
def others(cast):
    with FarEnd() as denied, FarEnd() as held:
        yield denied, held


@pytest.fixture(scope="module")
def gateway(cast, far, others):
    denied, held = others
    policy = POLICY.format(allowed=far.authority, denied=denied.authority, held=held.authority)
    with gateway_with(cast, policy) as gateway:
        yield gateway


@pytest.fixture
def client(gateway, far):
    with RawClient(gateway, authority=far.authority) as client:
        yield client


@pytest.fixture
def token(cast) -> str:
    return cast.token()


def server_tls(cast, name: str = "localhost") -> ssl.SSLContext:
    """A client that trusts the server's own authority and not the gateway's."""
    context = ssl.create_default_context(cafile=str(cast.authority.ca_pem))
    context.check_hostname = name == "localhost"
    return context


def hello(name: str | None) -> bytes:
    """A TLS client's first flight."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def journal(cast) -> list[dict]:
    return list(records(cast.state / "journal"))


def asks(sock: socket.socket) -> bytes:
    sock.sendall(b"GET /simple/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mine\r\n\r\n")
    return sock.recv(65536)


def test_tls_passes_end_to_end_with_the_servers_own_certificate(cast, far, client, token) -> None:
    assert client.connect(token).status == 200
    with server_tls(cast).wrap_socket(client.sock, server_hostname="localhost") as secured:
        assert asks(secured).endswith(b'{"ok":true}')
        issuer = dict(part[0] for part in secured.getpeercert()["issuer"])
    assert issuer["organizationName"] == "coatcheck story"
    assert far.heard[-1].headers["authorization"] == "Bearer mine"
    assert token.encode() not in bytes(far.raw)


def test_the_gateway_journals_the_request_and_its_outcome(cast, gateway, client, token) -> None:
    before = len(journal(cast))
    assert client.connect(token).status == 200
    with server_tls(cast).wrap_socket(client.sock, server_hostname="localhost") as secured:
        asks(secured)
    client.sock.close()
    (request,) = [record for record in journal(cast)[before:] if record["kind"] == "request"]
    assert request["server"] == "packages"
    assert request["caller"]["name"] == "shop-ci"
    assert [call["method"] for call in request["calls"]] == ["CONNECT"]
    assert request["decision"] == {"effect": "allow", "rules": ["packages"]}
    assert request["secrets"] == []

    def outcomes() -> list[dict]:
        return [r for r in journal(cast) if r["kind"] == "outcome" and r["exchange"] == request["exchange"]]

    gateway.wait_for(lambda: bool(outcomes()))
    assert [record["outcome"] for record in outcomes()] == ["answered"]


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 100, 250])
def test_a_hello_that_comes_in_two_pieces_is_not_opened_either(cast, far, client, token, cut) -> None:
    """A hello of two segments is what every client with a large key share sends."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server_tls(cast).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    first = outgoing.read()
    assert client.connect(token).status == 200
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(first[:cut])
    client.sock.settimeout(0.2)
    try:
        assert client.sock.recv(1) != b"", "the gateway closed the connection"
        pytest.fail("the gateway answered half a hello")
    except TimeoutError:
        client.sock.settimeout(10)
    client.send(first[cut:])
    for _ in range(10):
        incoming.write(client.sock.recv(65536))
        try:
            tls.do_handshake()  # verifies that it is the server's own certificate
            break
        except ssl.SSLWantReadError:
            pass
    assert dict(part[0] for part in tls.getpeercert()["issuer"])["organizationName"] == "coatcheck story"


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1", None, "sub.localhost", "localhost.evil.example"])
def test_another_server_name_than_connects_is_closed_and_nothing_is_sent(far, client, token, name) -> None:
    before = far.connections
    assert client.connect(token).status == 200
    client.send(hello(name))
    assert client.is_ended()
    assert far.connections == before


def test_a_tunnel_that_was_closed_is_not_told_as_answered(cast, gateway, client, token) -> None:
    before = len(journal(cast))
    assert client.connect(token).status == 200
    client.send(hello("evil.example"))
    assert client.is_ended()
    (request,) = [record for record in journal(cast)[before:] if record["kind"] == "request"]

    def ends() -> list[dict]:
        return [r for r in journal(cast) if r["kind"] != "request" and r.get("exchange") == request["exchange"]]

    gateway.wait_for(lambda: bool(ends()))
    assert "answered" not in [record.get("outcome") for record in ends()]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="plain HTTP"),
        pytest.param(b"SSH-2.0-x\r\n", id="ssh"),
        pytest.param(b"\x00\x00\x00\x00", id="zeros"),
        pytest.param(b"\x16\x02\x00\x00\x05hello", id="almost TLS"),
        pytest.param(b"\x16\x03\x01\x00\x05hello", id="TLS that is no hello"),
        pytest.param(b"\x17\x03\x03\x00\x05hello", id="TLS application data"),
    ],
)
def test_what_is_not_tls_is_closed_and_nothing_is_sent(far, client, token, data) -> None:
    before = far.connections
    assert client.connect(token).status == 200
    client.send(data)
    assert client.is_ended(3)
    assert far.connections == before


def test_a_server_that_no_rule_allows_is_refused_at_connect(gateway, others, token) -> None:
    denied, _ = others
    with RawClient(gateway, authority=denied.authority) as client:
        reply = client.connect(token)
        assert reply.status == 403, reply
        assert "coatcheck" in reply.reason
        assert client.is_ended()
    assert denied.connections == 0


def test_a_denied_tunnel_carries_nothing_whatever_is_said_in_it(gateway, others, token) -> None:
    denied, _ = others
    with RawClient(gateway, authority=denied.authority) as client:
        client.connect(token)
        client.send(hello("localhost"))
        client.rest() if client.is_ended(1) else None
    assert denied.connections == 0


def test_a_tunnel_cannot_wait_for_a_reviewer(gateway, others, token) -> None:
    _, held = others
    with RawClient(gateway, authority=held.authority) as client:
        reply = client.connect(token)
    assert reply.status == 403
    assert held.connections == 0


@pytest.mark.parametrize(
    ("show", "status"),
    [
        pytest.param(lambda cast: None, 407, id="none"),
        pytest.param(lambda cast: cast.token(lifetime=-60), 401, id="expired"),
        pytest.param(lambda cast: cast.token(audience="https://else.example"), 401, id="another audience"),
        pytest.param(lambda cast: cast.token(repository_id="1"), 403, id="nobody"),
    ],
)
def test_without_a_good_token_there_is_no_tunnel(cast, far, client, show, status) -> None:
    before = far.connections
    assert client.connect(show(cast)).status == status
    assert far.connections == before


def test_such_a_server_is_reached_through_a_tunnel_only(far, client, token) -> None:
    before = far.connections
    client.send(head(f"GET http://{far.authority}/ HTTP/1.1", f"Host: {far.authority}", proxy_authorization(token)))
    assert client.read().status == 403
    assert far.connections == before


def test_a_tunnel_is_for_its_port_alone(cast, client, token) -> None:
    assert client.connect(token, "localhost:1").status == 403


def test_a_server_on_the_port_of_dns_gets_no_bytes_that_were_not_released(gateway, token) -> None:
    """mitmproxy takes whatever goes to port 5353 and is not TLS for DNS, and relays it."""
    query = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\x05leaks\x07example\x00\x00\x01\x00\x01"
    with FarEnd(port=5353) as far, RawClient(gateway, authority=far.authority) as client:
        assert client.connect(token).status == 200
        client.send(struct.pack(">H", len(query)) + query)
        client.is_ended(1)
        assert bytes(far.raw) == b""
        assert far.connections == 0
