"""A gateway URL: clients that cannot use a proxy reach one server with their token, and nothing else."""

import json
import re
import socket
import subprocess
from contextlib import suppress
from random import Random

import httpx2
import pytest
from far_end import FarEnd, gateway_with, json_answer
from mcp import Client, MCPError
from mcp.client.auth import OAuthFlowError, TokenStorage
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from raw import RawClient, Reply, call, head, proxy_authorization

from story.part import clean_environment, free_port
from story.processes import BIN

pytestmark = pytest.mark.e2e


class Url:
    """A gateway URL of the shop."""

    def __init__(self, gateway, port: int) -> None:
        self.gateway, self.port = gateway, port
        self.url = f"http://127.0.0.1:{port}/mcp"

    def send(self, *lines: str, body: bytes | None = None, first: str = "POST /mcp HTTP/1.1") -> Reply | None:
        body = call("get_order", {"order_id": "A-1"}) if body is None else body
        lines = ("Content-Type: application/json", "Accept: application/json, text/event-stream", *lines)
        client = RawClient(type("Port", (), {"port": self.port})())
        with client:
            return client.outcome(
                head(first, f"Host: 127.0.0.1:{self.port}", *lines, f"Content-Length: {len(body)}") + body
            )


@pytest.fixture(scope="module")
def url(cast):
    port = free_port()
    with cast.gateway("run", more=("--reverse", f"shop=127.0.0.1:{port}")) as gateway:
        yield Url(gateway, port)


def official(url: str, token: str) -> Client:
    """The official client, without any proxy, its token in `Authorization`."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20)
    return Client(streamable_http_client(url, http_client=http))


async def test_the_official_client_works_with_its_token_and_no_proxy(cast, url) -> None:
    before = len(cast.executed())
    async with official(url.url, cast.token()) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("get_order", {"order_id": "A-7"})
    assert "get_order" in tools
    assert "delete_order" not in tools
    assert "A-7" in result.model_dump_json()
    (executed,) = cast.executed()[before:]
    assert executed["authorization_ok"] is True


async def test_a_denied_call_is_told_to_it(cast, url) -> None:
    before = cast.executed()
    async with official(url.url, cast.token()) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("delete_order", {"order_id": "A-7"})
    assert caught.value.error.code == 4030
    assert cast.executed() == before


async def test_the_token_never_reaches_the_server_and_the_credential_never_the_client(cast, url) -> None:
    token = cast.token()
    async with official(url.url, token) as client:
        seen = (await client.call_tool("whoami", {})).model_dump_json()
    assert token not in seen
    assert token.rpartition(".")[2] not in seen
    assert cast.credential not in seen
    assert "authorization" in seen.lower()
    assert f"127.0.0.1:{url.port}" not in seen


def test_the_token_reaches_no_byte_of_the_server(fresh) -> None:
    port, token = free_port(), fresh.token()
    with FarEnd(fresh.authority.server_cert("localhost", "127.0.0.1"), lambda _h: [json_answer()]) as far:
        policy = f"""
coatcheck: 1
servers:
  far: {{url: "https://{far.authority}/", ca: "{fresh.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: far-reads, who: [group:ci], server: far, http: ["GET /**", "POST /mcp"], effect: allow}}
"""
        more = ("--set", f"coatcheck_reverse=far=127.0.0.1:{port}")
        with gateway_with(fresh, policy, more=more) as gateway:
            one = Url(gateway, port)
            for lines in (
                [f"Authorization: Bearer {token}"],
                [proxy_authorization(token)],
                [f"Authorization: Bearer {token}", proxy_authorization(token)],
                [f"Authorization: bearer {token}", "Cookie: a=b"],
            ):
                assert one.send(*lines).status == 200
    assert len(far.heard) == 4
    assert token.encode() not in bytes(far.raw)
    assert token.rpartition(".")[2].encode() not in bytes(far.raw)
    assert {heard.headers["host"] for heard in far.heard} == {far.authority}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param(lambda cast: [], "token-missing", id="none"),
        pytest.param(lambda cast: ["Authorization: Bearer garbage"], "token-missing", id="not one of ours"),
        pytest.param(lambda cast: ["Authorization: Basic Y2k6eA=="], "token-missing", id="basic"),
        pytest.param(lambda cast: [f"Authorization: Bearer {cast.token(lifetime=-60)}"], "token-expired", id="expired"),
        pytest.param(
            lambda cast: [f"Authorization: Bearer {cast.token(audience='https://x.example')}"],
            "wrong-audience",
            id="another audience",
        ),
    ],
)
def test_without_a_good_token_it_is_401_with_a_challenge(cast, url, lines, reason) -> None:
    before = cast.executed()
    reply = url.send(*lines(cast))
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Bearer ")
    assert "proxy-authenticate" not in reply.headers
    assert reply.reason_code == reason
    assert cast.executed() == before


# -- where tokens come from (RFC 9728) --------------------------------------------------------------------------------


def probe(url, path: str, *lines: str, method: str = "GET", host: str | None = None) -> Reply:
    with RawClient(type("Port", (), {"port": url.port})()) as client:
        client.send(head(f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{url.port}'}", *lines))
        return client.read()


def test_the_challenge_leads_to_metadata_of_the_url_that_was_dialled(cast, url) -> None:
    challenge = url.send().headers["www-authenticate"]
    found = re.search(r'resource_metadata="http://127\.0\.0\.1:(\d+)(/[^"]*)"', challenge)
    assert found, challenge
    assert (int(found[1]), found[2]) == (url.port, "/.well-known/oauth-protected-resource/mcp")
    assert "error=" not in challenge
    reply = probe(url, found[2])
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "resource": url.url,
        "authorization_servers": [cast.issuer.url],
        "bearer_methods_supported": ["header"],
    }
    assert (
        'error="invalid_token"'
        in url.send("Authorization: Bearer " + cast.token(lifetime=-60)).headers["www-authenticate"]
    )


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "localhost", "127.0.0.1:80"])
def test_the_resource_is_told_by_the_name_that_was_dialled(cast, url, host) -> None:
    host = host.format(port=url.port)
    origin = "http://" + host.lower().removesuffix(":80")
    for path in ("", "/mcp"):
        assert probe(url, f"/.well-known/oauth-protected-resource{path}", host=host).json["resource"] == f"{origin}/mcp"
    reply = probe(url, "/mcp", host=host)
    assert f'resource_metadata="{origin}/.well-known/oauth-protected-resource/mcp"' in reply.headers["www-authenticate"]


def test_over_tls_the_resource_is_told_as_https(cast, url) -> None:
    path = "/.well-known/oauth-protected-resource/mcp"
    with RawClient(type("Port", (), {"port": url.port, "ca_pem": url.gateway.ca_pem})()) as client:
        client.start_tls()
        client.send(head(f"GET {path} HTTP/1.1", f"Host: localhost:{url.port}"))
        assert client.read().json["resource"] == f"https://localhost:{url.port}/mcp"
        client.send(head("GET /mcp HTTP/1.1", f"Host: localhost:{url.port}"))
        assert f'"https://localhost:{url.port}{path}"' in client.read().headers["www-authenticate"]


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-protected-resource/other",
        "/.well-known/oauth-protected-resource/mcp/../admin",
        "/.well-known/oauth-protected-resourcex",
        "/.well-known/",
    ],
)
def test_other_probes_find_nothing_and_reach_nothing(cast, url, path) -> None:
    """Clients probe these without a token: a 401 would make them ask for one, a 403 give up."""
    before = cast.executed()
    assert probe(url, path).status in (400, 404)
    assert "www-authenticate" not in probe(url, path).headers
    assert cast.executed() == before


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_metadata_is_read_and_nothing_else(url, method) -> None:
    reply = probe(url, "/.well-known/oauth-protected-resource/mcp", "Content-Length: 0", method=method)
    assert reply.status in (404, 405)


def test_a_host_that_is_no_name_gets_no_metadata(url) -> None:
    assert probe(url, "/.well-known/oauth-protected-resource/mcp", host='a"b').status == 400
    assert "resource_metadata" not in probe(url, "/mcp", host='a"b').headers.get("www-authenticate", "")


def test_at_the_proxy_it_would_speak_for_the_server_and_says_nothing(cast, url) -> None:
    with RawClient(url.gateway, cast) as client:
        client.tunnel(cast.token())
        client.send(head("GET /.well-known/oauth-protected-resource/mcp HTTP/1.1", f"Host: {client.authority}"))
        assert client.read().status == 404


async def test_the_official_client_finds_its_way_to_the_issuer(cast, url) -> None:
    """Its own OAuth provider reads the challenge and the metadata, and takes the resource for the one it dialled."""
    asked: list[str] = []

    class Storage(TokenStorage):
        async def get_tokens(self):
            return None

        async def set_tokens(self, tokens) -> None:
            """None come."""

        async def get_client_info(self):
            return None

        async def set_client_info(self, client_info) -> None:
            """None come."""

    async def note(request: httpx2.Request) -> None:
        asked.append(str(request.url))

    provider = ClientCredentialsOAuthProvider(url.url, Storage(), client_id="ci", client_secret="x")
    async with httpx2.AsyncClient(auth=provider, trust_env=False, event_hooks={"request": [note]}) as client:
        with pytest.raises((OAuthFlowError, httpx2.HTTPError)):
            await client.post(url.url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert str(provider.context.protected_resource_metadata.resource) == url.url
    assert str(provider.context.protected_resource_metadata.authorization_servers[0]).rstrip("/") == cast.issuer.url


def test_with_one_it_is_served(cast, url) -> None:
    """The control of the ones above."""
    assert url.send(f"Authorization: Bearer {cast.token()}").status in (200, 400)  # the shop decides about a session


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("GET http://evil.example/ HTTP/1.1", id="a URL"),
        pytest.param("CONNECT evil.example:443 HTTP/1.1", id="CONNECT"),
        pytest.param("POST //mcp HTTP/1.1", id="a doubled slash"),
        pytest.param("POST /mcp/../admin HTTP/1.1", id="a traversal"),
        pytest.param("POST /elsewhere HTTP/1.1", id="another path"),
    ],
)
def test_it_leads_to_its_server_and_nowhere_else(cast, url, first) -> None:
    before = cast.executed()
    reply = url.send(f"Authorization: Bearer {cast.token()}", first=first)
    assert reply is None or 400 <= reply.status < 500
    assert cast.executed() == before


def test_a_host_header_does_not_choose_the_server(cast, url) -> None:
    body = call("get_order", {"order_id": "A-1"})
    with RawClient(type("Port", (), {"port": url.port})()) as client:
        reply = client.outcome(
            head(
                "POST /mcp HTTP/1.1",
                "Host: evil.example",
                "Content-Type: application/json",
                "Accept: application/json, text/event-stream",
                f"Authorization: Bearer {cast.token()}",
                f"Content-Length: {len(body)}",
            )
            + body
        )
    assert reply.status in (200, 400, 421)
    assert "evil.example" not in reply.body.decode()


def test_the_proxy_port_works_beside_it(cast, url) -> None:
    outcome = cast.pipeline("call", "get_order", '{"order_id": "A-8"}', gateway=url.gateway, token=cast.token())
    assert outcome.error is None
    assert "A-8" in json.dumps(outcome.result)


@pytest.mark.parametrize(
    ("reverse", "words"),
    [
        pytest.param("nobody=127.0.0.1:1", "no server 'nobody' in the policy", id="an unknown server"),
        pytest.param("shop", "is not NAME=HOST:PORT", id="no address"),
    ],
)
def test_a_bad_gateway_url_refuses_to_start(fresh, reverse, words) -> None:
    gateway = fresh.gateway("run", more=("--reverse", reverse))
    assert str(BIN) in gateway.command[0]
    done = subprocess.run(
        gateway.command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# -- bytes that no client sends ----------------------------------------------------------------------------------------

PIECES = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b",", b'"', b"{", b"}", b"\xff", b"Host: evil.example\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"\\u0067", b"get_order"]  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """The bytes with one to three places cut, doubled, or with something put in."""
    for _ in range(random.randint(1, 3)):
        at, size = random.randrange(len(data)), random.randint(0, 6)
        middle = random.choice([b"", data[at : at + size] * 2, random.choice(PIECES), random.randbytes(1)])
        data = data[:at] + middle + data[at + size :]
    return data


@pytest.mark.parametrize("seed", range(4))
def test_however_a_denied_call_is_damaged_it_is_never_executed(cast, url, seed) -> None:
    random, token = Random(seed), cast.token()  # noqa: S311 - damage, not a key

    def written(tool: str) -> bytes:
        body = call(tool, {"order_id": "A-1"})
        lines = (f"Host: 127.0.0.1:{url.port}", f"Authorization: Bearer {token}", "Content-Type: application/json",
                 "Accept: application/json, text/event-stream", f"Content-Length: {len(body)}")  # fmt: skip
        return head("POST /mcp HTTP/1.1", *lines) + body

    def deleted() -> list[dict]:
        return [executed for executed in cast.executed() if executed["tool"] != "get_order"]

    before, answers = deleted(), b""
    for _ in range(60):
        with RawClient(type("Port", (), {"port": url.port})()) as client:
            client.send(mutated(random, written("delete_order")))
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_WR)
            answers += client.rest()
    assert deleted() == before
    assert b"policy-denied" in answers  # some were understood all the same
    assert b"HTTP/1.1 400" in answers
    with RawClient(type("Port", (), {"port": url.port})()) as client:
        client.send(written("get_order"))
        assert client.read().status in (200, 400)  # the shop decides about a session; the gateway passed it
