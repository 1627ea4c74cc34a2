"""Tests of story/issuer.py."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import jwt
import pytest

from story.issuer import Issuer

AUDIENCE = "https://gateway.shop.example"


@pytest.fixture(params=["ES256", "RS256"])
def issuer(request: pytest.FixtureRequest) -> Iterator[Issuer]:
    with Issuer(request.param) as issuer:
        yield issuer


def fetch(url: str) -> dict:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return json.load(answer)


def verify(issuer: Issuer, token: str, *, audience: str = AUDIENCE) -> dict:
    """Verifies as a relying party does: discovery, key set, key by its id."""
    discovered = fetch(issuer.url + "/.well-known/openid-configuration")
    assert discovered["issuer"] == issuer.url
    keys = {key["kid"]: jwt.PyJWK(key) for key in fetch(discovered["jwks_uri"])["keys"]}
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(
        token,
        key.key,
        algorithms=discovered["id_token_signing_alg_values_supported"],
        audience=audience,
        issuer=issuer.url,
        options={"require": ["exp", "iat", "sub", "jti"]},
    )


def test_a_token_verifies_against_the_served_keys(issuer: Issuer):
    claims = verify(issuer, issuer.token(audience=AUDIENCE, repository_id="74627617"))
    assert claims["repository_id"] == "74627617"
    assert claims["exp"] - claims["iat"] == 300


def test_a_token_for_another_audience_does_not(issuer: Issuer):
    with pytest.raises(jwt.InvalidAudienceError):
        verify(issuer, issuer.token(audience="https://other.example"))


def test_a_negative_lifetime_makes_an_expired_token(issuer: Issuer):
    with pytest.raises(jwt.ExpiredSignatureError):
        verify(issuer, issuer.token(audience=AUDIENCE, lifetime=-10))


def test_a_claim_given_as_none_is_left_out(issuer: Issuer):
    with pytest.raises(jwt.MissingRequiredClaimError):
        verify(issuer, issuer.token(audience=AUDIENCE, jti=None))


def test_every_token_is_one_of_a_kind(issuer: Issuer):
    assert verify(issuer, issuer.token(audience=AUDIENCE)) != verify(issuer, issuer.token(audience=AUDIENCE))


def test_after_a_rotation_both_keys_verify(issuer: Issuer):
    old = issuer.token(audience=AUDIENCE)
    issuer.rotate()
    assert verify(issuer, old)
    assert verify(issuer, issuer.token(audience=AUDIENCE))


def test_after_a_hard_rotation_only_the_new_key_verifies(issuer: Issuer):
    old = issuer.token(audience=AUDIENCE)
    issuer.rotate(keep_old=False)
    with pytest.raises(KeyError):
        verify(issuer, old)
    assert verify(issuer, issuer.token(audience=AUDIENCE))


def test_the_key_set_holds_no_private_key(issuer: Issuer):
    (key,) = fetch(issuer.url + "/jwks")["keys"]
    assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi"}


def test_anything_else_is_not_found(issuer: Issuer):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(issuer.url + "/other")


def test_a_closed_issuer_is_unreachable():
    with Issuer() as issuer:
        assert fetch(issuer.url + "/jwks")
        assert issuer.fetches == 1
    with pytest.raises(urllib.error.URLError):
        fetch(issuer.url + "/jwks")
