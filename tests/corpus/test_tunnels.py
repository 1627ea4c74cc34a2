"""What is not HTTP/1.1 inside a tunnel, or would turn it into something else, does not pass."""

import socket
import ssl

import pytest
from ground import closed, denied
from raw import call, head
from server import saying

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

NOT_HTTP = {
    "binary": b"\0\1\2",
    "long binary": bytes(range(256)) * 20,
    "a banner": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a database": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "a record that is no hello": b"\x16\x03\x01\x00\x05hello" + bytes(50),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/0.9": b"GET /\r\n",
    "line feeds": b"\n\n\n\n",
    "lower case": b"post /mcp\r\n\r\n",
}


@pytest.mark.attack("HTTP-01")
@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
@pytest.mark.parametrize("with_tls", [False, True], ids=["bare", "in TLS"])
def test_bytes_that_are_not_http_end_the_tunnel_and_are_recorded(ground, data, with_tls) -> None:
    with ground.watch(refusals=1), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        if with_tls:
            client.start_tls()
        closed(client, client.outcome(data))


@pytest.mark.attack("HTTP-01")
@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
def test_bytes_that_are_not_http_end_a_connection_to_the_proxy_itself(ground, data) -> None:
    with ground.watch("proxy", refusals=None), ground.client() as client:
        closed(client, client.outcome(data))


BEFORE = {
    "CRLF": b"\r\n",
    "LF": b"\n",
    "two CRLF": b"\r\n\r\n",
    "a space": b" ",
    "NUL": b"\0",
    "a mark": b"\xef\xbb\xbf",
}


@pytest.mark.attack("HTTP-02")
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("with_tls", [False, True], ids=["bare", "in TLS"])
def test_what_stands_before_a_request_does_not_carry_a_denied_one_past_policy(ground, before, with_tls) -> None:
    with ground.watch(refusals=1), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        if with_tls:
            client.start_tls()
        reply = client.outcome(before + ground.post(call("delete_order")))
        assert reply is None or "error" in reply.json


@pytest.mark.attack("HTTP-02")
@pytest.mark.parametrize("cut", [1, 4, 5, 17, 18], ids=lambda cut: f"after {cut} bytes")
def test_a_request_cut_anywhere_is_policed_as_one(ground, cut) -> None:
    with ground.watch(refusals=1, arrive=1), ground.tunnel() as client:
        good, bad = ground.post(), ground.post(call("delete_order"))
        client.send(good[:cut])
        assert client.outcome(good[cut:]).status == 200
        client.send(bad[:cut])
        denied(client.outcome(bad[cut:]), 200, "policy-denied")


@pytest.mark.attack("HTTP-04")
@pytest.mark.parametrize("says", [b"", b"EHLO me\r\n", b"\0\0"], ids=["nothing", "a greeting", "binary"])
def test_a_server_that_speaks_first_is_not_heard(ground, says) -> None:
    with ground.watch(refusals=None), ground.client(ground.loud) as client:
        assert client.connect(ground.token()).status == 200
        if says:
            client.send(says)
        else:
            client.sock.shutdown(socket.SHUT_WR)
        heard = client.rest()
        assert b"220" not in heard
        assert b"ESMTP" not in heard


@pytest.mark.attack("HTTP-04")
def test_a_greeting_is_not_taken_for_the_answer_to_a_request(ground) -> None:
    with ground.client(ground.loud) as client:
        reply = client.outcome(ground.get(f"http://{ground.loud.authority}/x", host=ground.loud.authority))
        denied(reply, 502, "server-failed")
        assert b"ESMTP" not in reply.body
    ground.is_well("proxy")


@pytest.mark.attack("HTTP-05")
@pytest.mark.parametrize("authority", ["localhost:53", "127.0.0.1:53", "localhost:853", "localhost:5353"])
def test_a_port_the_policy_does_not_name_is_refused_at_connect(ground, authority) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), authority), 403, "unknown-host")


UPGRADES = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "h2c without settings": ("Connection: Upgrade", "Upgrade: h2c"),
    "h2c unannounced": ("Upgrade: h2c",),
    "announced alone": ("Connection: upgrade",),
    "TLS": ("Connection: Upgrade", "Upgrade: TLS/1.2"),
    "several": ("Connection: Upgrade", "Upgrade: foo/1, h2c"),
    "in capitals": ("CONNECTION: UPGRADE", "UPGRADE: H2C"),
}


@pytest.mark.attack("HTTP-07")
@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
def test_an_upgrade_is_refused(ground, lines) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=lines)), (400, 403), "upgrade-refused")


@pytest.mark.attack("HTTP-07")
def test_settings_of_http2_do_not_leave(ground) -> None:
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        assert client.outcome(ground.post(more=["HTTP2-Settings: AAMAAABk"])).status == 200
    assert "http2-settings" not in watch.arrived()[0].headers


WEBSOCKET = ("Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


@pytest.mark.attack("HTTP-08")
@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "websocket, h2c"])
def test_a_websocket_is_refused_to_both_kinds_of_server(ground, upgrade) -> None:
    lines = (*WEBSOCKET, f"Upgrade: {upgrade}")
    with ground.watch(refusals=2), ground.tunnel() as client, ground.client() as plain:
        first = head("GET /mcp HTTP/1.1", f"Host: {ground.api.authority}", *lines)
        denied(client.outcome(first), 403, "upgrade-refused")
        denied(plain.outcome(ground.get(ground.rest_url(), *lines)), 403, "upgrade-refused")


@pytest.mark.attack("HTTP-08")
@pytest.mark.parametrize("protocol", ["websocket", "h2c", "foo"])
def test_a_server_that_switches_protocols_unasked_is_not_followed(ground, protocol) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nraw bytes"
    with ground.tunnel() as client, ground.api.answering(saying(switched % protocol.encode())):
        reply = client.outcome(ground.post())
        denied(reply, 502)
        assert b"raw bytes" not in client.rest()
    ground.is_well()


@pytest.mark.attack("HTTP-17")
@pytest.mark.parametrize("with_tls", [False, True], ids=["bare", "in TLS"])
@pytest.mark.parametrize("where", ["evil.example:443", "itself"])
def test_connect_inside_a_tunnel_is_refused(ground, where, with_tls) -> None:
    authority = ground.api.authority if where == "itself" else where
    with ground.watch(), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        if with_tls:
            client.start_tls()
        denied(client.outcome(head(f"CONNECT {authority} HTTP/1.1", f"Host: {authority}")), 400)


@pytest.mark.attack("HTTP-22", "HTTP-23", "HTTP-25")
@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1", "h2"], ["h2"], ["h2c", "h3", "http/1.1"]])
def test_http2_is_never_agreed_on_with_a_client(ground, offered) -> None:
    with ground.client() as client:
        assert client.connect(ground.token()).status == 200
        try:
            client.start_tls(protocols=offered)
        except ssl.SSLError:
            assert "http/1.1" not in offered
        else:
            assert client.sock.selected_alpn_protocol() in ("http/1.1", None)
    ground.is_well()


@pytest.mark.attack("HTTP-22", "HTTP-23", "HTTP-25")
def test_http2_is_never_agreed_on_by_tls_to_the_proxy_port(ground) -> None:
    with ground.client() as client:
        try:
            client.start_tls(protocols=["h2", "http/1.1"])
        except (ssl.SSLError, ConnectionError):
            pass
        else:
            assert client.sock.selected_alpn_protocol() in ("http/1.1", None)
    ground.is_well("proxy")


@pytest.mark.attack("HTTP-25")
def test_http2_is_never_agreed_on_with_a_server(ground) -> None:
    ground.is_well()  # a server that prefers it, and takes it from whoever offers it
    assert ground.api.peers[-1].protocol == "http/1.1"


@pytest.mark.attack("HTTP-25")
@pytest.mark.parametrize("sizes", [(200,), (1, 199), (100, 50, 50)], ids=["one chunk", "two", "three"])
def test_what_leaves_has_the_length_of_its_body(ground, sizes) -> None:
    body = call("get_order", {"order_id": "x" * (200 - len(call("get_order", {"order_id": ""})))})
    assert len(body) == 200
    at, chunks = 0, b""
    for size in sizes:
        chunks += b"%x\r\n%s\r\n" % (size, body[at : at + size])
        at += size
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        message = ground.post(b"", without=["Content-Length"], more=["Transfer-Encoding: chunked"])
        assert client.outcome(message + chunks + b"0\r\n\r\n").status == 200
    assert int(watch.arrived()[0].headers["content-length"]) == len(watch.arrived()[0].body) > 0


@pytest.mark.attack("HTTP-53")
@pytest.mark.parametrize("name", ["bank.example", "127.0.0.1.example", "localhost.example", "LOCALHOST.EXAMPLE"])
def test_a_tunnel_is_opened_whatever_name_its_tls_has(ground, name) -> None:
    with ground.watch(), ground.client() as client:
        assert client.connect(ground.token()).status == 200
        client.start_tls(name)  # verified with the gateway's authority: it was opened
        denied(client.outcome(ground.post()), 421, "misdirected")


@pytest.mark.attack("HTTP-53")
@pytest.mark.parametrize("name", ["bank.example", None], ids=["another name", "no name"])
def test_a_tunnel_that_is_not_opened_ends_for_another_name_than_its_own(ground, name) -> None:
    with ground.client(ground.pipe) as client:
        assert client.connect(ground.token()).status == 200
        before = ground.pipe.mark()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.start_tls(name)
    with ground.client(ground.pipe) as client:
        assert client.connect(ground.token()).status == 200
        client.sock = ssl.create_default_context(cafile=str(ground.ca)).wrap_socket(
            client.sock, server_hostname="localhost"
        )
        client.send(head("GET /x HTTP/1.1", f"Host: {ground.pipe.authority}"))
        assert client.read().status == 200
    assert len(ground.pipe.requests_since(before)) == 1


@pytest.mark.attack("HTTP-68")
@pytest.mark.parametrize("host", ["mitm.it", "MITM.IT", "mitm.it.", "mitm.it:80", "mitmproxy.org"])
def test_mitmproxys_own_pages_are_not_served(ground, host) -> None:
    with ground.watch("proxy", refusals=2), ground.client() as client, ground.client() as tunnel:
        denied(client.outcome(ground.get(f"http://{host}/", host=host)), 403, "unknown-host")
        denied(tunnel.connect(ground.token(), host.partition(":")[0] + ":80"), 403, "unknown-host")
