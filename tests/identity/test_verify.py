import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import PolicyError, Refusal
from coatcheck.identity import verify
from coatcheck.identity.keys import KeySource
from coatcheck.identity.verify import REMEMBER_FOR, Verifier, check_audience, check_times
from coatcheck.policy.model import IssuerSpec, SamlTrust

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
IDP = IssuerSpec(name="corp", issuer="https://idp.acme.dev", algorithms=("ES256",))


@pytest.fixture
def verifier(publisher, signer, spec, audience, clock) -> Verifier:
    publisher.publish(signer)
    return Verifier({"corp": spec()}, audience, KeySource(clock=clock))


async def refusal(verifier: Verifier, token: str, now: datetime = NOW) -> str:
    """The reason; also holds that the token's text is in no message and that nothing was remembered."""
    with pytest.raises(Refusal) as refused:
        await verifier.verify(token, now=now)
    assert refused.value.status == (503 if refused.value.reason == "issuer-unreachable" else 401)
    parts = [part for part in token.split(".") if len(part) > 10]
    assert not any(part in f"{refused.value} {refused.value.data()}" for part in parts)
    assert verifier.remembered(token, now=now) is None
    return refused.value.reason


async def test_a_good_token_says_who_it_is(verifier, signer, claims):
    good = claims(groups=["a"])
    verified = await verifier.verify(signer.sign(good), now=NOW)
    assert (verified.issuer, verified.subject, verified.claims) == ("corp", "repo:acme/shop", good)
    assert verified.expires_at == NOW + timedelta(seconds=300)


@pytest.mark.parametrize("alg", ["ES256", "ES384", "RS256", "PS256", "EdDSA"])
async def test_every_allowed_algorithm_verifies_and_one_that_is_not_allowed_does_not(
    publisher, signers, spec, audience, claims, alg
):
    publisher.publish(signers[alg])
    token = signers[alg].sign(claims())
    assert await Verifier({"corp": spec(algorithms=(alg,))}, audience, KeySource()).verify(token, now=NOW)
    others = tuple(each for each in signers if each != alg)
    strict = Verifier({"corp": spec(algorithms=others)}, audience, KeySource())
    assert await refusal(strict, token) == "algorithm-not-allowed"


@pytest.mark.parametrize("alg", ["none", "nOnE", "NONE", "HS256", "hs256", "es256", "ES256 "])
@pytest.mark.parametrize("signature", ["real", "empty", "junk"])
async def test_an_algorithm_that_needs_no_public_key_is_refused(verifier, signer, claims, alg, signature):
    signed = signer.sign_raw(json.dumps({"alg": alg, "kid": "k1"}), json.dumps(claims()))
    token = {"real": signed, "empty": signed.rpartition(".")[0] + ".", "junk": signed.rpartition(".")[0] + ".AAAA"}
    assert await refusal(verifier, token[signature]) in {"algorithm-not-allowed", "token-malformed"}
    assert await verifier.verify(signer.sign(claims()), now=NOW)


async def test_a_shared_secret_made_of_the_public_key_is_refused_even_if_policy_said_hs256(
    publisher, signers, spec, audience, claims, new_signer
):
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    rsa = signers["RS256"]
    publisher.publish(rsa)
    lax = Verifier({"corp": spec(algorithms=("RS256", "HS256", "none"))}, audience, KeySource())
    pem = rsa.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing_input = rsa.sign_raw('{"alg":"HS256","kid":"k-rs256"}', json.dumps(claims())).rpartition(".")[0]
    mac = base64.urlsafe_b64encode(hmac.digest(pem, signing_input.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert await refusal(lax, f"{signing_input}.{mac}") == "algorithm-not-allowed"
    assert await lax.verify(rsa.sign(claims()), now=NOW)


async def test_an_issuer_of_assertions_signs_no_tokens_and_hides_no_issuer_of_tokens(
    publisher, signer, spec, audience, claims
):
    publisher.publish(signer)
    saml = spec(name="adfs", algorithms=(), saml=SamlTrust((b"",)))
    alone = Verifier({"adfs": saml}, audience, KeySource())
    assert await refusal(alone, signer.sign(claims())) == "wrong-issuer"
    assert publisher.asked == []
    both = Verifier({"adfs": saml, "corp": spec()}, audience, KeySource())
    assert (await both.verify(signer.sign(claims()), now=NOW)).issuer == "corp"


async def test_a_key_that_names_another_algorithm_does_not_verify(publisher, signers, spec, audience, claims):
    rsa = signers["RS256"]
    verifier = Verifier({"corp": spec(algorithms=("RS256", "PS256"))}, audience, KeySource())
    publisher.publish(rsa)
    publisher.pages["/jwks"] = json.dumps({"keys": [rsa.jwk(alg="PS256")]}).encode()
    assert await refusal(verifier, rsa.sign(claims())) == "unknown-key"
    publisher.pages["/jwks"] = json.dumps({"keys": [rsa.jwk(alg="RS256")]}).encode()
    fresh = Verifier({"corp": spec(algorithms=("RS256", "PS256"))}, audience, KeySource())
    assert await fresh.verify(rsa.sign(claims()), now=NOW)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"iss": ...}, "claim-missing", id="no iss"),
        pytest.param({"iss": 5}, "token-malformed", id="iss a number"),
        pytest.param({"iss": ["https://idp.acme.dev"]}, "token-malformed", id="iss a list"),
        pytest.param({"iss": "https://evil.example"}, "wrong-issuer", id="iss unknown"),
        pytest.param({"iss": "corp"}, "wrong-issuer", id="iss by its name in policy"),
        pytest.param({"aud": ...}, "claim-missing", id="no aud"),
        pytest.param({"aud": None}, "claim-missing", id="aud null"),
        pytest.param({"aud": []}, "wrong-audience", id="aud an empty list"),
        pytest.param({"aud": 5}, "token-malformed", id="aud a number"),
        pytest.param({"aud": {"https://gateway.acme.dev": 1}}, "token-malformed", id="aud an object"),
        pytest.param({"aud": ["https://gateway.acme.dev", 5]}, "token-malformed", id="aud with a number"),
        pytest.param({"aud": [["https://gateway.acme.dev"]]}, "token-malformed", id="aud nested"),
        pytest.param({"aud": ""}, "wrong-audience", id="aud empty"),
        pytest.param({"aud": "https://gateway2.acme.dev"}, "wrong-audience", id="another gateway"),
        pytest.param({"aud": "https://gateway.acme.dev/"}, "wrong-audience", id="a slash more"),
        pytest.param({"aud": "https://GATEWAY.acme.dev"}, "wrong-audience", id="upper case"),
        pytest.param({"aud": "https://gateway.acme.dev "}, "wrong-audience", id="a space more"),
        pytest.param({"aud": "https://gateway.acme"}, "wrong-audience", id="a prefix"),
        pytest.param({"aud": "https://gateway.acme.dev.evil.example"}, "wrong-audience", id="more behind it"),
        pytest.param({"exp": ...}, "claim-missing", id="no exp"),
        pytest.param({"exp": None}, "token-malformed", id="exp null"),
        pytest.param({"exp": True}, "token-malformed", id="exp true"),
        pytest.param({"exp": str(SECONDS + 300)}, "token-malformed", id="exp a string"),
        pytest.param({"exp": SECONDS + 300.0}, "token-malformed", id="exp a float"),
        pytest.param({"exp": [SECONDS + 300]}, "token-malformed", id="exp a list"),
        pytest.param({"exp": -1}, "token-expired", id="exp negative"),
        pytest.param({"exp": 0}, "token-expired", id="exp zero"),
        pytest.param({"exp": SECONDS}, "token-expired", id="exp now"),
        pytest.param({"exp": SECONDS - 1}, "token-expired", id="exp a second ago"),
        pytest.param({"exp": 10**17}, "lifetime-too-long", id="exp in three thousand million years"),
        pytest.param({"exp": SECONDS + 86_401}, "lifetime-too-long", id="a day and a second"),
        pytest.param({"exp": SECONDS + 86_401, "iat": ...}, "lifetime-too-long", id="a day and a second, no iat"),
        pytest.param({"iat": -(10**17)}, "lifetime-too-long", id="iat long ago"),
        pytest.param({"iat": "1"}, "token-malformed", id="iat a string"),
        pytest.param({"iat": False}, "token-malformed", id="iat false"),
        pytest.param({"iat": SECONDS + 61}, "token-not-yet-valid", id="issued in the future"),
        pytest.param({"nbf": SECONDS + 1}, "token-not-yet-valid", id="nbf in a second"),
        pytest.param({"nbf": SECONDS + 0.5}, "token-malformed", id="nbf a float"),
        pytest.param({"nbf": None}, "token-malformed", id="nbf null"),
        pytest.param({"sub": ...}, "claim-missing", id="no sub"),
        pytest.param({"sub": 5}, "token-malformed", id="sub a number"),
        pytest.param({"sub": ""}, "token-malformed", id="sub empty"),
        pytest.param({"sub": "x" * 1025}, "token-malformed", id="sub too long"),
        pytest.param({"sub": "x" * 4096}, "token-malformed", id="sub of 4 kB"),
        pytest.param({"sub": "a\nb"}, "token-malformed", id="sub with a newline"),
        pytest.param({"sub": "a\u202eb"}, "token-malformed", id="sub that turns the line around"),
        pytest.param({"sub": "a\x00b"}, "token-malformed", id="sub with NUL"),
        pytest.param({"jti": 5}, "token-malformed", id="jti a number"),
        pytest.param({"jti": ["j"]}, "token-malformed", id="jti a list"),
        pytest.param({"jti": ""}, "token-malformed", id="jti empty"),
        pytest.param({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "wrong-type", id="event"),
        pytest.param({"cnf": {"jkt": "x"}}, "token-bound", id="bound to a key"),
    ],
)
async def test_a_token_that_says_something_wrong_is_refused(verifier, signer, claims, change, reason):
    assert (
        await refusal(verifier, signer.sign_raw('{"alg":"ES256","kid":"k1"}', json.dumps(claims(**change)))) == reason
    )
    assert await verifier.verify(signer.sign(claims()), now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"aud": ["https://other.example", "https://gateway.acme.dev"]}, id="one audience of several"),
        pytest.param({"iat": ...}, id="no iat"),
        pytest.param({"nbf": SECONDS}, id="nbf now"),
        pytest.param({"iat": SECONDS + 30}, id="issued by a clock half a minute ahead"),
        pytest.param({"exp": SECONDS + 1}, id="a second left"),
        pytest.param({"exp": SECONDS + 86_400}, id="a whole day"),
        pytest.param({"jti": ...}, id="no jti"),
        pytest.param({"sub": "x" * 1024}, id="a long sub"),
        pytest.param({"sub": "système:é"}, id="a sub with letters"),
    ],
)
async def test_a_token_at_the_edge_is_good(verifier, signer, claims, change):
    assert await verifier.verify(signer.sign(claims(**change)), now=NOW)


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity", "1e400", "1e9", "9" * 40, "9" * 5000])
async def test_an_expiry_that_is_no_number_of_seconds_is_refused(verifier, signer, claims, exp):
    payload = json.dumps(claims(exp=0)).replace('"exp": 0', f'"exp": {exp}')
    assert await refusal(verifier, signer.sign_raw('{"alg":"ES256","kid":"k1"}', payload)) == "token-malformed"


async def test_a_claim_given_twice_is_refused(verifier, signer, claims):
    payload = json.dumps(claims())[:-1] + ',"sub":"repo:acme/other"}'
    assert await refusal(verifier, signer.sign_raw('{"alg":"ES256","kid":"k1"}', payload)) == "token-malformed"


@pytest.mark.parametrize(
    ("leeway", "age", "good"),
    [(0, 0, False), (0, -1, True), (30, 29, True), (30, 30, False), (30, 31, False), (60, 59, True), (600, 60, False)],
)
async def test_leeway_is_exact_and_a_minute_at_most(publisher, signer, spec, audience, claims, leeway, age, good):
    publisher.publish(signer)
    verifier = Verifier({"corp": spec(leeway=timedelta(seconds=leeway))}, audience, KeySource())
    token = signer.sign(claims(exp=SECONDS - age, iat=SECONDS - 600))
    if good:
        assert await verifier.verify(token, now=NOW)
    else:
        assert await refusal(verifier, token) == "token-expired"


async def test_the_audience_refusal_says_which_audience_is_expected(verifier, signer, claims):
    with pytest.raises(Refusal, match=r"https://gateway\.acme\.dev$"):
        await verifier.verify(signer.sign(claims(aud="https://other.example")), now=NOW)


@pytest.mark.parametrize("how", ["another key", "another payload", "zero", "one bit", "truncated", "empty object"])
async def test_a_signature_that_is_not_the_issuers_is_refused(verifier, signer, new_signer, claims, how):
    token = signer.sign(claims())
    content, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()  # noqa: E731  as short as it gets
    forged = {
        "another key": new_signer("ES256", "k1").sign(claims()),
        "another payload": signer.sign(claims(sub="repo:acme/other")).rpartition(".")[0] + "." + signature,
        "zero": f"{content}.{encode(bytes(64))}",
        "one bit": f"{content}.{encode(raw[:-1] + bytes([raw[-1] ^ 1]))}",
        "truncated": f"{content}.{encode(raw[:-1])}",
        "empty object": f"{content}.e30",
    }[how]
    assert await refusal(verifier, forged) == "bad-signature"
    assert await verifier.verify(token, now=NOW)


async def test_an_issuers_token_signed_with_another_issuers_key_is_refused(
    publisher, other_publisher, signer, new_signer, spec, audience, claims
):
    theirs = new_signer("ES256", "k-theirs")
    publisher.publish(signer)
    other_publisher.publish(theirs)
    issuers = {"corp": spec(), "other": spec(name="other", issuer=other_publisher.url)}
    verifier = Verifier(issuers, audience, KeySource())
    assert await refusal(verifier, theirs.sign(claims())) == "unknown-key"
    assert await refusal(verifier, theirs.sign(claims(), kid="k1")) == "bad-signature"
    assert (await verifier.verify(signer.sign(claims()), now=NOW)).issuer == "corp"
    assert (await verifier.verify(theirs.sign(claims(iss=other_publisher.url)), now=NOW)).issuer == "other"


@pytest.mark.parametrize(
    ("wanted", "typ", "good"),
    [
        ("at+jwt", "at+jwt", True),
        ("at+jwt", "application/at+jwt", True),
        ("at+jwt", "AT+JWT", True),
        ("at+jwt", "JWT", False),
        ("at+jwt", None, False),
        ("jwt", "JWT", True),
        ("jwt", "at+jwt", False),
        (None, "JWT", True),
        (None, "at+jwt", True),
        (None, None, True),
    ],
)
async def test_a_token_has_the_type_that_its_issuer_gives_them(
    publisher, signer, spec, audience, claims, wanted, typ, good
):
    publisher.publish(signer)
    verifier = Verifier({"corp": spec(typ=wanted)}, audience, KeySource())
    header = {"alg": "ES256", "kid": "k1"} | ({"typ": typ} if typ else {})
    token = signer.sign_raw(json.dumps(header), json.dumps(claims()))
    if good:
        assert await verifier.verify(token, now=NOW)
    else:
        assert await refusal(verifier, token) == "wrong-type"


async def test_a_token_without_kid_is_verified_with_the_only_key_that_fits(verifier, signer, claims):
    assert await verifier.verify(signer.sign(claims(), kid=None), now=NOW)


@pytest.mark.parametrize("spelling", ["{}=", "{}==", " {}", "{}\n", "{}\0", "Bearer {}"])
async def test_another_spelling_of_a_good_token_is_refused_before_and_after_it_was_seen(
    verifier, signer, claims, spelling
):
    token = signer.sign(claims())
    assert await refusal(verifier, spelling.format(token)) == "token-malformed"
    await verifier.verify(token, now=NOW)
    assert await refusal(verifier, spelling.format(token)) == "token-malformed"


async def test_a_token_is_known_by_its_issuer_and_jti_or_by_what_was_signed(verifier, signer, claims):
    async def token_id(**changes):
        return (await verifier.verify(signer.sign(claims(**changes)), now=NOW)).token_id

    assert await token_id() == await token_id(extra=1)
    assert await token_id() != await token_id(jti="j-2")
    assert await token_id(jti=...) != await token_id(jti=..., extra=1)
    unsigned = claims(jti=...)
    assert await token_id(jti=...) == (await verifier.verify(signer.sign(unsigned), now=NOW)).token_id
    assert len(await token_id()) == 32


async def test_a_verified_token_is_remembered_until_it_expires(verifier, signer, claims):
    token = signer.sign(claims(exp=SECONDS + 60))
    assert verifier.remembered(token, now=NOW) is None
    verified = await verifier.verify(token, now=NOW)
    assert verifier.remembered(token, now=NOW + timedelta(seconds=59)) is verified
    assert verifier.remembered(token, now=NOW + timedelta(seconds=60)) is None
    assert verifier.remembered(token, now=NOW) is None


async def test_a_long_lived_token_is_verified_anew_so_that_a_withdrawn_key_stops_counting(
    verifier, publisher, signer, new_signer, claims, clock
):
    token = signer.sign(claims(exp=SECONDS + 3600))
    await verifier.verify(token, now=NOW)
    publisher.publish(new_signer("ES256", "k2"))
    later = NOW + REMEMBER_FOR
    assert verifier.remembered(token, now=later) is None
    clock.advance(86_401)
    assert await refusal(verifier, token, later) == "unknown-key"


async def test_a_token_whose_issuer_is_down_too_long_is_refused_and_may_be_tried_again(
    verifier, publisher, signer, claims, clock
):
    await verifier.verify(signer.sign(claims()), now=NOW)
    publisher.fails()
    clock.advance(86_000)
    assert await verifier.verify(signer.sign(claims(jti="j-2")), now=NOW)
    clock.advance(401)
    assert await refusal(verifier, signer.sign(claims(jti="j-3"))) == "issuer-unreachable"


async def test_forgetting_covers_a_token_being_verified_at_that_moment(verifier, publisher, signer, claims):
    import asyncio

    publisher.gate.clear()
    token = signer.sign(claims())
    verifying = asyncio.create_task(verifier.verify(token, now=NOW))
    assert await asyncio.to_thread(publisher.arrived.wait, 5)
    verifier.forget()
    publisher.gate.set()
    assert await verifying
    assert verifier.remembered(token, now=NOW) is None
    await verifier.verify(token, now=NOW)
    assert verifier.remembered(token, now=NOW)
    verifier.forget()
    assert verifier.remembered(token, now=NOW) is None


async def test_the_least_used_token_is_forgotten_first(verifier, signer, claims, monkeypatch):
    monkeypatch.setattr(verify, "MAX_REMEMBERED", 2)
    tokens = [signer.sign(claims(jti=f"j-{number}")) for number in range(3)]
    for token in tokens[:2]:
        await verifier.verify(token, now=NOW)
    assert verifier.remembered(tokens[0], now=NOW)
    await verifier.verify(tokens[2], now=NOW)
    assert [bool(verifier.remembered(token, now=NOW)) for token in tokens] == [True, False, True]


async def test_a_remembered_token_costs_next_to_nothing(verifier, signer, claims):
    token = signer.sign(claims())
    await verifier.verify(token, now=NOW)
    began = time.perf_counter()
    for _ in range(1000):
        verifier.remembered(token, now=NOW)
    assert time.perf_counter() - began < 0.5


def test_a_remembered_lookup_takes_any_text(spec, audience):
    verifier = Verifier({"corp": spec()}, audience, KeySource())
    assert verifier.remembered("\ud800é\0", now=NOW) is None


def test_a_verifier_needs_an_audience_and_issuers_that_differ(spec):
    with pytest.raises(PolicyError, match="audience"):
        Verifier({"corp": spec()}, "", KeySource())
    with pytest.raises(PolicyError, match="same URL"):
        Verifier({"corp": spec(), "twin": spec(name="twin")}, "https://gateway.acme.dev", KeySource())


@settings(max_examples=100)
@given(st.integers(-100, 100), st.integers(0, 90), st.integers(-100, 100) | st.none())
def test_time_is_valid_exactly_between_not_before_and_expiry(left, leeway, until_valid):
    issuer = replace(IDP, leeway=timedelta(seconds=leeway))
    claims = {"exp": SECONDS + left} | ({} if until_valid is None else {"nbf": SECONDS + until_valid})
    granted = min(leeway, 60)
    good = left + granted > 0 and (until_valid is None or until_valid <= granted)
    try:
        assert check_times(claims, issuer, now=NOW) == NOW + timedelta(seconds=left + granted)
    except Refusal:
        assert not good
    else:
        assert good


audiences = st.text(max_size=3) | st.sampled_from(["https://a.example", "https://a.example/"])


@settings(max_examples=100)
@given(audiences.filter(bool), audiences | st.lists(audiences | st.integers(), max_size=3) | st.none() | st.integers())
def test_an_audience_passes_only_where_it_is_named_exactly(audience, found):
    named = found if isinstance(found, list) else [found]
    good = audience in named and all(isinstance(name, str) for name in named)
    try:
        check_audience({"aud": found}, audience)
    except Refusal:
        assert not good
    else:
        assert good
