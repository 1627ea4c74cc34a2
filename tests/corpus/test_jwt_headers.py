"""A token's header chooses nothing but one of its issuer's own keys, and every token has one spelling."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tokens import Key, Party, accepted, b64, refused, running

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

MALFORMED = "token-malformed"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (SEC 2 2.4.2): no number of a signature reaches it."""


@pytest.fixture(scope="module")
def parties():
    strong = Key("RS256", "r1")
    odd = Party(
        Key("ES256", "for-encryption", use="enc"),
        Key("ES256", "to-encrypt", key_ops=["encrypt"]),
        Key("RS256", "weak", weak=True),
        Key("ES256", "wrong-curve", crv="P-384"),
        Key("ES384", "other-curve"),
        Key("ES256", "shared", kty="oct", k=b64(b"a shared secret of 32 bytes here")),
        Key("ES256", "private", d=b64(bytes(31) + b"\1")),
        Key("RS256", "ps-only", alg="PS256"),
        Key("ES256", "good"),
    )
    with Party() as ec, Party(strong) as rsa, odd:
        yield {"ec": ec, "rsa": rsa, "odd": odd}


@pytest.fixture(scope="module")
def ground(place, parties):
    with running(place, parties, rsa="algorithms: [RS256]", odd="algorithms: [ES256, RS256, PS256]") as ground:
        yield ground


@pytest.mark.attack("JWT-01")
@pytest.mark.parametrize("kind", ["proxy", "tunnel"])
def test_a_token_that_is_not_signed_is_refused(ground, parties, kind) -> None:
    party = parties["ec"]
    content = party.raw(header='{"alg":"none","kid":"k1"}').rpartition(".")[0]
    accepted(ground, party.token(), kind=kind)
    refused(ground, f"{content}.", MALFORMED, kind=kind)
    refused(ground, f"{content}.AAAA", "algorithm-not-allowed", kind=kind)


ALGORITHMS = {
    "nOnE": '"nOnE"',
    "NONE": '"NONE"',
    "es256": '"es256"',
    "a blank": '"ES256 "',
    "a NUL": '"ES256\\u0000"',
    "null": "null",
    "a list": '["ES256"]',
    "a number": "0",
    "empty": '""',
    "another curve": '"ES384"',
    "unknown": '"ES256K"',
}


@pytest.mark.attack("JWT-02")
@pytest.mark.parametrize("alg", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_an_algorithm_that_is_not_exactly_the_issuers_is_refused(ground, parties, alg, signed) -> None:
    token = parties["ec"].raw(header=f'{{"alg":{alg},"kid":"k1"}}')
    accepted(ground, parties["ec"].token())
    refused(ground, token if signed else token.rpartition(".")[0] + ".AA", {MALFORMED, "algorithm-not-allowed"})


@pytest.mark.attack("JWT-02")
def test_a_header_without_an_algorithm_is_refused(ground, parties) -> None:
    accepted(ground, parties["ec"].token())
    refused(ground, parties["ec"].token(header={"alg": ...}), MALFORMED)


@pytest.mark.attack("JWT-04")
@pytest.mark.parametrize("alg", ["PS256", "RS512"])
def test_an_algorithm_the_policy_does_not_name_is_refused(ground, parties, alg) -> None:
    party = parties["rsa"]
    key, claims = party.keys[-1], json.dumps(party.claims())
    accepted(ground, key.sign('{"alg":"RS256","kid":"r1"}', claims))
    refused(ground, key.sign(f'{{"alg":"{alg}","kid":"r1"}}', claims, algorithm=alg), "algorithm-not-allowed")


@pytest.mark.attack("JWT-05")
def test_a_key_is_used_with_the_algorithm_it_was_published_for_only(ground, parties) -> None:
    party = parties["odd"]
    (key,) = [key for key in party.keys if key.kid == "ps-only"]
    claims = json.dumps(party.claims())
    accepted(ground, key.sign('{"alg":"PS256","kid":"ps-only"}', claims, algorithm="PS256"))
    refused(ground, key.sign('{"alg":"RS256","kid":"ps-only"}', claims, algorithm="RS256"), "unknown-key")
    refused(ground, key.sign('{"alg":"PS256","kid":"ps-only"}', claims, algorithm="RS256"), "bad-signature")
    refused(ground, key.sign('{"alg":"ES256","kid":"ps-only"}', claims, algorithm="RS256"), "unknown-key")


@pytest.mark.attack("JWT-05")
@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_a_public_key_is_not_taken_for_a_shared_secret(ground, parties, alg) -> None:
    party = parties["rsa"]
    public = party.keys[-1].private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = party.raw(header=f'{{"alg":"{alg}","kid":"r1"}}').rpartition(".")[0]
    forged = f"{content}.{b64(hmac.digest(public, content.encode(), hashlib.sha256))}"
    accepted(ground, party.token())
    refused(ground, forged, {"algorithm-not-allowed", "bad-signature"})


OWN_KEYS = {
    "jku": "https://evil.example/jwks",
    "x5u": "https://evil.example/cert",
    "x5c": ["MIIB"],
    "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    "jwk null": None,
    "X5C": ["MIIB"],
    "epk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
}


@pytest.mark.attack("JWT-07")
@pytest.mark.parametrize("name", OWN_KEYS)
def test_a_header_that_brings_its_own_key_is_refused(ground, parties, name) -> None:
    member = {name.split()[0]: OWN_KEYS[name]}
    accepted(ground, parties["ec"].token(header={"x5t": "AAAA"}))
    refused(ground, parties["ec"].token(header=member), MALFORMED)


KIDS = {
    "a path": ("../../../../dev/null", "unknown-key"),
    "a URL": ("http://127.0.0.1/key", "unknown-key"),
    "SQL": ("k1'; DROP TABLE keys; --", "unknown-key"),
    "a shell": ("k1; sleep 5", "unknown-key"),
    "another case": ("K1", "unknown-key"),
    "a NUL": ("k1\0", MALFORMED),
    "a line": ("k1\nerror: forged", MALFORMED),
    "not ASCII": ("k1\u202e", MALFORMED),
    "10 kB": ("k" * 8_000, MALFORMED),
    "empty": ("", MALFORMED),
    "a number": (1, MALFORMED),
    "a list": (["k1"], MALFORMED),
    "null": (None, MALFORMED),
}


@pytest.mark.attack("JWT-08")
@pytest.mark.parametrize("name", KIDS)
def test_a_kid_is_only_compared(ground, parties, name) -> None:
    kid, reason = KIDS[name]
    party = parties["ec"]
    accepted(ground, party.token())
    refused(ground, party.token(header={"kid": kid}), reason)
    assert set(party.asked) <= {"/.well-known/openid-configuration", "/jwks"}
    assert "forged" not in ground.gateway.text()
    assert "DROP TABLE" not in ground.gateway.text()


@pytest.mark.attack("JWT-10", "JWT-32")
@pytest.mark.parametrize(
    "kid", ["for-encryption", "to-encrypt", "weak", "wrong-curve", "other-curve", "shared", "private"]
)
def test_a_published_key_that_is_not_fit_to_verify_is_not_used(ground, parties, kid) -> None:
    party = parties["odd"]
    (key,) = [key for key in party.keys if key.kid == kid]
    accepted(ground, party.token())
    header = json.dumps({"alg": key.algorithm, "kid": kid})
    token = key.sign(header, json.dumps(party.claims()))
    refused(ground, token, {"unknown-key", "algorithm-not-allowed"})


@pytest.mark.attack("JWT-10")
def test_a_shared_secret_in_a_key_set_verifies_nothing(ground, parties) -> None:
    party = parties["odd"]
    content = party.raw(header='{"alg":"HS256","kid":"shared"}').rpartition(".")[0]
    signature = hmac.digest(b"a shared secret of 32 bytes here", content.encode(), hashlib.sha256)
    accepted(ground, party.token())
    refused(ground, f"{content}.{b64(signature)}", "algorithm-not-allowed")


EXTENSIONS = {
    "compressed": '"zip":"DEF"',
    "nested": '"cty":"JWT"',
    "nested, they say": '"cty":["JWT"]',
    "nested in nothing": '"cty":null',
    "a claim": '"iss":"https://else.example"',
    "unknown": '"crit":["exp2"],"exp2":1',
    "empty": '"crit":[]',
    "b64": '"crit":["b64"],"b64":false',
    "b64 alone": '"b64":false',
    "known": '"crit":["exp"]',
    "null": '"crit":null',
}


@pytest.mark.attack("JWT-11")
@pytest.mark.parametrize("member", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extension_is_refused(ground, parties, member) -> None:
    accepted(ground, parties["ec"].raw(header='{"alg":"ES256","kid":"k1","unused":1}'))
    refused(ground, parties["ec"].raw(header=f'{{"alg":"ES256","kid":"k1",{member}}}'), MALFORMED)


TWICE = {
    "none first": '{"alg":"none","alg":"ES256","kid":"k1"}',
    "none last": '{"alg":"ES256","kid":"k1","alg":"none"}',
    "the same": '{"alg":"ES256","alg":"ES256","kid":"k1"}',
    "escaped": '{"alg":"ES256","\\u0061lg":"none","kid":"k1"}',
    "kid": '{"alg":"ES256","kid":"evil","kid":"k1"}',
    "deeper": '{"alg":"ES256","kid":"k1","x":{"a":1,"a":2}}',
}


@pytest.mark.attack("JWT-13")
@pytest.mark.parametrize("header", TWICE.values(), ids=TWICE)
def test_a_member_given_twice_is_refused(ground, parties, header) -> None:
    accepted(ground, parties["ec"].raw(header='{"alg":"ES256","kid":"k1","x":{"a":1,"b":2}}'))
    refused(ground, parties["ec"].raw(header=header), MALFORMED)


@pytest.mark.attack("JWT-13")
@pytest.mark.parametrize("member", ['"aud":"https://else.example"', '"sub":"other"', '"exp":9999999999'])
def test_a_claim_given_twice_is_refused(ground, parties, member) -> None:
    payload = json.dumps(parties["ec"].claims())
    accepted(ground, parties["ec"].raw(payload=payload))
    refused(ground, parties["ec"].raw(payload=f"{payload[:-1]},{member}}}"), MALFORMED)
    refused(ground, parties["ec"].raw(payload=f"{{{member},{payload[1:]}"), MALFORMED)


@pytest.mark.attack("JWT-19")
def test_a_key_of_another_issuer_is_not_looked_at(ground, parties) -> None:
    ec, odd = parties["ec"], parties["odd"]
    key = odd.keys[-1]
    accepted(ground, odd.token())
    refused(ground, key.sign(json.dumps(odd.header()), json.dumps(ec.claims())), "unknown-key")
    refused(ground, key.sign(json.dumps(ec.header()), json.dumps(ec.claims())), "bad-signature")


@pytest.mark.attack("JWT-31")
def test_a_token_whose_payload_is_a_token_is_refused(ground, parties) -> None:
    party = parties["ec"]
    token = party.token()
    accepted(ground, token)
    for payload in (token, json.dumps(token)):
        refused(ground, party.raw(payload=payload), "token-malformed")


@pytest.mark.attack("JWT-32")
def test_a_signature_in_another_form_is_refused(ground, parties) -> None:
    token = parties["ec"].token()
    content, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    accepted(ground, token)
    for form in (encode_dss_signature(r, s), raw[32:] + raw[:32], bytes(1) + raw, raw[:32] + ORDER.to_bytes(32)):
        refused(ground, f"{content}.{b64(form)}", "bad-signature")


@pytest.mark.attack("JWT-32")
@pytest.mark.parametrize("signature", [bytes(64), bytes(63) + b"\1", b"\xff" * 64, bytes(32), bytes(65), b"\x30\x00"])
def test_a_signature_that_is_no_signature_is_refused(ground, parties, signature) -> None:
    token = parties["ec"].token()
    refused(ground, f"{token.rpartition('.')[0]}.{b64(signature)}", "bad-signature")
    accepted(ground, token)
