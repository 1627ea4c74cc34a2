import asyncio
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network

import pytest
import trustme

from coatcheck.identity.fetch import LOOPBACK, MAX_BODY_BYTES, FetchError, fetch


async def refused(url: str, **options) -> str:
    with pytest.raises(FetchError) as error:
        await fetch(url, options.pop("ca", None), options.pop("addresses", LOOPBACK), **options)
    return str(error.value)


async def test_a_document_on_loopback_is_fetched(publisher):
    publisher.pages["/doc"] = b'{"a":1}'
    assert await fetch(f"{publisher.url}/doc", None, LOOPBACK) == b'{"a":1}'
    assert await fetch(f"{publisher.url}/doc".replace("127.0.0.1", "localhost"), None, LOOPBACK) == b'{"a":1}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(publisher, status):
    publisher.pages |= {"/doc": (status, {"Location": f"{publisher.url}/other"}, b""), "/other": b"{}"}
    assert await refused(f"{publisher.url}/doc") == f"HTTP {status}"
    assert publisher.asked == ["/doc"]


@pytest.mark.parametrize("status", [204, 400, 401, 404, 500, 503])
async def test_only_200_is_an_answer(publisher, status):
    publisher.pages["/doc"] = (status, {}, b"")
    assert await refused(f"{publisher.url}/doc") == f"HTTP {status}"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://idp.acme.dev/jwks", id="http"),
        pytest.param("http://127.0.0.1.evil.example/jwks", id="http to a name that only begins like loopback"),
        pytest.param("http://169.254.169.254/latest/meta-data", id="http to a metadata service"),
        pytest.param("https://169.254.169.254/latest/meta-data", id="https to a metadata service"),
        pytest.param("https://[fe80::1]/jwks", id="link-local of version 6"),
        pytest.param("https://[::ffff:169.254.169.254]/jwks", id="link-local, mapped"),
        pytest.param("https://0.0.0.0/jwks", id="no address"),
        pytest.param("https://224.0.0.1/jwks", id="multicast"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("ftp://127.0.0.1/jwks", id="ftp"),
        pytest.param("data:application/json,{}", id="data"),
        pytest.param("https://user:pass@127.0.0.1/jwks", id="with a password"),
        pytest.param("https://127.0.0.1/jwks#x", id="with a fragment"),
        pytest.param("https:///jwks", id="no host"),
        pytest.param("https://127.0.0.1:99999/jwks", id="no such port"),
        pytest.param("https://[::1/jwks", id="half a bracket"),
        pytest.param("//127.0.0.1/jwks", id="no scheme"),
        pytest.param("", id="empty"),
    ],
)
async def test_a_url_that_must_not_be_fetched_is_refused(url):
    assert await refused(url)


@pytest.mark.parametrize(
    ("url", "listed", "permitted"),
    [
        pytest.param("https://127.0.0.1:1/jwks", "127.0.0.1/32", True, id="loopback, listed"),
        pytest.param("https://127.0.0.1:1/jwks", None, False, id="loopback"),
        pytest.param("https://localhost:1/jwks", None, False, id="loopback by name"),
        pytest.param("https://127.0.0.1:1/jwks", "10.0.0.0/8", False, id="another network listed"),
        pytest.param("https://10.20.0.1/jwks", None, False, id="private"),
        pytest.param("https://192.168.1.1/jwks", None, False, id="private too"),
        pytest.param("https://172.16.0.1/jwks", None, False, id="private as well"),
        pytest.param("https://100.64.0.1/jwks", None, False, id="shared by a carrier"),
        pytest.param("https://[fd00::1]/jwks", None, False, id="unique local"),
        pytest.param("https://[::ffff:10.0.0.1]/jwks", None, False, id="private, mapped"),
        pytest.param("https://[64:ff9b::a00:1]/jwks", None, False, id="private, translated"),
        pytest.param("https://2130706433:1/jwks", None, False, id="loopback as one number"),
        pytest.param("https://0x7f.1:1/jwks", None, False, id="loopback in hexadecimal"),
        pytest.param("https://169.254.169.254/jwks", "10.0.0.0/8", False, id="a metadata service"),
    ],
)
async def test_an_address_that_is_not_public_is_connected_to_only_where_it_is_listed(url, listed, permitted):
    networks = (ip_network(listed),) if listed else ()
    said = await refused(url, addresses=networks, timeout_seconds=1)
    assert ("not public" in said) != permitted


async def test_a_name_with_one_public_and_one_private_address_is_not_connected_to(monkeypatch):
    found = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert "not public" in await refused("https://idp.example/jwks", addresses=())


async def test_names_that_are_looked_up_in_vain_hold_up_nothing_else(monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: end.wait(30) and [])
    fetches = [refused("https://idp.example/jwks", timeout_seconds=0.2) for _ in range(50)]
    assert set(await asyncio.gather(*fetches)) == {"no answer within 0.2 s"}
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "still here") == "still here"
    end.set()


async def test_a_name_that_nobody_knows_is_an_error():
    assert await refused("https://nobody.invalid/jwks")
    assert await refused(f"https://{'x' * 70}.example/jwks")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "", "Connection": "close"}], ids=["announced", "not said"])
async def test_a_body_beyond_the_limit_is_not_read(publisher, headers):
    publisher.pages |= {"/doc": (200, headers, b" " * 10 * MAX_BODY_BYTES), "/small": b" " * (MAX_BODY_BYTES // 2)}
    assert await refused(f"{publisher.url}/doc")
    assert len(await fetch(f"{publisher.url}/small", None, LOOPBACK)) == MAX_BODY_BYTES // 2


async def test_a_compressed_body_is_not_expanded(publisher):
    publisher.pages["/doc"] = (200, {"Content-Encoding": "gzip"}, b"as it is")
    assert await fetch(f"{publisher.url}/doc", None, LOOPBACK) == b"as it is"


async def test_a_slow_server_is_given_up_on(publisher):
    publisher.pages["/doc"] = b"{}"
    publisher.gate.clear()
    began = time.monotonic()
    assert await refused(f"{publisher.url}/doc", timeout_seconds=0.2) == "no answer within 0.2 s"
    assert time.monotonic() - began < 2


async def test_a_body_shorter_than_announced_is_an_error(publisher):
    publisher.pages["/doc"] = (200, {"Content-Length": "100"}, b"{}")
    assert await refused(f"{publisher.url}/doc") == "the connection failed"


async def test_a_slow_server_does_not_hold_the_event_loop(publisher, other_publisher):
    publisher.pages["/doc"] = other_publisher.pages["/doc"] = b"{}"
    publisher.gate.clear()
    slow = asyncio.create_task(fetch(f"{publisher.url}/doc", None, LOOPBACK))
    assert await asyncio.to_thread(publisher.arrived.wait, 5)
    assert await fetch(f"{other_publisher.url}/doc", None, LOOPBACK) == b"{}"
    assert not slow.done()
    publisher.gate.set()
    assert await slow == b"{}"


async def test_a_server_that_is_not_there_is_an_error(publisher):
    publisher.close()
    assert await refused(f"{publisher.url}/doc")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_not_used(publisher, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    publisher.pages["/doc"] = b"{}"
    assert await fetch(f"{publisher.url}/doc", None, LOOPBACK) == b"{}"


@pytest.fixture
def serve_tls():
    """Serves `{}` over TLS with a certificate of `authority` for `name`; gives the port."""
    servers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    def serve(authority: trustme.CA, name: str) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        server = HTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server.server_port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


async def test_a_certificate_is_verified_with_the_given_ca_and_for_the_name(serve_tls, tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    ca, wrong = tmp_path / "ca.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(ca))
    other.cert_pem.write_to_path(str(wrong))
    good, misnamed = serve_tls(authority, "localhost"), serve_tls(authority, "elsewhere.example")
    assert await fetch(f"https://localhost:{good}/", ca, LOOPBACK) == b"{}"
    assert "not trusted" in await refused(f"https://localhost:{good}/", ca=wrong)
    assert "not trusted" in await refused(f"https://localhost:{good}/")
    assert "not trusted" in await refused(f"https://localhost:{misnamed}/", ca=ca)
    assert await refused(f"https://localhost:{good}/", ca=tmp_path / "missing.pem") == "No such file or directory"
