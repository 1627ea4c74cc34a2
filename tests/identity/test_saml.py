import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, Draft, Idp, response

from coatcheck.errors import Refusal
from coatcheck.identity.match import match_identity
from coatcheck.identity.saml import verify_assertion
from coatcheck.policy.model import Identity, IssuerSpec, SamlTrust

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AUDIENCE = "https://gateway.acme.dev"
RECIPIENT = "https://gateway.acme.dev/token"
DRAFT = Draft(now=NOW, audience=AUDIENCE, recipient=RECIPIENT)
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"


@pytest.fixture(scope="module")
def idp() -> Idp:
    return Idp(now=NOW)


def issuers(*idps: Idp, **changes) -> dict[str, IssuerSpec]:
    trust = SamlTrust(tuple(each.der for each in idps), RECIPIENT)
    return {"adfs": replace(IssuerSpec("adfs", ISSUER, (), max_lifetime=timedelta(hours=1), saml=trust), **changes)}


def verify(assertion: bytes, idp: Idp, now: datetime = NOW, **changes):
    return verify_assertion(assertion, issuers(idp, **changes), audience=AUDIENCE, now=now)


def refusal(assertion: bytes, idp: Idp, now: datetime = NOW, **changes) -> str:
    """The reason; also holds that nothing of what the assertion says is in the message."""
    with pytest.raises(Refusal) as refused:
        verify(assertion, idp, now, **changes)
    assert refused.value.status == 401
    assert "shop-ci" not in f"{refused.value} {refused.value.data()}"
    return refused.value.reason


def test_a_good_assertion_says_who_it_is(idp):
    draft = replace(
        DRAFT,
        name_id='<saml:NameID Format="urn:x" NameQualifier="q">shop-ci</saml:NameID>',
        attributes={"groups": ["ci", "readers"], "urn:oid:1.2.3": ["74627617"], "empty": []},
    )
    verified = verify(idp.sign(draft.xml), idp)
    seconds = int(NOW.timestamp())
    assert (verified.issuer, verified.subject, verified.expires_at) == ("adfs", "shop-ci", NOW + timedelta(minutes=5))
    assert verified.token_id == hashlib.sha256(f"{ISSUER}\0_a1".encode()).hexdigest()[:32]
    assert verified.claims == {
        "iss": ISSUER,
        "sub": "shop-ci",
        "aud": [AUDIENCE],
        "iat": seconds,
        "nbf": seconds - 60,
        "exp": seconds + 300,
        "name_id_format": "urn:x",
        "name_qualifier": "q",
        "groups": ["ci", "readers"],
        "urn:oid:1.2.3": ["74627617"],
        "empty": [],
    }


def test_a_response_with_one_signed_assertion_in_it_is_as_good(idp):
    assert verify(response(idp.sign(DRAFT.xml)), idp) == verify(idp.sign(DRAFT.xml), idp)
    pretty = response(b"\n  ", idp.sign(DRAFT.xml), b"\n")
    assert verify(b'<?xml version="1.0" encoding="UTF-8"?>\n' + pretty, idp).subject == "shop-ci"


def test_attributes_are_matched_and_make_groups_even_where_there_is_one(idp):
    verified = verify(idp.sign(replace(DRAFT, attributes={"dept": ["shop"], "roles": ["ci"]}).xml), idp)
    spec = issuers(idp, groups_claim="roles")
    identities = {name: Identity(name, "adfs", {"dept": name}) for name in ("shop", "sho")}
    caller = match_identity(identities, spec, verified, now=NOW)
    assert (caller.name, caller.groups) == ("shop", {"ci"})


def test_an_attribute_may_come_in_several_elements(idp):
    more = '<saml:AttributeStatement><saml:Attribute Name="a"><saml:AttributeValue>y</saml:AttributeValue>'
    draft = replace(DRAFT, attributes={"a": ["x"]}, more=f"{more}</saml:Attribute></saml:AttributeStatement>")
    assert verify(idp.sign(draft.xml), idp).claims["a"] == ["x", "y"]


@pytest.mark.parametrize(
    ("alg", "signature", "digest"),
    [
        ("rsa", "rsa-sha256", "sha256"),
        ("rsa", "rsa-sha384", "sha384"),
        ("rsa", "rsa-sha512", "sha512"),
        ("rsa", "sha256-rsa-MGF1", "sha256"),
        ("ec", "ecdsa-sha256", "sha256"),
        ("ec", "ecdsa-sha512", "sha512"),
    ],
)
def test_strong_signatures_verify_and_the_same_kind_by_another_key_does_not(alg, signature, digest):
    ours, other = Idp(now=NOW, alg=alg), Idp(now=NOW, alg=alg)
    options = {"signature": signature, "digest": digest}
    assert verify(ours.sign(DRAFT.xml, **options), ours).subject == "shop-ci"
    assert refusal(other.sign(DRAFT.xml, **options), ours) == "bad-signature"


def test_a_key_kind_that_is_not_the_certificates_does_not_verify(idp):
    assert refusal(Idp(now=NOW, alg="ec").sign(DRAFT.xml), idp) == "bad-signature"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"signature": "rsa-sha1"}, id="RSA with SHA-1"),
        pytest.param({"digest": "sha1"}, id="a digest by SHA-1"),
        pytest.param({"signature": "rsa-sha224"}, id="RSA with SHA-224"),
        pytest.param({"digest": "sha224"}, id="a digest by SHA-224"),
        pytest.param({"signature": "sha1-rsa-MGF1"}, id="PSS with SHA-1"),
        pytest.param({"digest": "sha3-256"}, id="a digest nobody asked for"),
    ],
)
def test_weak_or_unknown_algorithms_are_refused(idp, options):
    assert refusal(idp.sign(DRAFT.xml, **options), idp) == "algorithm-not-allowed"
    assert verify(idp.sign(DRAFT.xml), idp)


def test_a_shared_secret_made_of_the_certificate_is_refused(idp):
    for secret in (idp.pem, idp.der, b"x"):
        signed = idp.sign(DRAFT.xml, signature="hmac-sha256", key=secret, embeds_certificate=False)
        assert refusal(signed, idp) == "algorithm-not-allowed"
    assert verify(idp.sign(DRAFT.xml, embeds_certificate=False), idp)


@pytest.mark.parametrize(
    "c14n",
    [
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2001/10/xml-exc-c14n#WithComments",
    ],
)
def test_other_canonical_forms_are_refused(idp, c14n):
    assert refusal(idp.sign(DRAFT.xml, c14n=c14n), idp) == "token-malformed"
    assert verify(idp.sign(DRAFT.xml, inclusive_ns_prefixes=["saml"]), idp)


def test_the_certificate_an_assertion_brings_along_proves_nothing(idp):
    other = Idp(now=NOW)
    assert refusal(other.sign(DRAFT.xml), idp) == "bad-signature"
    assert refusal(other.sign(DRAFT.xml, always_add_key_value=True, embeds_certificate=False), idp) == "bad-signature"
    assert verify(idp.sign(DRAFT.xml, cert=[other.certificate]), idp).subject == "shop-ci"


def test_while_an_issuer_changes_its_key_both_certificates_count(idp):
    new = Idp(now=NOW)
    both = issuers(idp, new)
    for each in (idp, new):
        assert verify_assertion(each.sign(DRAFT.xml), both, audience=AUDIENCE, now=NOW)


def test_a_certificate_counts_while_it_is_valid(idp):
    assert refusal(idp.sign(DRAFT.xml), idp, now=NOW + timedelta(days=31)) == "certificate-expired"
    assert refusal(idp.sign(DRAFT.xml), idp, now=NOW - timedelta(days=2)) == "certificate-expired"
    late = Idp(now=NOW, days=1)
    past = Idp(now=NOW - timedelta(days=30), days=1)
    rolled = issuers(past, late)
    assert verify_assertion(late.sign(DRAFT.xml), rolled, audience=AUDIENCE, now=NOW)
    with pytest.raises(Refusal, match="bad-signature"):
        verify_assertion(past.sign(DRAFT.xml), rolled, audience=AUDIENCE, now=NOW)


def test_an_unsigned_assertion_is_refused(idp):
    unsigned = replace(DRAFT, signature="").xml.encode()
    assert refusal(unsigned, idp) == "token-unsigned"
    assert refusal(response(unsigned), idp) == "token-unsigned"
    signed = idp.sign(DRAFT.xml)
    start, end = signed.index(b"<ds:Signature>"), signed.index(b"</ds:Signature>") + len(b"</ds:Signature>")
    assert refusal(signed[:start] + signed[end:], idp) == "token-unsigned"
    assert refusal(replace(DRAFT, signature="<ds:Signature/>").xml.encode(), idp) == "token-malformed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"shop-ci", b"shop-cd"),
        (b"shop-ci", b"shop-ci "),
        (b"https://gateway.acme.dev/token", b"https://gateway.evil.dev/token"),
        (b"12:10:00Z", b"12:20:00Z"),
        (b'ID="_a1"', b'ID="_a1" x="y"'),
        (b"<saml:Conditions", b"<saml:Conditions a='b'"),
    ],
)
def test_a_changed_assertion_is_refused(idp, old, new):
    signed = idp.sign(DRAFT.xml)
    assert old in signed
    assert refusal(signed.replace(old, new), idp) == "bad-signature"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"issuer": ""}, "claim-missing", id="no issuer"),
        pytest.param({"issuer": "<saml:Issuer>https://evil.example</saml:Issuer>"}, "wrong-issuer", id="unknown"),
        pytest.param({"issuer": f"<saml:Issuer>{ISSUER} </saml:Issuer>"}, "wrong-issuer", id="a space more"),
        pytest.param({"issuer": "<saml:Issuer>adfs</saml:Issuer>"}, "wrong-issuer", id="by its name in policy"),
        pytest.param({"issuer": f"<saml:Issuer>{ISSUER}</saml:Issuer>" * 2}, "token-malformed", id="two issuers"),
        pytest.param({"issuer": f'<saml:Issuer Format="urn:x">{ISSUER}</saml:Issuer>'}, "wrong-issuer", id="no entity"),
        pytest.param({"version": "1.1"}, "token-malformed", id="version 1.1"),
        pytest.param({"version": "..."}, "token-malformed", id="no version"),
        pytest.param({"audience": "https://gateway2.acme.dev"}, "wrong-audience", id="another gateway"),
        pytest.param({"audience": f"{AUDIENCE}/"}, "wrong-audience", id="a slash more"),
        pytest.param({"audience": f" {AUDIENCE}"}, "wrong-audience", id="a space more in front"),
        pytest.param({"audience": f"{AUDIENCE}.evil.example"}, "wrong-audience", id="more behind it"),
        pytest.param({"conditions": ""}, "claim-missing", id="no audience at all"),
        pytest.param({"conditions": "<saml:AudienceRestriction/>"}, "wrong-audience", id="no audience named"),
        pytest.param({"conditions": "<saml:OneTimeUse/>"}, "claim-missing", id="another condition only"),
        pytest.param(
            {
                "conditions": "".join(
                    f"<saml:AudienceRestriction><saml:Audience>{each}</saml:Audience></saml:AudienceRestriction>"
                    for each in (AUDIENCE, "https://other.example")
                )
            },
            "wrong-audience",
            id="a second restriction that leaves us out",
        ),
        pytest.param(
            {
                "conditions": f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience>"
                "</saml:AudienceRestriction><saml:ProxyRestriction Count='0'/>"
            },
            "token-malformed",
            id="a condition that is not understood",
        ),
        pytest.param({"recipient": "https://gateway.acme.dev/other"}, "wrong-recipient", id="another recipient"),
        pytest.param({"recipient": "..."}, "wrong-recipient", id="no recipient"),
        pytest.param({"recipient": AUDIENCE}, "wrong-recipient", id="the audience as recipient"),
        pytest.param({"method": "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"}, "token-bound", id="holder of key"),
        pytest.param({"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"}, "token-bound", id="sender vouches"),
        pytest.param({"confirmation": ""}, "claim-missing", id="no confirmation"),
        pytest.param(
            {"confirmation": f'<saml:SubjectConfirmation Method="{BEARER}"/>'}, "claim-missing", id="confirmed bare"
        ),
        pytest.param({"expires": DRAFT.at(0)}, "token-expired", id="expires now"),
        pytest.param({"expires": DRAFT.at(-1), "issued": DRAFT.at(-9)}, "token-expired", id="expired"),
        pytest.param({"confirmed_until": DRAFT.at(0)}, "token-expired", id="confirmed until now"),
        pytest.param({"expires": "..."}, "claim-missing", id="no expiry"),
        pytest.param({"confirmed_until": "..."}, "claim-missing", id="confirmed for ever"),
        pytest.param({"not_before": DRAFT.at(1)}, "token-not-yet-valid", id="not yet valid"),
        pytest.param({"issued": DRAFT.at(2)}, "token-not-yet-valid", id="issued in the future"),
        pytest.param({"issued": "..."}, "claim-missing", id="no issue instant"),
        pytest.param({"issued": DRAFT.at(-56)}, "lifetime-too-long", id="an hour and a minute"),
        pytest.param({"expires": "2026-11-24T12:10:00"}, "token-malformed", id="local time"),
        pytest.param({"expires": "2026-11-24T12:10:00+00:00"}, "token-malformed", id="an offset"),
        pytest.param({"expires": "2026-11-24"}, "token-malformed", id="a date"),
        pytest.param({"expires": "2026-13-24T12:10:00Z"}, "token-malformed", id="month 13"),
        pytest.param({"expires": "2026-11-24T24:00:00Z"}, "token-malformed", id="hour 24"),
        pytest.param({"expires": "\u0662026-11-24T12:10:00Z"}, "token-malformed", id="other digits"),
        pytest.param({"expires": ""}, "token-malformed", id="an empty time"),
        pytest.param({"name_id": ""}, "claim-missing", id="no subject"),
        pytest.param({"name_id": "<saml:NameID/>"}, "token-malformed", id="an empty subject"),
        pytest.param({"name_id": "<saml:NameID>a\nb</saml:NameID>"}, "token-malformed", id="a subject of two lines"),
        pytest.param({"name_id": "<saml:NameID>a<b/>c</saml:NameID>"}, "token-malformed", id="a subject with a part"),
        pytest.param({"name_id": "<saml:NameID>a</saml:NameID>" * 2}, "token-malformed", id="two subjects"),
        pytest.param({"name_id": "<saml:BaseID/>"}, "token-malformed", id="a subject of another kind"),
        pytest.param({"name_id": f"<saml:NameID>{'x' * 1025}</saml:NameID>"}, "token-malformed", id="too long"),
        pytest.param({"more": "<saml:Advice/>"}, "token-malformed", id="advice"),
        pytest.param({"more": "<saml:AuthzDecisionStatement/>"}, "token-malformed", id="an unknown statement"),
        pytest.param({"more": "text"}, "token-malformed", id="text between"),
        pytest.param(
            {"more": f'<saml:AuthnStatement SessionNotOnOrAfter="{DRAFT.at(0)}"/>'}, "token-expired", id="session over"
        ),
        pytest.param({"attributes": {"sub": ["root"]}}, "token-malformed", id="an attribute called sub"),
        pytest.param({"attributes": {"exp": ["x"]}}, "token-malformed", id="an attribute called exp"),
        pytest.param({"attributes": {"": ["x"]}}, "token-malformed", id="an attribute without a name"),
        pytest.param({"attributes": {"a": ["<b>x</b>"]}}, "token-malformed", id="a value with parts"),
        pytest.param(
            {
                "attributes": {"a": ["x"]},
                "more": '<saml:AttributeStatement><saml:Attribute Name="a" NameFormat="urn:x"/>'
                "</saml:AttributeStatement>",
            },
            "token-malformed",
            id="one name for two attributes",
        ),
    ],
)
def test_what_is_signed_is_checked_all_the_same(idp, changes, reason):
    assert refusal(idp.sign(replace(DRAFT, **changes).xml), idp) == reason
    assert verify(idp.sign(DRAFT.xml), idp)


def test_an_id_must_be_usable_for_telling_assertions_apart(idp):
    for bad in ("", "1a", "a b", "x" * 257):
        draft = replace(DRAFT, id=bad)
        assert refusal(idp.sign(draft.xml, reference="#" + bad), idp) in {"token-malformed", "bad-signature"}, bad
    long = replace(DRAFT, id="x" * 256)
    assert verify(idp.sign(long.xml, reference="#" + "x" * 256), idp)


def test_leeway_bends_times_and_no_more_than_a_minute(idp):
    signed = idp.sign(replace(DRAFT, not_before=DRAFT.at(0.5)).xml)
    assert refusal(signed, idp) == "token-not-yet-valid"
    assert verify(signed, idp, leeway=timedelta(seconds=30))
    assert verify(signed, idp, now=NOW + timedelta(minutes=5, seconds=29), leeway=timedelta(seconds=30))
    late = NOW + timedelta(minutes=6)
    assert refusal(signed, idp, now=late, leeway=timedelta(hours=1)) == "token-expired"


def test_fractions_of_seconds_count(idp):
    signed = idp.sign(replace(DRAFT, confirmed_until="2026-11-24T12:00:00.5009999Z").xml)
    assert verify(signed, idp).expires_at == NOW + timedelta(microseconds=500_999)
    assert refusal(signed, idp, now=NOW + timedelta(microseconds=500_999)) == "token-expired"


def test_several_audiences_in_one_restriction_are_one_of_each(idp):
    both = "".join(f"<saml:Audience>{each}</saml:Audience>" for each in ("https://other.example", AUDIENCE))
    draft = replace(DRAFT, conditions=f"<saml:AudienceRestriction>{both}</saml:AudienceRestriction>")
    assert verify(idp.sign(draft.xml), idp).claims["aud"] == ["https://other.example", AUDIENCE]


def test_without_a_recipient_in_policy_the_audience_is_the_recipient(idp):
    spec = issuers(idp, saml=SamlTrust((idp.der,)))
    to_audience = idp.sign(replace(DRAFT, recipient=AUDIENCE).xml)
    assert verify_assertion(to_audience, spec, audience=AUDIENCE, now=NOW)
    with pytest.raises(Refusal, match="wrong-recipient"):
        verify_assertion(idp.sign(DRAFT.xml), spec, audience=AUDIENCE, now=NOW)


def test_an_issuer_of_jwts_vouches_for_no_assertion(idp):
    oidc = {"adfs": IssuerSpec("adfs", ISSUER, ("RS256",))}
    with pytest.raises(Refusal, match="wrong-issuer"):
        verify_assertion(idp.sign(DRAFT.xml), oidc, audience=AUDIENCE, now=NOW)
    both = issuers(idp) | {"oidc": oidc["adfs"]}
    assert verify_assertion(idp.sign(DRAFT.xml), both, audience=AUDIENCE, now=NOW).issuer == "adfs"


@pytest.mark.parametrize(
    "encrypted",
    [
        {"name_id": "<saml:EncryptedID/>"},
        {"more": "<saml:AttributeStatement><saml:EncryptedAttribute/></saml:AttributeStatement>"},
        {"more": '<x:EncryptedData xmlns:x="http://www.w3.org/2001/04/xmlenc#"/>'},
    ],
)
def test_what_is_encrypted_is_refused(idp, encrypted):
    assert refusal(idp.sign(replace(DRAFT, **encrypted).xml), idp) == "token-encrypted"
    assert refusal(response(b"<saml:EncryptedAssertion/>"), idp) == "token-encrypted"
    assert verify(idp.sign(DRAFT.xml), idp)


def test_the_assertion_is_never_logged_whatever_the_level(idp, caplog):
    caplog.set_level("DEBUG")
    signed = idp.sign(DRAFT.xml)
    caplog.clear()
    assert verify(signed, idp)
    assert "shop-ci" not in caplog.text


def test_an_assertion_that_is_too_large_is_refused_unread(idp):
    padded = idp.sign(replace(DRAFT, attributes={"a": ["x" * 36_000]}).xml)
    assert verify(padded, idp)
    assert refusal(padded + b" " * 5_000, idp) == "token-too-large"
    assert refusal(b"<" * 5_000_000, idp) == "token-too-large"
