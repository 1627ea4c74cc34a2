"""The target is what the client connected to, in one spelling; whatever says otherwise is refused."""

import socket
from contextlib import suppress

import pytest
from ground import denied, wait_until
from OpenSSL import SSL
from raw import call, head, proxy_authorization

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]


@pytest.mark.attack("HTTP-10")
def test_a_tunnel_to_another_server_cannot_borrow_the_host_of_one_with_a_credential(ground) -> None:
    with ground.watch(), ground.tunnel(ground.other) as client:
        reply = client.outcome(ground.post(server=ground.api))
        denied(reply, 421, "misdirected")
        assert ground.credential.encode() not in reply.body


@pytest.mark.attack("HTTP-10")
@pytest.mark.parametrize("authority", ["evil.example:443", "evil.example:80", "localhost.evil.example:443"])
def test_a_tunnel_to_an_unknown_host_is_not_opened(ground, authority) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), authority), 403, "unknown-host")


@pytest.mark.attack("HTTP-10")
def test_the_other_server_is_reached_by_its_own_name_without_the_credential(ground) -> None:
    before = ground.other.mark()
    with ground.watch(refusals=0, arrive=1), ground.tunnel(ground.other) as client:
        assert client.outcome(ground.post(server=ground.other)).status == 200
        (heard,) = ground.other.requests_since(before)
        assert "authorization" not in heard.headers


OTHER_HOSTS = ["evil.example", "evil.example:443", "localhost.evil.example", "evil.localhost", "127.0.0.1", "localhost"]


@pytest.mark.attack("HTTP-11")
@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_host_header_that_is_not_the_host_connected_to_is_misdirected(ground, host) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=[f"Host: {host}"], without=["Host"])), 421, "misdirected")


@pytest.mark.attack("HTTP-11")
@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1"])
def test_a_whole_url_and_a_host_header_must_agree(ground, host) -> None:
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(), host=host)), 421, "misdirected")


@pytest.mark.attack("HTTP-13")
@pytest.mark.parametrize("authority", ["203.0.113.7:443", "[2001:db8::7]:443", "127.0.0.1:{port}", "[::1]:{port}"])
def test_an_address_is_refused_at_connect_unless_it_is_declared(ground, authority) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), authority.format(port=ground.api.port)), (403, 421))


@pytest.mark.attack("HTTP-13")
@pytest.mark.parametrize("name", ["evil.example", "xn--bcher-kva.example", "localhostx", "localhost.example"])
def test_another_tls_name_than_the_host_connected_to_is_misdirected(ground, name) -> None:
    with ground.watch(), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        client.start_tls(name)
        denied(client.outcome(ground.post()), 421)


CONNECT_HOSTS = {
    "another": ("evil.example", 421),
    "another at the port": ("evil.example:{port}", 421),
    "another port": ("localhost:1", 421),
    "the address": ("127.0.0.1:{port}", 421),
    "none in it": ("", 400),
    "a list": ("localhost:{port}, evil.example", 400),
}


@pytest.mark.attack("HTTP-11")
@pytest.mark.parametrize(("host", "status"), CONNECT_HOSTS.values(), ids=CONNECT_HOSTS)
def test_connect_with_the_host_header_of_another_opens_nothing(ground, host, status) -> None:
    with ground.watch(), ground.client() as client:
        denied(connect_as(ground, client, f"Host: {host.format(port=ground.api.port)}"), status)


@pytest.mark.attack("HTTP-11")
@pytest.mark.parametrize(
    "lines", [["Host: localhost"], ["Host: LOCALHOST.:{port}"], []], ids=["no port", "dot", "none"]
)
def test_connect_with_its_own_host_header_or_none_opens_a_tunnel(ground, lines) -> None:
    with ground.watch(refusals=0, arrive=1), ground.client() as client:
        assert connect_as(ground, client, *[line.format(port=ground.api.port) for line in lines]).status == 200
        assert client.start_tls().outcome(ground.post()).status == 200


def connect_as(ground, client, *lines: str):
    client.send(head(f"CONNECT {ground.api.authority} HTTP/1.1", *lines, proxy_authorization(ground.token())))
    return client.read(is_connect=True)


UNREADABLE = [b"localho..", b"local ost", b"localhos\xff", b"*ocalhost", b"localhos/", b"xn--a-ab."]


@pytest.mark.attack("HTTP-13", "HTTP-14")
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_tls_name_that_cannot_be_read_is_not_taken_for_none(ground, name) -> None:
    with ground.watch(), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        denied(within_tls(ground, client, name, ground.post()), 421, "misdirected")


@pytest.mark.attack("HTTP-14")
def test_the_same_hello_with_the_right_name_arrives(ground) -> None:
    with ground.watch(refusals=0, arrive=1), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        assert within_tls(ground, client, b"localhost", ground.post()).status == 200


def within_tls(ground, client, name: bytes, message: bytes):
    """What `message` is answered within TLS with these bytes for a server name: OpenSSL itself takes any."""
    tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    tls.set_tlsext_host_name(name)
    tls.set_connect_state()
    client.sock = Within(client.sock, tls)
    return client.outcome(message)


class Within:
    """A socket within pyOpenSSL's TLS: as much of one as a `RawClient` needs."""

    def __init__(self, sock: socket.socket, tls: SSL.Connection) -> None:
        self._sock, self._tls = sock, tls

    def sendall(self, data: bytes) -> None:
        self._until_done(lambda: self._tls.sendall(data))

    def recv(self, size: int) -> bytes:
        return self._until_done(lambda: self._tls.recv(size))

    def close(self) -> None:
        self._sock.close()

    def _until_done(self, step):
        while True:
            try:
                done = step()
            except SSL.WantReadError:
                self._flush()
                data = self._sock.recv(65536)
                if not data:
                    raise EOFError("the gateway closed the connection") from None
                self._tls.bio_write(data)
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self._sock.sendall(self._tls.bio_read(65536))


@pytest.mark.attack("HTTP-14")
def test_without_a_tls_name_the_server_is_verified_as_the_host_connected_to(ground) -> None:
    with ground.watch(refusals=0, arrive=1), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        assert client.start_tls(None).outcome(ground.post()).status == 200
        assert ground.api.peers[-1].server_name == "localhost"


@pytest.mark.attack("HTTP-14")
@pytest.mark.parametrize("name", ["localhost", None], ids=["with a name", "without"])
def test_a_server_with_anothers_certificate_gets_nothing(ground, name) -> None:
    before = ground.stranger.mark()
    with ground.client(ground.stranger) as client:
        assert client.connect(ground.token()).status == 200
        reply = client.start_tls(name).outcome(ground.post(server=ground.stranger))
        denied(reply, 502, "server-failed")
        assert reply.json["id"] == 1
    assert ground.stranger.bytes_since(before) == 0
    ground.is_well()


ABSOLUTE = [
    "http://evil.example/mcp",
    "https://evil.example/mcp",
    "https://{api}/mcp",
    "http://{api}/mcp",
    "//{api}/mcp",
]


@pytest.mark.attack("HTTP-16")
@pytest.mark.parametrize("target", ABSOLUTE)
@pytest.mark.parametrize("with_tls", [False, True], ids=["bare", "in TLS"])
def test_a_whole_url_inside_a_tunnel_is_refused(ground, target, with_tls) -> None:
    with ground.watch(), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        if with_tls:
            client.start_tls()
        target = target.format(api=ground.api.authority)
        denied(client.outcome(ground.post(first=f"POST {target} HTTP/1.1")), (400, 403, 421))


@pytest.mark.attack("HTTP-19")
@pytest.mark.parametrize(
    "target", ["/mcp", "/", "*", "localhost:{rest}", "localhost/repos/acme", "//localhost:{rest}/repos/a"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_the_proxy_port_takes_whole_urls_only(ground, method, target) -> None:
    with ground.watch("proxy"), ground.client() as client:
        message = head(
            f"{method} {target.format(rest=ground.rest.port)} HTTP/1.1",
            f"Host: {ground.rest.authority}",
            "Content-Length: 0",
            proxy_authorization(ground.token()),
        )
        denied(client.outcome(message), 400, "bad-request-target")


@pytest.mark.attack("HTTP-19")
@pytest.mark.parametrize("scheme", ["ftp", "ws", "file", "gopher", "HTTPX"])
def test_the_proxy_port_takes_http_only(ground, scheme) -> None:
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(f"{scheme}://{ground.rest.authority}/repos/acme")), 400)


@pytest.mark.attack("HTTP-43")
def test_pipelined_whole_urls_are_policed_one_by_one(ground) -> None:
    with ground.watch("proxy", arrive=2), ground.client() as client:
        client.send(
            ground.get(ground.rest_url("/repos/a"))
            + ground.get("http://evil.example/repos/b", host="evil.example")
            + ground.get(ground.rest_url("/repos/c"))
        )
        assert client.read().status == 200
        denied(client.read(), 403, "unknown-host")
        assert client.read().status == 200


@pytest.mark.attack("HTTP-43")
@pytest.mark.parametrize("bad", ["another host", "a denied call", "no token but the tunnel's"])
def test_pipelined_requests_in_a_tunnel_are_policed_one_by_one(ground, bad) -> None:
    second = {
        "another host": (ground.post(without=["Host"], more=["Host: evil.example"]), (421,)),
        "a denied call": (ground.post(call("delete_order")), (200,)),
        "no token but the tunnel's": (ground.post(more=["Proxy-Authorization: Bearer a.b.c"]), (401,)),
    }[bad]
    with ground.watch(arrive=1), ground.tunnel() as client:
        client.send(ground.post() + second[0])
        assert client.read().status == 200
        denied(client.read(), second[1])


BAD_URLS = {
    "userinfo": "http://localhost@evil.example/",
    "userinfo of the good one": "http://evil.example@{rest}/repos/a",
    "a password": "http://a:b@{rest}/repos/a",
    "a backslash": "http://{rest}\\evil.example/repos/a",
    "a backslash at the start": "http:\\\\{rest}/repos/a",
    "a space": "http://{rest}/repos/ a",
    "a tab": "http://{rest}/repos/\ta",
    "a fragment": "http://{rest}/repos/a#b",
    "no host": "http:///repos/a",
    "one slash": "http:/{rest}/repos/a",
    "a control character": "http://{rest}/repos/\x01",
    "a byte that is not ASCII": "http://{rest}/repos/é",
    "no scheme": "://{rest}/repos/a",
}


@pytest.mark.attack("HTTP-44")
@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
def test_a_url_that_two_parsers_read_differently_is_refused(ground, url) -> None:
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(url.format(rest=ground.rest.authority))), 400)


BAD_PATHS = [
    "/repos/../admin",
    "/repos/./a",
    "/repos//a",
    "/repos/%2e%2e/admin",
    "/repos/%2E./a",
    "/repos/a%2fb",
    "/repos/%zz",
    "/repos/%252e%252e/admin",
    "/repos/%25252E%2525%32e/admin",
    "/repos/a%252fb",
    "/repos/a%255C..%255cb",
]


@pytest.mark.attack("HTTP-44")
@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_with_two_spellings_is_refused(ground, path) -> None:
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(path))), (400, 403))


@pytest.mark.attack("HTTP-44")
def test_a_credential_in_a_query_reaches_the_server_and_is_not_kept(ground) -> None:
    secret = "query-s3cret-value"
    with ground.watch("proxy", refusals=0, arrive=1) as watch, ground.client() as client:
        path = f"/repos/kept?page=7&access_token={secret}"
        assert client.outcome(ground.get(ground.rest_url(path))).status == 200
    assert secret in watch.arrived()[0].first
    recordings = ground.state / "sessions"
    assert wait_until(lambda: any(b"page=7" in file.read_bytes() for file in recordings.rglob("*.jsonl")))
    kept = [file.name for file in ground.state.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]
    assert kept == []
