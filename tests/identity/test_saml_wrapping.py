"""A good signature, carried along by another text: each attack starts from an assertion that is accepted as it is."""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, NAMESPACES, Draft, Idp, response
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from wrapping import WRAPPINGS, Wrapper, find, parse

from coatcheck.errors import Refusal
from coatcheck.identity.saml import verify_assertion
from coatcheck.policy.model import IssuerSpec, SamlTrust

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AUDIENCE = "https://gateway.acme.dev"
DRAFT = Draft(now=NOW, audience=AUDIENCE, recipient=AUDIENCE, attributes={"groups": ["ci"]})
IDP = Idp(now=NOW)
WRAPPER = Wrapper(IDP, DRAFT)
GOOD = WRAPPER.good
ISSUERS = {"adfs": IssuerSpec("adfs", ISSUER, (), max_lifetime=timedelta(hours=1), saml=SamlTrust((IDP.der,)))}


def verify(assertion: bytes):
    return verify_assertion(assertion, ISSUERS, audience=AUDIENCE, now=NOW)


VERIFIED = verify(GOOD)


def refusal(document: etree._Element) -> str:
    with pytest.raises(Refusal) as refused:
        verify(etree.tostring(document))
    assert refused.value.status == 401
    assert verify(GOOD) == VERIFIED
    return refused.value.reason


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_known_wrapping_is_refused(name):
    assert refusal(WRAPPINGS[name](WRAPPER)) == "token-malformed"


def test_a_response_that_is_signed_while_its_assertion_is_not_does_not_count():
    assert refusal(WRAPPER.signed_response()) == "token-unsigned"


@pytest.mark.parametrize("assertion_id", ["_a1", "_evil"])
def test_the_signature_moved_to_another_assertion_signs_nothing_there(assertion_id):
    made = WRAPPER.evil(assertion_id, signature=True)
    assert refusal(made) == {"_a1": "bad-signature", "_evil": "token-malformed"}[assertion_id]


def test_an_id_in_another_spelling_does_not_draw_the_reference_away():
    for name in ("Id", "id", "{urn:x}ID", "{http://www.w3.org/XML/1998/namespace}id"):
        made = parse(GOOD)
        find(made, "saml:NameID").set(name, "_a1")
        assert refusal(made) == "token-malformed", name


@pytest.mark.parametrize("reference", ["", "#_r1", "#xpointer(/)", "https://idp.example/a.xml", "file:///etc/passwd"])
def test_a_reference_to_anything_but_the_assertion_is_refused(reference):
    made = parse(GOOD)
    find(made, "ds:Reference").set("URI", reference)
    assert refusal(made) == "token-malformed"


def test_a_signature_over_two_things_or_with_other_transforms_is_refused():
    twice = parse(GOOD)
    find(twice, "ds:SignedInfo").append(copy.deepcopy(find(twice, "ds:Reference")))
    assert refusal(twice) == "token-malformed"
    for algorithm in ("http://www.w3.org/TR/1999/REC-xslt-19991116", "http://www.w3.org/TR/1999/REC-xpath-19991116"):
        other = parse(GOOD)
        transform = etree.SubElement(find(other, "ds:Transforms"), f"{{{NAMESPACES['ds']}}}Transform")
        transform.set("Algorithm", algorithm)
        assert refusal(other) == "token-malformed"
        find(other, "ds:Transform").set("Algorithm", algorithm)
        find(other, "ds:Transforms").remove(transform)
        assert refusal(other) == "token-malformed"


def test_a_response_may_be_signed_too_and_its_signature_proves_nothing():
    mark = b"<ds:Signature Id='placeholder'/>"
    both = IDP.sign(response(GOOD, more=mark).decode(), reference="#_r1")
    assert verify(both) == VERIFIED
    other = Idp(now=NOW)
    assert verify(other.sign(response(GOOD, more=mark).decode(), reference="#_r1")) == VERIFIED
    theirs = other.sign(DRAFT.xml)
    assert refusal(parse(IDP.sign(response(theirs, more=mark).decode(), reference="#_r1"))) == "bad-signature"
    unsigned = parse(both)
    assertion = unsigned.find("saml:Assertion", namespaces=NAMESPACES)
    assertion.remove(find(assertion, "ds:Signature"))
    assert refusal(unsigned) == "token-unsigned"
    twice = parse(both)
    twice.append(copy.deepcopy(twice.find("ds:Signature", namespaces=NAMESPACES)))
    assert refusal(twice) == "token-malformed"


def test_a_signature_stands_behind_the_issuer_and_nowhere_else():
    """It is cut out before what it signs is looked at, so that it would verify in any place."""
    for at in (0, 2, 3, 100):
        made = parse(GOOD)
        signature = find(made, "ds:Signature")
        made.remove(signature)
        made.insert(at, signature)
        assert refusal(made) == "token-malformed", at


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'<?xml version="1.0" encoding="utf-16"?>' + GOOD, id="said to be UTF-16"),
        pytest.param(b'<?xml version="1.0" encoding="utf-7"?>' + GOOD, id="said to be UTF-7"),
        pytest.param(b'<?xml version="1.0" encoding="ISO-8859-1"?>' + GOOD, id="said to be Latin-1"),
        pytest.param(b'<?xml version="1.1"?>' + GOOD, id="XML 1.1"),
        pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.decode().encode("utf-32"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="a byte order mark"),
        pytest.param(b"\n" + GOOD, id="a line end first"),
        pytest.param(GOOD + b"<!-- x -->", id="a comment behind it"),
        pytest.param(GOOD + GOOD, id="twice"),
        pytest.param(GOOD.replace(b">shop-ci<", b">shop<!-- -->-ci<"), id="a comment in a text"),
        pytest.param(GOOD.replace(b">shop-ci<", b"><![CDATA[shop-ci]]><"), id="a CDATA section"),
        pytest.param(GOOD.replace(b">shop-ci<", b">&shop;<"), id="an entity"),
        pytest.param(GOOD.replace(b">shop-ci<", b">shop-ci&#0;<"), id="a NUL by its number"),
        pytest.param(b"<e:Envelope xmlns:e='urn:e'>" + GOOD + b"</e:Envelope>", id="in an envelope"),
    ],
)
def test_another_form_of_the_same_text_is_refused(data):
    with pytest.raises(Refusal) as refused:
        verify(data)
    assert (refused.value.status, refused.value.reason) == (401, "token-malformed")
    assert verify(b'<?xml version="1.0" encoding="UTF-8"?>' + GOOD + b"\n") == VERIFIED
    assert verify(GOOD.replace(b">shop-ci<", b">shop&#45;ci<")) == VERIFIED


def test_a_second_signature_elsewhere_is_refused():
    for place in ("saml:Subject", "ds:Signature", "ds:X509Data"):
        made = parse(GOOD)
        find(made, place).append(copy.deepcopy(find(made, "ds:Signature")))
        assert refusal(made) == "token-malformed", place


def test_a_signature_holds_what_saml_lets_it_hold_and_in_order():
    for name, at in (("Object", 3), ("Object", 2), ("KeyInfo", 3), ("Manifest", 0)):
        made = parse(GOOD)
        find(made, "ds:Signature").insert(at, etree.Element(f"{{{NAMESPACES['ds']}}}{name}"))
        assert refusal(made) == "token-malformed", name
    for place, what in (("ds:SignatureMethod", "HMACOutputLength"), ("ds:DigestMethod", "x")):
        made = parse(GOOD)
        etree.SubElement(find(made, place), f"{{{NAMESPACES['ds']}}}{what}")
        assert refusal(made) == "token-malformed", place
    for place in ("ds:SignatureValue", "ds:DigestValue"):
        made = parse(GOOD)
        find(made, place).text = "not base64!"
        assert refusal(made) == "token-malformed", place


def test_two_assertions_that_are_both_signed_are_one_too_many():
    other = IDP.sign(replace(DRAFT, id="_a2").xml, reference="#_a2")
    assert verify(other).subject == "shop-ci"
    assert refusal(parse(response(GOOD, other))) == "token-malformed"
    assert refusal(parse(response(GOOD, GOOD))) == "token-malformed"


def test_nothing_else_is_taken_for_a_document_with_an_assertion():
    for around in ("<x>{}</x>", '<samlp:AuthnRequest xmlns:samlp="urn:x">{}</samlp:AuthnRequest>'):
        assert refusal(parse(around.format(GOOD.decode()).encode())) == "token-malformed"
    nested = parse(response())
    nested.append(parse(response(GOOD)))
    assert refusal(nested) == "token-malformed"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_however_the_parts_are_moved_or_copied_nothing_new_is_believed(data):
    """Any wrapping there is: parts of a good and of a forged assertion, put together in any way."""
    document = parse(response(GOOD))
    if data.draw(st.booleans()):
        document.append(WRAPPER.evil(data.draw(st.sampled_from(["_a1", "_evil"])), signature=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        parts = list(document.iter())
        part, place = (parts[data.draw(st.integers(0, len(parts) - 1))] for _ in range(2))
        if part is document or part in place.iterancestors() or part is place:
            continue
        moved = copy.deepcopy(part) if data.draw(st.booleans()) else part
        place.insert(data.draw(st.integers(0, len(place))), moved)
        if data.draw(st.booleans()) and "ID" in moved.attrib:
            moved.set("ID", data.draw(st.sampled_from(["_a1", "_r1", "_evil"])))
    root = document if data.draw(st.booleans()) else find(document, "saml:Assertion")
    try:
        verified = verify(etree.tostring(root))
    except Refusal:
        return
    assert verified == VERIFIED


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_however_the_bytes_are_changed_nothing_new_is_believed(data):
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        until = min(len(changed), at + data.draw(st.integers(0, 40)))
        changed[at:until] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(FRAGMENTS)))
    try:
        verified = verify(bytes(changed))
    except Refusal:
        return
    assert verified == VERIFIED


FRAGMENTS = [
    b"<!---->",
    b"<!DOCTYPE a>",
    b"&#0;",
    b"&x;",
    b"</saml:Subject>",
    b"<saml:NameID>root</saml:NameID>",
    b"]]>",
]
