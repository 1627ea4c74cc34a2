import base64
import contextlib
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.identity.jose import MAX_TOKEN_BYTES, JoseHeader, read_claims, read_header, read_object

GOOD_HEADER = {"alg": "ES256", "kid": "k1", "typ": "JWT"}
GOOD_CLAIMS = {"iss": "https://idp.acme.dev", "sub": "a"}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: object = GOOD_HEADER, claims: object = GOOD_CLAIMS, signature: str = "c2lnbmF0dXJl") -> str:
    """A token of these parts; a string or bytes is taken as it is."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*map(b64, parts), signature])


def test_a_plain_header_is_read():
    assert read_header(compact()) == JoseHeader(alg="ES256", kid="k1", typ="JWT")
    assert read_claims(compact()) == GOOD_CLAIMS


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", "JOSE"])
def test_an_access_or_identity_token_may_say_what_it_is(typ):
    assert read_header(compact(GOOD_HEADER | {"typ": typ})).typ == typ


def test_what_names_a_certificate_or_says_nothing_to_us_is_passed_over():
    more = {"x5t": "AAAA", "x5t#S256": "AAAA", "nonce": "n", "url": "https://idp.example", "cty": "json"}
    assert read_header(compact(GOOD_HEADER | more)) == read_header(compact(GOOD_HEADER))


def test_kid_and_typ_may_be_absent():
    assert read_header(compact({"alg": "RS256"})) == JoseHeader(alg="RS256")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"kid": "k1"}, id="no alg"),
        pytest.param({"alg": None}, id="alg null"),
        pytest.param({"alg": 1}, id="alg a number"),
        pytest.param({"alg": ""}, id="alg empty"),
        pytest.param(GOOD_HEADER | {"kid": 5}, id="kid a number"),
        pytest.param(GOOD_HEADER | {"kid": None}, id="kid null"),
        pytest.param(GOOD_HEADER | {"kid": "k1\0"}, id="kid with NUL"),
        pytest.param(GOOD_HEADER | {"kid": "k\u202e1"}, id="kid not ASCII"),
        pytest.param(GOOD_HEADER | {"kid": "k1\n"}, id="kid with newline"),
        pytest.param(GOOD_HEADER | {"kid": "k" * 257}, id="kid too long"),
        pytest.param(GOOD_HEADER | {"kid": "k" * 10_000}, id="kid of 10 kB"),
        pytest.param(GOOD_HEADER | {"crit": ["exp2"]}, id="crit unknown"),
        pytest.param(GOOD_HEADER | {"crit": []}, id="crit empty"),
        pytest.param(GOOD_HEADER | {"crit": ["b64"], "b64": False}, id="crit b64"),
        pytest.param(GOOD_HEADER | {"b64": False}, id="b64 alone"),
        pytest.param(GOOD_HEADER | {"jku": "https://evil.example/jwks"}, id="jku"),
        pytest.param(GOOD_HEADER | {"jwk": {"kty": "EC"}}, id="jwk"),
        pytest.param(GOOD_HEADER | {"x5u": "https://evil.example/c"}, id="x5u"),
        pytest.param(GOOD_HEADER | {"x5c": ["MIIB"]}, id="x5c"),
        pytest.param(GOOD_HEADER | {"ALG": "none"}, id="alg in two spellings"),
        pytest.param(GOOD_HEADER | {"X5C": ["MIIB"]}, id="x5c in upper case"),
        pytest.param(GOOD_HEADER | {"Jwk": {"kty": "EC"}}, id="jwk with a capital"),
        pytest.param(GOOD_HEADER | {"CRIT": ["exp2"]}, id="crit in upper case"),
        pytest.param(GOOD_HEADER | {"zip": "DEF"}, id="compressed"),
        pytest.param(GOOD_HEADER | {"enc": "A128GCM"}, id="encrypted"),
        pytest.param(GOOD_HEADER | {"epk": {"kty": "EC"}}, id="with an ephemeral key"),
        pytest.param(GOOD_HEADER | {"p2c": 10**9}, id="with a count of rounds"),
        pytest.param(GOOD_HEADER | {"cty": "JWT"}, id="nested"),
        pytest.param(GOOD_HEADER | {"cty": "application/jwt"}, id="nested, as a media type"),
        pytest.param(GOOD_HEADER | {"iss": "https://else.example"}, id="with a claim"),
        pytest.param(GOOD_HEADER | {"typ": "dpop+jwt"}, id="typ of a DPoP proof"),
        pytest.param(GOOD_HEADER | {"typ": "logout+jwt"}, id="typ of a logout token"),
        pytest.param(b'{"alg":"none","alg":"ES256"}', id="alg twice"),
        pytest.param(b'{"alg":"ES256","x":{"a":1,"a":2}}', id="nested member twice"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param('{"alg":"ES256"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + b'{"alg":"ES256"}', id="byte order mark"),
        pytest.param(["ES256"], id="a list"),
        pytest.param("ES256", id="a string"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_odd_header_is_refused(header):
    with pytest.raises(Refusal) as refused:
        read_header(compact(header))
    assert (refused.value.reason, refused.value.status) == ("token-malformed", 401)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="spaces"),
        pytest.param("eyJhbGciOiJFUzI1NiJ9", id="one part"),
        pytest.param(compact().rpartition(".")[0], id="two parts"),
        pytest.param(compact(signature=""), id="no signature"),
        pytest.param(compact() + ".e30", id="four parts"),
        pytest.param(compact() + ".e30.e30", id="five parts, encrypted"),
        pytest.param(" " + compact(), id="leading space"),
        pytest.param(compact() + "\n", id="trailing newline"),
        pytest.param(compact() + "=", id="padding"),
        pytest.param(compact() + "==", id="more padding"),
        pytest.param(compact(signature="AB"), id="stray bits in the signature"),
        pytest.param(compact(signature="A"), id="half a byte"),
        pytest.param(compact(signature="+/+/"), id="base64 that is not base64url"),
        pytest.param(compact().replace(".", "\xff.", 1), id="a byte that is not ASCII"),
        pytest.param(compact().replace(".", "\udcff.", 1), id="half a character"),
        pytest.param("é" + compact(), id="a letter that is not ASCII"),
    ],
)
def test_what_is_not_three_canonical_parts_is_refused(token):
    with pytest.raises(Refusal) as refused:
        read_header(token)
    assert refused.value.reason == "token-malformed"


def test_a_token_up_to_the_limit_is_read_and_one_beyond_it_is_not():
    filler = "x" * 9000
    assert read_claims(compact(claims={"f": filler})) == {"f": filler}
    with pytest.raises(Refusal) as refused:
        read_header(compact(claims={"f": filler * 2}))
    assert len(compact(claims={"f": filler * 2})) > MAX_TOKEN_BYTES
    assert refused.value.reason == "token-too-large"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"exp":NaN}', id="NaN"),
        pytest.param(b'{"exp":-Infinity}', id="infinity"),
        pytest.param(b'{"exp":1e400}', id="a float out of range"),
        pytest.param(b'{"exp":' + b"9" * 19 + b"}", id="an integer out of range"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b"}", id="an integer of 5000 digits"),
        pytest.param(b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", id="66 levels"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="100 000 levels"),
        pytest.param(rb'{"sub":"\ud800"}', id="a lone surrogate"),
        pytest.param(rb'{"\udc00":1}', id="a lone surrogate in a name"),
        pytest.param(b'{"a":1,"a":1}', id="a member twice"),
        pytest.param(b'{"a":1} {"b":2}', id="two documents"),
        pytest.param(b'{"a":1}\x00', id="trailing NUL"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
    ],
)
def test_json_that_could_be_read_two_ways_or_not_at_all_is_refused(text):
    with pytest.raises(ValueError, match=r".") as refused:
        read_object(text)
    assert "9999" not in str(refused.value)


def test_63_levels_an_astral_character_and_18_digits_are_fine():
    assert read_object(b'{"a":' + b"[" * 62 + b"]" * 62 + b"}")
    assert read_object(rb'{"a":"\ud83d\ude00","n":999999999999999999}') == {"a": "😀", "n": 10**18 - 1}


@settings(max_examples=100)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), json_values, max_size=4))
def test_every_object_is_read_back_as_it_was_written(value):
    assert read_object(json.dumps(value).encode()) == value


@settings(max_examples=150)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: f"{b64(data)}.{b64(data)}.{b64(data)}"))
@example("..")
@example("\ud800.a.b")
def test_any_text_is_either_read_or_refused(text):
    for read in (read_header, read_claims):
        with contextlib.suppress(Refusal):
            read(text)


@settings(max_examples=100)
@given(st.integers(0, 200), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
def test_no_other_spelling_of_a_token_decodes_to_the_same_bytes(position, letter):
    token = compact()
    position %= len(token)
    other = token[:position] + letter + token[position + 1 :]
    if other == token or token[position] == ".":
        return
    try:
        decoded = [base64.urlsafe_b64decode(part + "==") for part in other.split(".")]
        read_header(other), read_claims(other)
    except Refusal:
        return
    assert decoded != [base64.urlsafe_b64decode(part + "==") for part in token.split(".")]
