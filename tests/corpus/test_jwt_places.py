"""A request shows one token, spelt one way, in one place; it is looked at for every request."""

import base64
import json
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from ground import Ground, denied
from raw import call, head, proxy_authorization
from tokens import Party, accepted, b64, present, refused, running

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

MALFORMED = "token-malformed"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group (SEC 2 2.4.2)."""


@pytest.fixture(scope="module")
def parties():
    with Party() as plain, Party() as other, Party() as once:
        yield {"plain": plain, "other": other, "once": once}


@pytest.fixture(scope="module")
def ground(place, parties):
    with running(place, parties, once="one_time: true") as ground:
        yield ground


def spellings(token: str) -> dict[str, str]:
    header, payload, signature = token.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = signature[:-1] + last[last.index(signature[-1]) + 1]  # 64 bytes leave four bits over
    return {
        "padded": f"{token}==",
        "padded once": f"{token}=",
        "padded header": f"{header}==.{payload}.{signature}",
        "padded payload": f"{header}.{payload}=.{signature}",
        "stray bits": f"{header}.{payload}.{stray}",
        "plain base64": f"{header}.{payload}.{signature[:-2]}+/",
        "a percent": f"{header}.{payload}%3D.{signature}",
    }


@pytest.mark.attack("JWT-26")
@pytest.mark.parametrize("name", spellings("a.b.AA"))
@pytest.mark.parametrize("seen", [False, True], ids=["fresh", "already seen"])
def test_another_spelling_of_a_good_token_is_refused(ground, parties, name, seen) -> None:
    token = parties["plain"].token()
    if seen:
        accepted(ground, token)
    refused(ground, spellings(token)[name], {MALFORMED, "bad-signature"})
    accepted(ground, token)


@pytest.mark.attack("JWT-26")
def test_every_use_of_a_token_is_recorded_under_one_id(ground, parties) -> None:
    before = len(ground.journal())
    token = parties["plain"].token()
    for kind in ("proxy", "tunnel", "proxy"):
        accepted(ground, token, kind=kind)
    ids = {record["caller"]["token_id"] for record in ground.journal()[before:] if record["kind"] == "request"}
    assert len(ids) == 1


def turned(token: str) -> str:
    """The same token with the other signature that is as good: anybody can make it of the first (SEC 1 4.1.4)."""
    content, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{content}.{b64(raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32))}"


@pytest.mark.attack("JWT-26")
@pytest.mark.parametrize("claims", [{}, {"jti": ...}], ids=["with an id", "without an id"])
def test_a_token_with_its_other_signature_is_the_same_token(ground, parties, claims) -> None:
    before = len(ground.journal())
    token = parties["plain"].token(**claims)
    for shown in (token, turned(token)):
        accepted(ground, shown)
    ids = {record["caller"]["token_id"] for record in ground.journal()[before:] if record["kind"] == "request"}
    assert len(ids) == 1
    once = parties["once"].token(**claims)
    with ground.watch("proxy"):
        assert exchange(ground, once)[0] == 200
        assert exchange(ground, turned(once))[1]["reason"] == "token-replayed"


def exchange(ground: Ground, token: str) -> tuple[int, dict]:
    """What the control port's `/token` says to a subject token."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    connection = HTTPConnection("127.0.0.1", ground.gateway.control_port, timeout=60)
    connection.request("POST", "/token", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


@pytest.mark.attack("JWT-25")
def test_a_token_that_counts_once_counts_once_whatever_else_it_says(ground, parties) -> None:
    once = parties["once"]
    token, twin = once.token(jti="the-one"), once.token(jti="the-one", extra=1)
    status, answer = exchange(ground, token)
    assert status == 200
    accepted(ground, answer["access_token"])
    for again in (token, twin):
        assert exchange(ground, again)[1]["reason"] == "token-replayed"
    assert exchange(ground, f"{token}==")[1]["reason"] == MALFORMED
    assert exchange(ground, once.token(jti="another"))[0] == 200
    assert exchange(ground, parties["plain"].token(jti="the-one"))[0] == 200, "an id is its issuer's"


@pytest.mark.attack("JWT-25")
@pytest.mark.parametrize("kind", ["proxy", "tunnel"])
def test_a_token_that_counts_once_does_not_open_connections(ground, parties, kind) -> None:
    accepted(ground, parties["plain"].token(), kind=kind)
    refused(ground, parties["once"].token(), "token-one-time", kind=kind)


SHAPES = {
    "five parts": lambda token: f"{token}.AAAA.AAAA",
    "four parts": lambda token: f"{token}.AAAA",
    "two parts": lambda token: token.rpartition(".")[0],
    "one part": lambda token: token.replace(".", ""),
    "dots": lambda _: "..",
    "an empty payload": lambda token: f"{token.split('.')[0]}..{token.split('.')[2]}",
    "a word": lambda _: "hunter2",
    "a leading blank": lambda token: f" {token}",
    "a line behind": lambda token: f"{token}\n",
    "a NUL behind": lambda token: f"{token}\0",
    "0xff": lambda token: f"{token}\xff",
    "JSON": lambda token: json.dumps(dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))),
    "a payload that is a list": lambda token: f"{token.split('.')[0]}.{b64(b'[]')}.{token.split('.')[2]}",
    "a payload that is UTF-16": lambda token: f"{token.split('.')[0]}.{b64('{}'.encode('utf-16'))}.AAAA",
    "a payload with a mark": lambda token: f"{token.split('.')[0]}.{b64(b'\xef\xbb\xbf{}')}.AAAA",
    "a deep payload": lambda token: f"{token.split('.')[0]}.{b64(b'[' * 5000)}.AAAA",
}


@pytest.mark.attack("JWT-31")
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["proxy", "tunnel"])
def test_what_is_not_three_parts_of_base64url_is_refused(ground, parties, name, kind) -> None:
    token = parties["plain"].token()
    credential = base64.b64encode(b"ci:" + SHAPES[name](token).encode("latin-1")).decode()
    line = f"Proxy-Authorization: Basic {credential}"
    with ground.watch(kind), ground.client() as client:
        if kind == "tunnel":
            connect = client.outcome(head(f"CONNECT {client.authority} HTTP/1.1", f"Host: {client.authority}", line))
            if connect is not None and connect.status == 200:
                denied(client.start_tls().outcome(ground.post()), 401, MALFORMED)
            else:
                denied(connect, (401, 407), {MALFORMED, "two-tokens"})
        else:
            reply = client.outcome(ground.get(ground.rest_url(), line, token=False))
            denied(reply, (401, 407), {MALFORMED, "two-tokens"})
    accepted(ground, token, kind=kind)


@pytest.mark.attack("JWT-31")
@pytest.mark.parametrize("credential", ["", "ci", "ci:", ":", "*", "Y2k6", "Y2k="])
def test_a_password_that_is_no_token_is_refused(ground, credential) -> None:
    line = f"Proxy-Authorization: Basic {credential}".rstrip()
    with ground.watch("proxy"), ground.client() as client:
        reply = client.outcome(ground.get(ground.rest_url(), line, token=False))
        denied(reply, (401, 407), {MALFORMED, "token-missing"})


@pytest.mark.attack("JWT-40")
@pytest.mark.parametrize("kind", ["proxy", "tunnel"])
@pytest.mark.parametrize("size", [100, 3_000, 10_000])
def test_a_large_token_as_the_password_of_a_proxy_is_good(ground, parties, kind, size) -> None:
    accepted(ground, parties["plain"].token(padding="x" * size), kind=kind)
    refused(ground, parties["plain"].token(padding="x" * size, exp=1), "token-expired", kind=kind)


@pytest.mark.attack("JWT-40")
@pytest.mark.parametrize("user", ["", "x", "oidc%3Agithub", "a b", "é"])
def test_the_user_name_before_a_token_does_not_matter(ground, parties, user) -> None:
    credential = base64.b64encode(f"{user}:{parties['plain'].token()}".encode()).decode()
    with ground.watch("proxy", refusals=0, arrive=1), ground.client() as client:
        line = f"Proxy-Authorization: Basic {credential}"
        assert client.outcome(ground.get(ground.rest_url(), line, token=False)).status == 200


@pytest.mark.attack("JWT-40")
@pytest.mark.parametrize("written", ["{}:", "{}", "{}:x-oauth-basic", "ci:x:{}", ":ci:{}", "ci: {}", "ci:{}:"])
def test_a_token_that_is_not_all_of_the_password_is_refused_and_goes_nowhere(ground, parties, written) -> None:
    token = parties["plain"].token()
    line = f"Proxy-Authorization: Basic {base64.b64encode(written.format(token).encode()).decode()}"
    with ground.watch("proxy"), ground.client() as client:
        reply = client.outcome(ground.get(ground.rest_url(), line, token=False))
        denied(reply, 401, MALFORMED)
    assert token.rpartition(".")[2].encode() not in reply.body


@pytest.mark.attack("JWT-40")
def test_a_token_larger_than_any_is_refused(ground, parties) -> None:
    reply = present(ground, parties["plain"].token(padding="x" * 20_000))
    denied(reply, (401, 431), {"token-too-large", "head-too-large"})
    accepted(ground, parties["plain"].token())


def two(first: str, second: str) -> dict[str, list[str]]:
    basic, bearer = proxy_authorization(first), f"Proxy-Authorization: Bearer {second}"
    return {
        "two proxy headers": [basic, proxy_authorization(second)],
        "two schemes": [basic, bearer],
        "two headers": [f"Authorization: Bearer {first}", f"Authorization: Bearer {second}"],
        "two places": [basic, f"Authorization: Bearer {second}"],
        "a list": [f"Authorization: Bearer {first}, Bearer {second}"],
        "a list of tokens": [f"Authorization: Bearer {first}, {second}"],
        "a list for the proxy": [f"Proxy-Authorization: Bearer {first}, Bearer {second}"],
        "a list without blanks": [f"Proxy-Authorization: Bearer {first},{second}"],
    }


@pytest.mark.attack("JWT-41")
@pytest.mark.parametrize("name", two("a", "b"))
def test_two_tokens_are_refused(ground, parties, name) -> None:
    lines = two(parties["plain"].token(), parties["other"].token())[name]
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(), *lines, token=False)), 401, "two-tokens")


@pytest.mark.attack("JWT-41")
@pytest.mark.parametrize("name", ["two proxy headers", "two schemes", "two headers", "a list for the proxy"])
def test_one_token_given_twice_in_one_place_is_refused(ground, parties, name) -> None:
    token = parties["plain"].token()
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(), *two(token, token)[name], token=False)), 401, "two-tokens")


@pytest.mark.attack("JWT-41")
@pytest.mark.parametrize("scheme", ["bEaReR  ", "Bearer\t", "Bearer  "])
@pytest.mark.parametrize("header", ["Authorization", "Proxy-Authorization"])
def test_a_scheme_and_a_token_with_more_than_a_blank_between_are_refused(ground, parties, scheme, header) -> None:
    line = f"{header}: {scheme}{parties['plain'].token()}"
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(), line, token=False)), 401, MALFORMED)


@pytest.mark.attack("JWT-41")
@pytest.mark.parametrize("scheme", ["Basic", "Token", "Negotiate", "Digest", ""])
def test_another_scheme_shows_no_token_to_the_proxy(ground, parties, scheme) -> None:
    line = f"Proxy-Authorization: {scheme} {parties['plain'].token()}"
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url(), line, token=False)), 401, MALFORMED)


@pytest.mark.attack("JWT-41")
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_a_schemes_letters_may_be_of_either_case(ground, parties, scheme) -> None:
    line = f"Authorization: {scheme} {parties['plain'].token()}"
    with ground.watch("proxy", refusals=0, arrive=1) as watch, ground.client() as client:
        assert client.outcome(ground.get(ground.rest_url(), line, token=False)).status == 200
    assert all(b"authorization" not in heard.raw.lower() for heard in watch.arrived())


@pytest.mark.attack("JWT-44")
def test_a_request_with_a_token_of_its_own_is_that_tokens_whoever_opened_the_tunnel(ground, parties) -> None:
    before = len(ground.journal())
    with ground.client() as client:
        assert client.connect(parties["plain"].token()).status == 200
        client.start_tls()
        for party in ("other", None, "plain", "other"):
            more = [f"Authorization: Bearer {parties[party].token()}"] if party else []
            assert client.outcome(ground.post(more=more)).status == 200
    requests = [record for record in ground.journal()[before:] if record["kind"] == "request"]
    assert [record["caller"]["name"] for record in requests] == ["other", "plain", "plain", "other"]
    openers = [record["opened_by"] and record["opened_by"]["name"] for record in requests]
    assert openers == ["plain", None, None, "plain"]


@pytest.mark.attack("JWT-44")
def test_a_bad_token_in_a_good_tunnel_is_not_overlooked(ground, parties) -> None:
    with ground.watch("tunnel"), ground.client() as client:
        assert client.connect(parties["plain"].token()).status == 200
        line = f"Authorization: Bearer {parties['other'].token(exp=1)}"
        denied(client.start_tls().outcome(ground.post(more=[line])), 401, "token-expired")


@pytest.mark.attack("JWT-44")
def test_a_good_token_in_a_tunnel_that_a_bad_one_opened_counts_for_its_own_request_only(ground, parties) -> None:
    with ground.watch("tunnel", arrive=1), ground.client() as client:
        assert client.connect(parties["plain"].token(exp=1)).status == 200
        client.start_tls()
        line = f"Authorization: Bearer {parties['other'].token()}"
        assert client.outcome(ground.post(more=[line])).status == 200
        denied(client.outcome(ground.post()), 401, "token-expired")


ASTRAY = {
    "a header of its own": "X-Token: {}",
    "a cookie": "Cookie: a=b; token={}",
    "another scheme": "Authorization: Token {}",
    "credentials for the server": "Authorization: Basic {basic}",
}


@pytest.mark.parametrize("name", ASTRAY)
@pytest.mark.parametrize("kind", ["tunnel", "proxy"])
def test_a_token_that_stands_anywhere_else_is_not_taken_to_the_server(ground, parties, name, kind) -> None:
    def answered(astray: str):
        line = ASTRAY[name].format(astray, basic=base64.b64encode(f"ci:{astray}".encode()).decode())
        with ground.client() as client:
            if kind == "tunnel":
                return client.tunnel(token).outcome(ground.post(more=[line]))
            return client.outcome(ground.get(ground.rest_url(), proxy_authorization(token), line, token=False))

    token = parties["plain"].token()
    with ground.watch(kind) as watch:
        denied(answered(token), 401, "token-astray")
    assert watch.refused_for() == ["token-astray"]
    assert answered(parties["plain"].token(aud="https://else.example")).status == 200


def test_a_token_in_a_query_is_not_taken_to_the_server(ground, parties) -> None:
    token = parties["plain"].token()
    with ground.watch("proxy"), ground.client() as client:
        url = ground.rest_url(f"/repos/acme?access_token={token}")
        denied(client.outcome(ground.get(url, proxy_authorization(token), token=False)), 401, "token-astray")
    accepted(ground, token)


BODIES = {
    "as it is": lambda token: token,
    "in a sentence": lambda token: f"use {token}, please",
    "its signature": lambda token: token.rpartition(".")[2],
    "base64": lambda token: base64.b64encode(token.encode()).decode(),
    "basic credentials": lambda token: "Basic " + base64.b64encode(f"ci:{token}".encode()).decode(),
    "base64 in lines": lambda token: base64.encodebytes(token.encode()).decode(),
    "percent-encoded": lambda token: "".join(f"%{ord(c):02x}" for c in token),
    "hex": lambda token: token.encode().hex(),
    "in JSON in JSON": lambda token: json.dumps({"token": "".join(f"\\u{ord(c):04x}" for c in token)}),
}
SIZES = {"small": 0, "large": 40_000}


def body_of(text: str, size: int, *, escaped: bool = False) -> bytes:
    body = call("get_order", {"order_id": "A", "note": text, "more": "x" * size})
    if not escaped:
        return body
    return body.replace(text.encode(), "".join(f"\\u{ord(c):04x}" for c in text).encode())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*BODIES, "escaped in JSON"])
def test_the_callers_token_in_a_body_is_not_taken_to_the_server(ground, parties, name, size) -> None:
    def answered(astray: str):
        body = body_of(BODIES.get(name, str)(astray), SIZES[size], escaped=name not in BODIES)
        with ground.client() as client:
            return client.tunnel(token).outcome(ground.post(body))

    token = parties["plain"].token()
    with ground.watch() as watch:
        reply = answered(token)
        denied(reply, 401, "token-astray")
    assert json.loads(reply.body)["id"] == (1 if size == "small" else None)
    assert watch.refused_for() == ["token-astray"]
    kept = b"".join(path.read_bytes() for path in ground.state.rglob("*") if path.is_file())
    assert token.rpartition(".")[2].encode() not in kept
    assert answered(parties["plain"].token()).status == 200, "another token is an argument like any other"


def test_neither_the_tunnels_token_nor_the_requests_own_is_taken_along_in_a_body(ground, parties) -> None:
    outer, inner = parties["plain"].token(), parties["other"].token()
    line = f"Authorization: Bearer {inner}"
    for token in (outer, inner):
        with ground.watch(), ground.client() as client:
            assert client.connect(outer).status == 200
            denied(client.start_tls().outcome(ground.post(body_of(token, 0), more=[line])), 401, "token-astray")


@pytest.mark.parametrize("form", ["as it is", "percent-encoded", "hex", "base64"])
@pytest.mark.parametrize("where", ["body", "path", "header"])
def test_a_plain_api_is_not_brought_the_callers_token(ground, parties, form, where) -> None:
    def answered(astray: str):
        written = BODIES[form](astray)
        path = f"/repos/acme?note={written}" if where == "path" else "/repos/acme"
        lines = [f"X-Note: {written}"] if where == "header" else []
        body = f"note={written}".encode() if where == "body" else b""
        lines += [f"Content-Length: {len(body)}"] if body else []
        target = ground.get(ground.rest_url(path), proxy_authorization(token), *lines, token=False)
        with ground.client() as client:
            return client.outcome(target + body)

    token = parties["plain"].token()
    with ground.watch("proxy"):
        denied(answered(token), 401, "token-astray")
    assert answered(parties["plain"].token(aud="https://else.example")).status == 200
