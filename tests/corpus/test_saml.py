"""An assertion counts as it was signed, for this gateway, now, once; and its reader asks nobody anything."""

import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, Draft, Idp, response
from ground import AUDIENCE, Ground
from lxml import etree
from tokens import b64
from wrapping import WRAPPINGS, Wrapper

from coatcheck.identity.token_request import GRANT_TYPE, SAML2

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

STATUS = {"unknown-identity": 403}
_COUNT = itertools.count()

POLICY = """\
coatcheck: 1
issuers:
  adfs: {{issuer: {issuer}, saml: {{certificate: {certificate}}}}}
identities:
  by-assertion: {{issuer: adfs, claims: {{sub: [shop-ci, root]}}, groups: [ci]}}
"""


@pytest.fixture(scope="module")
def idp() -> Idp:
    return Idp(now=datetime.now(UTC))


@pytest.fixture(scope="module")
def ground(place: Ground, idp: Idp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("saml")
    (folder / "base.yaml").write_text(place.policy_text())
    (folder / "saml.yaml").write_text(POLICY.format(issuer=ISSUER, certificate=idp.write(folder / "idp.pem")))
    with place.running(policy=folder) as ground:
        yield ground


def draft(**changes) -> Draft:
    return Draft(now=datetime.now(UTC), **({"audience": AUDIENCE, "recipient": AUDIENCE} | changes))


def exchange(ground: Ground, assertion: bytes) -> tuple[int, dict]:
    form = {"grant_type": GRANT_TYPE, "subject_token": b64(assertion), "subject_token_type": SAML2}
    url = f"{ground.gateway.control_url}/token"
    try:
        with urllib.request.urlopen(url, urlencode(form).encode(), timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def refused(ground: Ground, idp: Idp, assertion: bytes, reason: str) -> None:
    """Neither exchanged nor good for a call; a good one is both, before and after."""
    accepted(ground, idp)
    with ground.watch(refusals=2) as watch:
        status, answer = exchange(ground, assertion)
        assert (status, answer["error"], answer["reason"]) == (STATUS.get(reason, 401), "invalid_request", reason)
        assert "access_token" not in answer
        with ground.client() as client:
            client.connect(b64(assertion)[:8000])
            client.start_tls()
            client.send(ground.post())
            assert client.read().status == 401
    assert watch.refused_for()[0] == reason
    accepted(ground, idp)


def accepted(ground: Ground, idp: Idp) -> None:
    assertion_id = f"_good{next(_COUNT)}"
    status, answer = exchange(ground, idp.sign(draft(id=assertion_id).xml, reference=f"#{assertion_id}"))
    assert status == 200, answer
    with ground.client() as client:
        client.tunnel(answer["access_token"])
        client.send(ground.post())
        assert client.read().status == 200


@pytest.mark.attack("JWT-43")
def test_an_unsigned_assertion_is_refused(ground, idp) -> None:
    refused(ground, idp, draft(signature="").xml.encode(), "token-unsigned")


@pytest.mark.attack("JWT-43")
def test_an_assertion_signed_by_another_key_is_refused(ground, idp) -> None:
    refused(ground, idp, Idp(now=datetime.now(UTC)).sign(draft().xml), "bad-signature")


@pytest.mark.attack("JWT-43")
@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapped_signature_is_refused(ground, idp, name) -> None:
    refused(ground, idp, etree.tostring(WRAPPINGS[name](Wrapper(idp, draft()))), "token-malformed")


@pytest.mark.attack("JWT-43")
@pytest.mark.parametrize("comment", ["<!---->", "<!-- x -->", "<?x?>", "<![CDATA[]]>"])
def test_a_comment_in_a_name_does_not_cut_it_short(ground, idp, comment) -> None:
    """Signed for a longer name: the canonical form has no comments, so the signature stays good."""
    name_id = f"<saml:NameID>shop-ci{comment}.evil.example</saml:NameID>"
    whole = idp.sign(draft(name_id="<saml:NameID>shop-ci.evil.example</saml:NameID>").xml)
    refused(ground, idp, whole, "unknown-identity")
    cut = whole.replace(b"<saml:NameID>shop-ci.evil.example</saml:NameID>", name_id.encode())
    assert cut != whole
    refused(ground, idp, cut, "token-malformed")


@pytest.mark.attack("JWT-43")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"audience": "https://else.example"}, "wrong-audience", id="another audience"),
        pytest.param({"audience": f"{AUDIENCE}/"}, "wrong-audience", id="almost our audience"),
        pytest.param({"conditions": ""}, "claim-missing", id="no audience"),
        pytest.param({"recipient": "https://else.example"}, "wrong-recipient", id="another recipient"),
        pytest.param({"recipient": "..."}, "wrong-recipient", id="no recipient"),
        pytest.param({"expires": "2026-01-01T00:00:00Z"}, "token-expired", id="conditions over"),
        pytest.param({"confirmed_until": "2026-01-01T00:00:00Z"}, "token-expired", id="confirmation over"),
        pytest.param({"expires": "..."}, "claim-missing", id="no end"),
        pytest.param({"confirmed_until": "..."}, "claim-missing", id="no end of the confirmation"),
        pytest.param({"not_before": "2099-01-01T00:00:00Z"}, "token-not-yet-valid", id="not yet"),
        pytest.param({"issued": "2020-01-01T00:00:00Z"}, "lifetime-too-long", id="too long a life"),
    ],
)
def test_an_assertion_for_others_or_another_time_is_refused(ground, idp, changes, reason) -> None:
    refused(ground, idp, idp.sign(draft(**changes).xml), reason)


@pytest.mark.attack("JWT-43")
def test_two_assertions_are_refused_both_signed_or_one(ground, idp) -> None:
    good, other = idp.sign(draft().xml), idp.sign(draft(id="_a2").xml, reference="#_a2")
    refused(ground, idp, response(good, other), "token-malformed")
    refused(ground, idp, response(good, draft(id="_a3", signature="").xml.encode()), "token-malformed")


@pytest.mark.attack("JWT-43")
@pytest.mark.parametrize("options", [{"signature": "rsa-sha1"}, {"digest": "sha1"}], ids=["signature", "digest"])
def test_sha1_is_refused(ground, idp, options) -> None:
    refused(ground, idp, idp.sign(draft().xml, **options), "algorithm-not-allowed")


@pytest.mark.attack("JWT-43")
def test_an_hmac_with_the_certificate_as_secret_is_refused(ground, idp) -> None:
    signed = idp.sign(draft().xml, signature="hmac-sha256", key=idp.pem, embeds_certificate=False)
    refused(ground, idp, signed, "algorithm-not-allowed")


@pytest.mark.attack("JWT-43")
@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a SYSTEM "{url}/a.dtd">',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "{url}/x">]>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "{url}/p">%x;]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<?xml-stylesheet href="{url}/s"?>',
    ],
)
def test_nothing_is_expanded_and_nobody_is_asked(ground, idp, doctype) -> None:
    url = f"http://{ground.rest.authority}"
    signed = idp.sign(draft().xml)
    refused(ground, idp, doctype.format(url=url).encode() + signed, "token-malformed")
    with_entity = signed.replace(b">shop-ci<", b">&x;<")
    refused(ground, idp, doctype.format(url=url).encode() + with_entity, "token-malformed")


@pytest.mark.attack("JWT-43")
def test_an_assertion_that_was_used_is_refused(ground, idp) -> None:
    once = idp.sign(draft(id="_once").xml, reference="#_once")
    assert exchange(ground, once)[0] == 200
    refused(ground, idp, once, "token-replayed")
    refused(ground, idp, response(once), "token-replayed")


@pytest.mark.attack("JWT-43")
def test_an_encrypted_assertion_is_refused(ground, idp) -> None:
    refused(ground, idp, response(b"<saml:EncryptedAssertion/>"), "token-encrypted")
