"""Placeholder to secret: where it happens, and where it is refused."""

import base64
import json
from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import GATEWAY_FAULT, POLICY_DENIED, Refusal
from coatcheck.policy.model import Server
from coatcheck.vault.bindings import Binding
from coatcheck.vault.crypto import Sealed, Sealer
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.places import url_encoded
from coatcheck.vault.plan import Outgoing, SwapPlan, plan_swap
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Row, SecretInfo, Snapshot, sealed_facts
from coatcheck.vault.store import Vault
from coatcheck.vault.swap import apply_swap

VALUE = b'sk-live/51+Hq&8=%25\\"x'
P = b"coat_token"
HEADER = Binding("github")
API_KEY = Binding("github", header="x-api-key")
QUERY = Binding("github", header=None, query="key")
FORM = Binding("github", header=None, form="key")
POINTER = Binding("github", header=None, pointer="/params/arguments/key")

type Stock = Callable[..., Snapshot]
type MakeServer = Callable[..., Server]


@pytest.fixture
def stock(vault: Vault, now: datetime) -> Stock:
    """A snapshot of `token`, bound as said, and of whatever else is named."""

    def make(*bindings: Binding, value: bytes = VALUE, **more: tuple[bytes, Binding]) -> Snapshot:
        vault.set("token", Secret(value), bindings or (HEADER,), now=now)
        for name, (other, binding) in more.items():
            vault.set(name, Secret(other), (binding,), now=now)
        return vault.snapshot()

    return make


def request(*headers: tuple[str, str | bytes], path: bytes = b"/mcp", body: bytes = b"") -> Outgoing:
    raw = tuple((name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers)
    return Outgoing(raw, path, body)


def swapped(outgoing: Outgoing, server: Server, snapshot: Snapshot, caller: str = "ci") -> Outgoing:
    return apply_swap(plan_swap(outgoing, server=server, caller=caller, snapshot=snapshot), outgoing)


def refused(outgoing: Outgoing, server: Server, snapshot: Snapshot, caller: str = "ci") -> Refusal:
    with pytest.raises(Refusal) as caught:
        plan_swap(outgoing, server=server, caller=caller, snapshot=snapshot)
    assert VALUE.decode() not in f"{caught.value}{caught.value.data()}"
    return caught.value


def basic(pair: bytes) -> bytes:
    return b"Basic " + base64.b64encode(pair)


# Headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(P, VALUE, id="alone"),
        pytest.param(b"Bearer " + P, b"Bearer " + VALUE, id="Bearer"),
        pytest.param(b"token " + P, b"token " + VALUE, id="another scheme"),
        pytest.param(b'Token token="' + P + b'"', b'Token token="' + VALUE + b'"', id="a parameter"),
        pytest.param(basic(b"bot:" + P), basic(b"bot:" + VALUE), id="Basic password"),
        pytest.param(basic(P + b":"), basic(VALUE + b":"), id="Basic user"),
        pytest.param(basic(b"bot:" + P).replace(b"Basic", b"bAsIc"), basic(b"bot:" + VALUE).replace(b"Basic", b"bAsIc"),
                     id="any case of Basic"),
        pytest.param(P + b" " + P, VALUE + b" " + VALUE, id="twice"),
        pytest.param(b"{{cred:{{cred:" + P + b"}}}}", b"{{cred:{{cred:" + VALUE + b"}}}}", id="nested"),
    ],
)  # fmt: skip
def test_a_placeholder_in_its_header_becomes_the_secret(
    stock: Stock, server: MakeServer, sent: bytes, expected: bytes
) -> None:
    out = swapped(request(("Authorization", sent), ("Accept", "*/*")), server(), stock())
    assert out == request(("Authorization", expected), ("Accept", "*/*"))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(P.upper(), id="another case"),
        pytest.param(b"coat%5ftoken", id="url-encoded"),
        pytest.param(b"coat_tok en", id="split"),
        pytest.param(b"coat_toke", id="cut"),
        pytest.param(base64.b64encode(P), id="base64 without Basic"),
        pytest.param(b"Basic " + base64.b64encode(b"u:" + P)[:-3], id="broken Basic"),
        pytest.param(b"Basic " + base64.b64encode(base64.b64encode(P)), id="base64 twice"),
    ],
)
def test_what_is_not_exactly_the_placeholder_is_left_alone(stock: Stock, server: MakeServer, sent: bytes) -> None:
    outgoing = request(("Authorization", sent))
    plan = plan_swap(outgoing, server=server(), caller="ci", snapshot=stock())
    assert not plan
    assert apply_swap(plan, outgoing) is outgoing


@pytest.mark.parametrize(
    "outgoing",
    [
        pytest.param(request(("X-Other", P)), id="another header"),
        pytest.param(request(("User-Agent", b"curl " + P)), id="user agent"),
        pytest.param(request(("Mcp-Session-Id", P)), id="Mcp header"),
        pytest.param(request(("Mcp-Name", P)), id="Mcp name"),
        pytest.param(request(("Cookie", b"s=" + P)), id="cookie"),
        pytest.param(request((P.decode(), "x")), id="a header's name"),
        pytest.param(request((P.decode().title(), "x")), id="a header's name in capitals"),
        pytest.param(request(("X-Other", basic(b"u:" + P))), id="Basic in another header"),
        pytest.param(request(path=b"/mcp/" + P), id="path"),
        pytest.param(request(path=b"/mcp?other=" + P), id="query"),
        pytest.param(request(path=b"/mcp?" + P), id="query without a name"),
        pytest.param(request(("Authorization", P), ("X-Other", P)), id="in place and out of it"),
    ],
)
def test_a_placeholder_out_of_place_is_refused(stock: Stock, server: MakeServer, outgoing: Outgoing) -> None:
    snapshot = stock()
    assert swapped(request(("Authorization", P)), server(), snapshot) == request(("Authorization", VALUE))
    refusal = refused(outgoing, server(), snapshot)
    assert (refusal.reason, refusal.status, refusal.code) == ("placeholder-out-of-place", 403, POLICY_DENIED)


def test_a_placeholder_with_capitals_is_no_headers_name_either(vault: Vault, server: MakeServer, now: datetime) -> None:
    vault.set("token", Secret(VALUE), (HEADER,), placeholder="ghp_TOKEN", now=now)
    snapshot = vault.snapshot()
    assert swapped(request(("Authorization", "ghp_TOKEN")), server(), snapshot) == request(("Authorization", VALUE))
    for name in ("ghp_TOKEN", "X-ghp_TOKEN"):
        assert refused(request((name, "x")), server(), snapshot).reason == "placeholder-out-of-place"


def test_a_cookie_that_is_named_is_a_place(stock: Stock, server: MakeServer) -> None:
    snapshot = stock(Binding("github", header="cookie"), value=b"0123456789abcdef")
    out = swapped(request(("Cookie", b"theme=dark; session=" + P)), server(), snapshot)
    assert out == request(("Cookie", "theme=dark; session=0123456789abcdef"))


def test_a_secret_for_another_server_is_refused(stock: Stock, server: MakeServer) -> None:
    snapshot = stock()
    assert swapped(request(("Authorization", P)), server(), snapshot)
    refusal = refused(request(("Authorization", P)), server("evil", "https://evil.test/"), snapshot)
    assert (refusal.reason, refusal.status, refusal.code) == ("secret-not-bound", 403, POLICY_DENIED)


@pytest.mark.parametrize("place", ["header", "query", "form", "pointer", "credential"])
def test_a_secret_for_another_caller_is_refused(stock: Stock, server: MakeServer, place: str) -> None:
    snapshot = stock(
        Binding("github", query="key", form="key", pointer="/key", identities=("deploy",)),
        Binding("github", header="x-unrelated", identities=("ci-2",)),
    )
    outgoing = {
        "header": request(("Authorization", P)),
        "query": request(path=b"/?key=" + P),
        "form": request(("Content-Type", "application/x-www-form-urlencoded"), body=b"key=" + P),
        "pointer": request(("Content-Type", "application/json"), body=b'{"key":"' + P + b'"}'),
        "credential": request(),
    }[place]
    here = server(credential="token" if place == "credential" else None)
    assert plan_swap(outgoing, server=here, caller="deploy", snapshot=snapshot)
    assert refused(outgoing, here, snapshot, caller="ci").reason == "secret-not-bound"
    if place in {"form", "pointer"}:
        assert refused(outgoing, here, snapshot, caller="ci-2").reason == "secret-not-bound"


def test_each_caller_has_its_own_place(stock: Stock, server: MakeServer) -> None:
    snapshot = stock(
        Binding("github", identities=("a",)), Binding("github", header="x-api-key", identities=("b",))
    )  # fmt: skip
    assert swapped(request(("X-Api-Key", P)), server(), snapshot, caller="b") == request(("X-Api-Key", VALUE))
    assert refused(request(("X-Api-Key", P)), server(), snapshot, caller="a").reason == "placeholder-out-of-place"


# The gateway puts it in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((), id="nothing"),
        pytest.param((("AUTHORIZATION", "Bearer stolen"),), id="a token of its own"),
        pytest.param((("authorization", b"Bearer " + P),), id="the placeholder"),
        pytest.param((("Authorization", "a"), ("authorization", "b")), id="two"),
        pytest.param((("Authorization", b"Bearer coat_second"),), id="another secret's placeholder"),
    ],
)
def test_the_servers_credential_replaces_whatever_was_sent(
    stock: Stock, server: MakeServer, sent: tuple[tuple[str, str], ...]
) -> None:
    snapshot = stock(second=(b"another value", Binding("elsewhere")))
    outgoing = request(("Accept", "*/*"), *sent)
    plan = plan_swap(outgoing, server=server(credential="token"), caller="ci", snapshot=snapshot)
    assert [one.name for one in plan.credentials] == ["token"]
    out = apply_swap(plan, outgoing)
    assert out == request(("Accept", "*/*"), ("authorization", b"Bearer " + VALUE))


@pytest.mark.parametrize(
    ("format_", "value", "expected"),
    [
        pytest.param("{}", b"12345678", b"12345678", id="bare"),
        pytest.param('Token token="{}"', b"12345678", b'Token token="12345678"', id="parameter"),
        pytest.param("Basic {}", b"bot:12345678", basic(b"bot:12345678"), id="Basic pair"),
        pytest.param("Basic x-access-token:{}", b"12345678", basic(b"x-access-token:12345678"), id="Basic password"),
        pytest.param("Basic {}:", b"12345678", basic(b"12345678:"), id="Basic user"),
    ],
)
def test_the_format_makes_the_header(
    stock: Stock, server: MakeServer, format_: str, value: bytes, expected: bytes
) -> None:
    snapshot = stock(Binding("github", format=format_), value=value)
    assert swapped(request(), server(credential="token"), snapshot) == request(("authorization", expected))


def test_a_credential_bound_to_a_query_is_put_in_there(stock: Stock, server: MakeServer) -> None:
    out = swapped(request(path=b"/a?key=theirs&x=1&k%65y=2"), server(credential="token"), stock(QUERY))
    assert out.path == b"/a?x=1&key=" + url_encoded(VALUE)
    assert swapped(request(path=b"/a"), server(credential="token"), stock(QUERY)).path == b"/a?key=" + url_encoded(
        VALUE
    )


def test_a_credential_bound_to_a_body_is_left_to_callers(stock: Stock, server: MakeServer) -> None:
    assert not plan_swap(request(), server=server(credential="token"), caller="ci", snapshot=stock(FORM))


def test_a_credential_the_vault_lacks_is_a_fault_of_the_gateway(stock: Stock, server: MakeServer) -> None:
    refusal = refused(request(), server(credential="gone"), stock())
    assert (refusal.reason, refusal.status, refusal.code) == ("secret-missing", 503, GATEWAY_FAULT)


def test_a_credential_not_bound_to_its_server_is_refused(stock: Stock, server: MakeServer) -> None:
    refusal = refused(request(), server("other", "https://other.test/", "token"), stock())
    assert refusal.reason == "secret-not-bound"


def test_a_secret_that_does_not_decrypt_is_never_sent_without(server: MakeServer, now: datetime) -> None:
    info = SecretInfo("token", 1, "coat_token", (HEADER,), now, "")
    sealer = Sealer(MasterKey(bytes(32)).derive("kek"))
    good = sealer.seal(Secret(VALUE), sealed_facts(info, "id"))
    for sealed, opens in ((good, True), (Sealed(good.wrapped_key, good.value[:-1]), False)):
        snapshot = Snapshot([Row(info, sealed)], sealer, "id", 1)
        if opens:
            assert swapped(request(("Authorization", P)), server(), snapshot)
        else:
            refusal = refused(request(("Authorization", P)), server(), snapshot)
            assert (refusal.reason, refusal.status) == ("secret-unreadable", 503)


# Query, form, pointer ----------------------------------------------------------------------------------------------


def test_a_bound_query_parameter_is_substituted_and_the_rest_kept(stock: Stock, server: MakeServer) -> None:
    out = swapped(request(path=b"/a%2fb?x=%20&&key=" + P + b"&y"), server(), stock(QUERY))
    assert out.path == b"/a%2fb?x=%20&&key=" + url_encoded(VALUE) + b"&y"
    assert refused(request(path=b"/?" + P + b"=key"), server(), stock(QUERY)).reason == "placeholder-out-of-place"


def test_a_bound_form_field_is_substituted_and_the_length_follows(stock: Stock, server: MakeServer) -> None:
    body = b"grant=x&key=" + P + b"&note=" + P
    outgoing = request(
        ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("Content-Length", str(len(body))),
        body=body,
    )
    out = swapped(outgoing, server(), stock(FORM))
    assert out.body == b"grant=x&key=" + url_encoded(VALUE) + b"&note=" + P
    assert dict(out.headers)[b"Content-Length"] == str(len(out.body)).encode()


def json_request(body: bytes, *more: tuple[str, str]) -> Outgoing:
    return request(("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more, body=body)


def test_a_bound_pointer_is_substituted_and_every_other_byte_kept(stock: Stock, server: MakeServer) -> None:
    body = b'{"id":1e2, "params" : {"n":1.0, "note":"\\u00e9 ' + P + b'","arguments":{"a":[{}],"key":"x ' + P + b'!"}}}'
    out = swapped(json_request(body), server(), stock(POINTER))
    start, end = body.rindex(P), body.rindex(P) + len(P)
    assert out.body.startswith(body[:start])
    assert out.body.endswith(body[end:])
    assert json.loads(out.body)["params"]["arguments"]["key"] == f"x {VALUE.decode()}!"
    assert dict(out.headers)[b"Content-Length"] == str(len(out.body)).encode()


@pytest.mark.parametrize(
    "outgoing",
    [
        pytest.param(json_request(b'{"params":{"arguments":{"text":"' + P + b'"}}}'), id="another member"),
        pytest.param(json_request(b'{"params":{"arguments":{"key":["' + P + b'"]}}}'), id="not a string"),
        pytest.param(json_request(b'{"params":{"arguments":{"key":"coat\\u005ftoken"}}} ' + P), id="escaped"),
        pytest.param(json_request(b'{"params":{"arguments":{"key":"' + P), id="not JSON"),
        pytest.param(json_request(b"[" * 5000 + P), id="too deep"),
        pytest.param(json_request(b"\xff" + P), id="not UTF-8"),
        pytest.param(json_request(b'{"params":{"arguments":{"key":"' + P + b'"}}}', ("Content-Encoding", "gzip")),
                     id="said to be compressed"),
        pytest.param(json_request(b'{"params":{"arguments":{"key":"' + P + b'"}}}', ("content-type", "text/plain")),
                     id="two types"),
        pytest.param(request(("Content-Type", "text/plain"), body=b"key=" + P), id="plain text"),
        pytest.param(request(body=P), id="no type"),
    ],
)  # fmt: skip
def test_a_placeholder_elsewhere_in_a_body_is_only_text(stock: Stock, server: MakeServer, outgoing: Outgoing) -> None:
    snapshot = stock(POINTER)
    assert swapped(json_request(b'{"params":{"arguments":{"key":"' + P + b'"}}}'), server(), snapshot)
    plan = plan_swap(outgoing, server=server(), caller="ci", snapshot=snapshot)
    assert not plan
    assert apply_swap(plan, outgoing) is outgoing


def test_text_in_a_body_of_a_header_secret_is_only_text(stock: Stock, server: MakeServer) -> None:
    outgoing = json_request(b'{"text":"use ' + P + b' as the token"}', ("Authorization", f"Bearer {P.decode()}"))
    out = swapped(outgoing, server(), stock())
    assert out.body is outgoing.body
    assert out.headers[-1] == (b"Authorization", b"Bearer " + VALUE)


def test_a_pointer_body_that_is_too_large_or_ambiguous_is_refused(stock: Stock, server: MakeServer) -> None:
    body = b'{"params":{"arguments":{"key":"' + P + b'"%s}}}'
    snapshot = stock(POINTER)
    fits = body % (b"," + b'"a":"' + b"x" * 60000 + b'"')
    assert swapped(json_request(fits), server(), snapshot).body != fits
    large = refused(json_request(body % (b" " * 66000)), server(), snapshot)
    assert (large.reason, large.status) == ("body-too-large", 413)
    twice = refused(json_request(body % b',"k\\u0065y":"other"'), server(), snapshot)
    assert (twice.reason, twice.status) == ("ambiguous-body", 400)


@pytest.mark.parametrize(
    ("pointer", "body", "found"),
    [
        pytest.param("/0/key", b'[{"key":"coat_token"}]', True, id="an array's item"),
        pytest.param("/1/key", b'[{"key":"coat_token"} , {"key" : "coat_token"}]', True, id="the second item"),
        pytest.param("/2/key", b'[{"key":"coat_token"},{}]', False, id="past the end"),
        pytest.param("/00/key", b'[{"key":"coat_token"}]', False, id="an index with a zero before it"),
        pytest.param("/a~1b/~0", b'{"a/b":{"~":"coat_token"}}', True, id="escaped names"),
        pytest.param("/k", b' { "x" : [1,{"k":2}] , "k" : "coat_token" } ', True, id="white space"),
        pytest.param("/k/x", b'{"k":"coat_token"}', False, id="through a string"),
    ],
)
def test_pointers_are_followed_as_rfc_6901_says(
    stock: Stock, server: MakeServer, pointer: str, body: bytes, found: bool
) -> None:
    snapshot = stock(Binding("github", header=None, pointer=pointer))
    out = swapped(json_request(body), server(), snapshot)
    assert (VALUE.decode() in str(json.loads(out.body)).replace("\\\\", "\\")) is found
    assert json.loads(out.body.replace(json.dumps(VALUE.decode())[1:-1].encode(), P)) == json.loads(body)


# Transport ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "unsafe", "goes"),
    [
        pytest.param("https://api.test/", False, True, id="https"),
        pytest.param("http://api.test/", False, False, id="http"),
        pytest.param("http://api.test/", True, False, id="http elsewhere is never unsafe enough"),
        pytest.param("http://127.0.0.1/", False, False, id="loopback without the flag"),
        pytest.param("http://127.0.0.1/", True, True, id="loopback with it"),
        pytest.param("http://::1/", True, True, id="IPv6 loopback"),
        pytest.param("http://localhost/", True, True, id="localhost"),
        pytest.param("http://localhost.evil.test/", True, False, id="only looks like it"),
        pytest.param("http://10.0.0.1/", True, False, id="a private address"),
    ],
)
@pytest.mark.parametrize("injected", [True, False])
def test_no_secret_over_plain_http(
    stock: Stock, server: MakeServer, url: str, unsafe: bool, goes: bool, injected: bool
) -> None:
    snapshot = stock(Binding("github", unsafe_plain_http=unsafe))
    here = server(url=url, credential="token" if injected else None)
    outgoing = request(("authorization", b"Bearer " + P))
    if goes:
        assert swapped(outgoing, here, snapshot) == request(("authorization", b"Bearer " + VALUE))
    else:
        assert refused(outgoing, here, snapshot).reason == "plain-http"


def test_a_request_without_a_secret_may_go_over_plain_http(stock: Stock, server: MakeServer) -> None:
    assert not plan_swap(request(), server=server(url="http://api.test/"), caller="ci", snapshot=stock())


# Laws --------------------------------------------------------------------------------------------------------------


def test_a_value_that_holds_a_placeholder_is_not_swapped_again(stock: Stock, server: MakeServer) -> None:
    snapshot = stock(HEADER, value=b"uses coat_second and coat_token", second=(b"inner secret", HEADER))
    out = swapped(request(("Authorization", b"coat_token coat_second")), server(), snapshot)
    assert out == request(("Authorization", b"uses coat_second and coat_token inner secret"))


def test_a_plan_shows_names_only(stock: Stock, server: MakeServer) -> None:
    plan = plan_swap(request(("Authorization", P)), server=server(), caller="ci", snapshot=stock())
    assert repr(plan) == "SwapPlan(token)"
    assert repr(SwapPlan()) == "SwapPlan()"
    assert VALUE.decode() not in f"{plan}{plan.uses!r}"


MAKE_NAMES = st.text("abcdefgh", min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=8, max_size=40), st.lists(st.tuples(MAKE_NAMES, st.binary(max_size=12)), max_size=5))
def test_a_query_or_form_reads_the_same_but_for_the_secret(value: bytes, parts: list[tuple[str, bytes]]) -> None:
    from urllib.parse import parse_qsl

    from coatcheck.vault.places import replace_in_fields

    text = b"&".join([name.encode() + b"=" + url_encoded(part) for name, part in parts] + [b"key=" + P])
    out = replace_in_fields(text, {b"key": {P: value}})
    read = parse_qsl(out, keep_blank_values=True)
    assert read[:-1] == parse_qsl(text, keep_blank_values=True)[:-1]
    assert read[-1] == (b"key", value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_only_the_exact_placeholder_is_replaced(before: bytes, after: bytes) -> None:
    from coatcheck.vault.places import replace

    assert replace(before + P + after, {P: VALUE}) == before + VALUE + after
    assert P in before or replace(before, {P: VALUE}) is before


def test_other_secrets_of_the_header_go_along(stock: Stock, server: MakeServer) -> None:
    snapshot = stock(API_KEY, second=(b"the second value", HEADER))
    here = server(credential="second")
    out = swapped(request(("X-Api-Key", P)), here, snapshot)
    assert out == request(("X-Api-Key", VALUE), ("authorization", "Bearer the second value"))
