import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from coatcheck.identity.jwks import read_jwks


def published(*jwks: object) -> bytes:
    return json.dumps({"keys": list(jwks)}).encode()


def test_a_spiffe_bundles_keys_for_tokens_are_used_and_those_for_certificates_are_not(signer):
    bundle = published(signer.jwk(use="x509-svid", kid="no"), signer.jwk(use="jwt-svid", kid="yes"))
    assert [key.kid for key in read_jwks(bundle)] == ["yes"]


@pytest.mark.parametrize(("bits", "used"), [(2047, False), (2048, True), (8192, True), (8193, False), (60_000, False)])
def test_an_rsa_key_is_neither_weak_nor_costly(signer, bits, used):
    modulus = (1 << (bits - 1)) | 1
    jwk = {"kty": "RSA", "kid": "sized", "e": "AQAB", "n": b64(modulus.to_bytes((bits + 7) // 8))}
    kids = [key.kid for key in read_jwks(published(jwk, signer.jwk(kid="good")))]
    assert kids == (["sized", "good"] if used else ["good"])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_set_of_more_keys_than_an_issuer_has_is_refused(signer):
    assert len(read_jwks(published(*(signer.jwk(kid=str(n)) for n in range(100))))) == 100
    with pytest.raises(ValueError, match="more than 100 keys"):
        read_jwks(published(*(signer.jwk(kid=str(n)) for n in range(101))))


@pytest.mark.parametrize(
    ("exponent", "used"), [(3, True), (65537, True), (2**64 - 1, True), (1, False), (4, False), (2**64 + 1, False)]
)
def test_an_rsa_exponent_is_neither_trivial_nor_costly(signers, exponent, used):
    e = base64.urlsafe_b64encode(exponent.to_bytes(9)).decode().rstrip("=")
    members = [signers["RS256"].jwk(e=e, kid="odd"), signers["ES256"].jwk(kid="good")]
    assert [key.kid for key in read_jwks(published(*members))] == ["odd"] * used + ["good"]


@pytest.mark.parametrize(
    ("alg", "fitting"),
    [
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("EdDSA", {"EdDSA"}),
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ],
)
def test_a_key_fits_the_algorithms_of_its_kind_and_curve_only(signers, alg, fitting):
    (key,) = read_jwks(published(signers[alg].jwk()))
    every = [f"{kind}{size}" for kind in ("RS", "PS", "ES", "HS") for size in (256, 384, 512)]
    assert {each for each in [*every, "EdDSA", "ES256K", "none", ""] if key.fits(each)} == fitting


def test_a_key_that_names_its_algorithm_fits_no_other(signers):
    (key,) = read_jwks(published(signers["RS256"].jwk(alg="PS256")))
    assert key.fits("PS256")
    assert not key.fits("RS256")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"use": None}, id="use null"),
        pytest.param({"use": ["sig"]}, id="use a list"),
        pytest.param({"key_ops": ["encrypt"]}, id="key_ops without verify"),
        pytest.param({"key_ops": "verify"}, id="key_ops a string"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0"}, id="a shared secret"),
        pytest.param({"kty": "RSA"}, id="of another kind"),
        pytest.param({"kty": ["EC"]}, id="kty a list"),
        pytest.param({"crv": "P-384"}, id="not on its curve"),
        pytest.param({"crv": "P-999"}, id="on no curve"),
        pytest.param({"x": "AAAA"}, id="a short coordinate"),
        pytest.param({"x": 5}, id="a coordinate that is a number"),
        pytest.param({"x": "é"}, id="a coordinate that is not ASCII"),
        pytest.param({"kid": 5}, id="kid a number"),
        pytest.param({"kid": "k" * 300}, id="kid too long"),
        pytest.param({"alg": 5}, id="alg a number"),
    ],
)
def test_a_member_that_cannot_be_used_is_passed_over(signer, members):
    good = signer.jwk(kid="good")
    assert [key.kid for key in read_jwks(published(signer.jwk(**members), good))] == ["good"]
    with pytest.raises(ValueError, match="no JWK Set with a key"):
        read_jwks(published(signer.jwk(**members)))


def test_an_rsa_key_of_less_than_2048_bits_is_passed_over(signers, new_signer):
    weak_key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  the point of the test
    weak = new_signer("RS256", "weak", weak_key)
    assert [key.kid for key in read_jwks(published(weak.jwk(), signers["RS256"].jwk()))] == ["k-rs256"]


@pytest.mark.parametrize(
    ("alg", "algorithm"), [("ES256", ECAlgorithm), ("RS256", RSAAlgorithm), ("EdDSA", OKPAlgorithm)]
)
def test_a_private_key_that_was_published_is_passed_over(signers, alg, algorithm):
    private = algorithm.to_jwk(signers[alg].key, as_dict=True) | {"key_ops": ["verify"]}
    public = {name: value for name, value in private.items() if name not in {"d", "p", "q", "dp", "dq", "qi"}}
    assert len(read_jwks(published(public))) == 1
    with pytest.raises(ValueError, match="no JWK Set with a key"):
        read_jwks(published(private))


@pytest.mark.parametrize("absent", ["use", "kid"])
def test_use_and_kid_may_be_absent(signer, absent):
    jwk = {name: value for name, value in signer.jwk().items() if name != absent}
    assert len(read_jwks(published(jwk))) == 1


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b'{"keys":[null,5,"x"]}', b'{"keys":[],"keys":[]}'],
)
def test_what_is_no_key_set_is_an_error(document):
    with pytest.raises(ValueError, match=r"."):
        read_jwks(document)
