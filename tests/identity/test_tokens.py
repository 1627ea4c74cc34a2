import base64
import contextlib
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.identity.tokens import Presented, find_token, holds_token, unverified_issuer

ISSUER = "https://idp.acme.dev"
ISSUERS = frozenset({ISSUER, "https://token.actions.githubusercontent.com"})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(iss: object = ISSUER, **claims: object) -> str:
    payload = json.dumps({"iss": iss, **claims}).encode()
    return f"{b64(b'{"alg":"ES256"}')}.{b64(payload)}.c2lnbmF0dXJl"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


OURS, THEIRS = token(), token("https://upstream.example")


@pytest.mark.parametrize(
    ("proxy", "server", "place"),
    [
        pytest.param([basic("ci", OURS)], [], "proxy-authorization", id="what HTTPS_PROXY sends"),
        pytest.param([basic("", OURS)], [], "proxy-authorization", id="no user name"),
        pytest.param([basic("zoé", OURS)], [], "proxy-authorization", id="a user name that is not ASCII"),
        pytest.param([f"Bearer {OURS}"], [], "proxy-authorization", id="bearer to the proxy"),
        pytest.param([f"bEaReR {OURS}"], [], "proxy-authorization", id="the scheme in any case"),
        pytest.param([basic("ci", OURS).replace("Basic", "bASIC")], [], "proxy-authorization", id="basic in any case"),
        pytest.param([], [f"Bearer {OURS}"], "authorization", id="bearer to the server"),
        pytest.param([f"Bearer {OURS}"], [f"Bearer {OURS}"], "proxy-authorization", id="the same token in both"),
        pytest.param([f"Bearer {OURS}"], [f"Bearer {THEIRS}"], "proxy-authorization", id="another's token beside it"),
        pytest.param([f"Bearer {OURS}"], ["Basic dTpw"], "proxy-authorization", id="a password for the server"),
    ],
)
def test_the_token_is_found(proxy, server, place):
    assert find_token(proxy, server, issuers=ISSUERS) == Presented(OURS, place)


def test_a_token_of_three_kilobytes_is_found_as_a_proxy_password():
    large = token(filler="x" * 2200)
    assert find_token([basic("x", large)], [], issuers=ISSUERS) == Presented(large, "proxy-authorization")


def test_an_opaque_token_is_found_where_it_can_only_be_ours():
    assert find_token([basic("ci", "ccs_0123456789")], [], issuers=ISSUERS).token == "ccs_0123456789"
    assert find_token([], ["Bearer ccs_0123456789"], issuers=ISSUERS) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"Bearer {THEIRS}", id="another issuer's token"),
        pytest.param("Bearer sk-live-51H", id="an opaque token"),
        pytest.param("Bearer {{github-pat}}", id="a placeholder in braces"),
        pytest.param("Bearer a.b.c", id="dots that are no token"),
        pytest.param("Bearer é.é.é", id="not ASCII"),
        pytest.param("Bearer", id="no token"),
        pytest.param("", id="empty"),
        pytest.param("Basic dTpw", id="basic"),
        pytest.param(basic("ci", OURS), id="basic with our token: only the proxy's header takes it"),
        pytest.param('Digest username="a", realm="b"', id="digest"),
        pytest.param("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=c, Signature=d", id="a signed request"),
        pytest.param("DPoP " + THEIRS, id="DPoP"),
        pytest.param("Bearerish x, y", id="a scheme that only begins like bearer"),
        pytest.param("Bearer " + token([ISSUER]), id="an issuer that is a list"),
        pytest.param("Bearer " + token({"iss": ISSUER}), id="an issuer that is an object"),
        pytest.param("Bearer x." + b64(b"[" * 100_000) + ".y", id="100 000 levels"),
        pytest.param("Bearer " + "x" * 100_000, id="a huge token"),
    ],
)
def test_an_authorization_that_is_not_for_us_is_left_alone(value):
    assert find_token([], [value], issuers=ISSUERS) is None
    assert find_token([basic("ci", OURS)], [value], issuers=ISSUERS) == Presented(OURS, "proxy-authorization")


@pytest.mark.parametrize(
    ("proxy", "server", "reason"),
    [
        pytest.param([basic("a", OURS)] * 2, [], "two-tokens", id="two headers to the proxy"),
        pytest.param([], [f"Bearer {OURS}"] * 2, "two-tokens", id="two headers to the server"),
        pytest.param([], ["Basic dTpw", f"Bearer {OURS}"], "two-tokens", id="two headers of two schemes"),
        pytest.param([f"Bearer {OURS}, Bearer {OURS}"], [], "two-tokens", id="two in one header"),
        pytest.param([f"Bearer {OURS},{OURS}"], [], "two-tokens", id="two behind one scheme"),
        pytest.param([], [f"Bearer {OURS}, Bearer {OURS}"], "two-tokens", id="two in one header to the server"),
        pytest.param([], [f"Bearer {THEIRS},Bearer {OURS}"], "two-tokens", id="ours behind another's"),
        pytest.param([basic("a", f"{OURS},{OURS}")], [], "two-tokens", id="two in one password"),
        pytest.param([basic("a", OURS)], [f"Bearer {token(n=1)}"], "two-tokens", id="two different tokens"),
        pytest.param([basic("a", OURS)], [f"Bearer {OURS}="], "two-tokens", id="ours spelled differently"),
        pytest.param([f"Bearer  {OURS}"], [], "token-malformed", id="two spaces"),
        pytest.param([f"Bearer\t{OURS}"], [], "token-malformed", id="a tab"),
        pytest.param([f" Bearer {OURS}"], [], "token-malformed", id="a leading space"),
        pytest.param([f"Bearer {OURS} "], [], "token-malformed", id="a trailing space"),
        pytest.param([f"Bearer {OURS}\r\nX: y"], [], "token-malformed", id="a line break"),
        pytest.param([], [f"bEaReR  {OURS}"], "token-malformed", id="two spaces to the server"),
        pytest.param([], [f"Bearer\t{OURS}"], "token-malformed", id="a tab to the server"),
        pytest.param([], [f" Bearer {OURS}"], "token-malformed", id="a leading space to the server"),
        pytest.param([], [f"Bearer {OURS} x"], "token-malformed", id="more behind it"),
        pytest.param([], [f"Bearer {OURS}é"], "token-malformed", id="ours and a letter no token has"),
        pytest.param([], [f"Bearer {OURS.replace('.', '=.', 1)}"], "token-malformed", id="padding in the header"),
        pytest.param([OURS], [], "token-malformed", id="no scheme"),
        pytest.param([""], [], "token-malformed", id="empty"),
        pytest.param([f"Digest {OURS}"], [], "token-malformed", id="an odd scheme"),
        pytest.param([f"Negotiate {OURS}"], [], "token-malformed", id="another odd scheme"),
        pytest.param(["Basic !!!"], [], "token-malformed", id="not base64"),
        pytest.param(["Basic é"], [], "token-malformed", id="not ASCII"),
        pytest.param(["Basic " + base64.b64encode(OURS.encode()).decode()], [], "token-malformed", id="no colon"),
        pytest.param([basic(OURS, "")], [], "token-malformed", id="the token as user name"),
        pytest.param([basic("ci", "caf\udce9")], [], "token-malformed", id="a password that is not ASCII"),
        pytest.param([basic("ci", "a:b")], [], "token-malformed", id="a password no token could be"),
        pytest.param([basic("ci", "x" * 16_385)], [], "token-too-large", id="a password beyond the limit"),
        pytest.param(["Bearer " + "x" * 16_385], [], "token-too-large", id="a token beyond the limit"),
        pytest.param(["Basic " + "x" * 10_000_000], [], "token-too-large", id="10 MB"),
        pytest.param([], ["Bearer " + token(f="x" * 16_385)], "token-too-large", id="ours, beyond the limit"),
    ],
)
def test_what_could_be_read_two_ways_is_refused(proxy, server, reason):
    with pytest.raises(Refusal) as refused:
        find_token(proxy, server, issuers=ISSUERS)
    assert (refused.value.reason, refused.value.status) == (reason, 401)
    assert OURS not in str(refused.value)


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(f"{OURS}==", id="padding at the end"),
        pytest.param(f"x.{b64(b'{"iss":"x","iss":"' + ISSUER.encode() + b'"}')}.y", id="a second issuer"),
        pytest.param(f"x.{b64(b'{"iss":"' + ISSUER.encode() + b'","iss":"x"}')}.y", id="a second issuer, ours first"),
        pytest.param(f"x.{b64(json.dumps({'iss': ISSUER}).encode('utf-16'))}.y", id="UTF-16"),
    ],
)
def test_a_token_of_ours_in_disguise_is_not_taken_for_the_servers_business(spelling):
    found = find_token([], [f"Bearer {spelling}"], issuers=ISSUERS)
    assert found == Presented(spelling, "authorization")
    assert unverified_issuer(spelling) is None


def test_a_request_that_shows_no_token_has_none():
    assert find_token([], [], issuers=ISSUERS) is None


def test_a_presented_token_is_not_printed():
    assert OURS not in repr(Presented(OURS, "authorization"))


def test_the_issuer_is_read_from_a_well_formed_token_only():
    assert unverified_issuer(OURS) == ISSUER
    assert unverified_issuer(token(5)) is None
    assert unverified_issuer("a.b.c") is None


headers = st.lists(
    st.text(max_size=40)
    | st.sampled_from([f"Bearer {OURS}", f"Bearer {THEIRS}", basic("a", OURS), "Bearer", "Basic ", f"Bearer {OURS},"])
    | st.text(st.characters(exclude_characters="."), max_size=10).map(lambda text: f"Bearer {text}{OURS}"),
    max_size=2,
)


@settings(max_examples=200)
@given(headers, headers)
@example(["\ud800"], ["Bearer \ud800.\ud800.x"])
def test_any_headers_give_one_token_none_or_a_refusal(proxy, server):
    try:
        found = find_token(proxy, server, issuers=ISSUERS)
    except Refusal:
        return
    if len(proxy) == 1:
        assert found is not None
        assert found.place == "proxy-authorization"
    if found is None:
        assert not any(OURS in value and value.lower().startswith("bearer ") for value in server)


@pytest.mark.parametrize("length", [16_000, 100_000])
@pytest.mark.parametrize("filling", ["A", "=", ".", " ", "\t", "Bearer ", "{", "é"])
def test_no_header_takes_long_to_refuse(filling, length):
    value = (filling * length)[:length]
    began = time.perf_counter()
    for header in (value, f"Bearer {value}", f"Basic {value}", f"Bearer x.{value}.y"):
        for arguments in (([header], []), ([], [header])):
            with contextlib.suppress(Refusal):
                find_token(*arguments, issuers=ISSUERS)
    assert time.perf_counter() - began < 1


ISSUED = {"iss": "https://idp.acme.dev", "aud": "https://gateway.acme.dev"}


def held(text: str) -> bool:
    return holds_token(text, issuers={"https://idp.acme.dev"}, audience="https://gateway.acme.dev")


def minted(**claims: object) -> str:
    parts = ({"alg": "ES256", "kid": "k"}, ISSUED | claims, "signature")
    return ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts)


@pytest.mark.parametrize("text", ["{}", "Token {}", "a={}; b=c", "/x?access_token={}&y=1", "{},{}", "({})", "{}=="])
def test_a_token_for_this_gateway_is_found_whatever_is_around_it(text):
    assert held(text.replace("{}", minted()))
    assert held(text.replace("{}", minted(aud=["https://else.example", "https://gateway.acme.dev"])))
    for other in ({"aud": "https://else.example"}, {"iss": "https://else.example"}, {"aud": 5}, {"iss": ["x"]}):
        assert not held(text.replace("{}", minted(**other)))


def test_a_token_in_basic_credentials_is_found_as_name_or_password():
    for pair in (f"ci:{minted()}", f"{minted()}:", f"{minted()}:x-oauth-basic"):
        assert held("Basic " + base64.b64encode(pair.encode()).decode())
        assert held("bASIC\t" + base64.b64encode(pair.encode()).decode())
    assert not held("Basic " + base64.b64encode(b"ci:secret").decode())


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=5), st.integers(0, 6))
def test_wherever_the_audience_stands_among_the_claims_the_token_is_found(more, at):
    items = [each for each in more.items() if each[0] not in ISSUED]
    claims = dict([*items[:at], *ISSUED.items(), *items[at:]])
    for separators in ((",", ":"), (", ", ": ")):
        payload = base64.urlsafe_b64encode(json.dumps(claims, separators=separators).encode()).rstrip(b"=").decode()
        assert held(f"eyJhbGciOiJFUzI1NiJ9.{payload}.c2ln")


@given(st.text())
def test_any_text_holds_a_token_or_none(text):
    assert held(f"eyJ{text}") in {True, False}
