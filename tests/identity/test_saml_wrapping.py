"""Signature wrapping (Somorovsky and others, "On Breaking SAML", 2012): a good signature carried along by another text.

Each attack starts from an assertion that is accepted as it is.
"""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, NAMESPACES, Draft, Idp, response
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from coatcheck.errors import Refusal
from coatcheck.identity.saml import verify_assertion
from coatcheck.policy.model import IssuerSpec, SamlTrust

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AUDIENCE = "https://gateway.acme.dev"
DRAFT = Draft(now=NOW, audience=AUDIENCE, recipient=AUDIENCE, attributes={"groups": ["ci"]})
IDP = Idp(now=NOW)
GOOD = IDP.sign(DRAFT.xml)
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


def parse(data: bytes) -> etree._Element:
    return etree.fromstring(data)


def find(element: etree._Element, name: str) -> etree._Element:
    return element.find(f".//{name}", namespaces=NAMESPACES)


def evil(assertion_id: str = "_evil", *, signature: bool = False) -> etree._Element:
    """The attacker's assertion: unsigned, or with the good one's signature on it."""
    draft = replace(DRAFT, id=assertion_id, name_id="<saml:NameID>root</saml:NameID>", signature="")
    made = parse(draft.xml.encode())
    if signature:
        made.insert(1, find(parse(GOOD), "ds:Signature"))
    return made


def unsigned() -> etree._Element:
    """The good assertion without its signature: what the signature is over."""
    bare = parse(GOOD)
    bare.remove(find(bare, "ds:Signature"))
    return bare


def in_object(signature: etree._Element, inside: etree._Element) -> None:
    etree.SubElement(signature, f"{{{NAMESPACES['ds']}}}Object").append(inside)


def response_signed() -> etree._Element:
    """A response that is signed as a whole, its assertion not: XSW 1 and 2 start from one."""
    inside = replace(DRAFT, signature="").xml.encode()
    mark = b"<ds:Signature Id='placeholder'/>"
    return parse(IDP.sign(response(inside, more=mark).decode(), reference="#_r1"))


def evil_response(original: etree._Element) -> etree._Element:
    """A copy of a signed response with another ID and subject; its signature still names the original's ID."""
    made = copy.deepcopy(original)
    made.set("ID", "_evil")
    find(made, "saml:NameID").text = "root"
    return made


def test_xsw1_a_signed_response_inside_the_signature_of_another():
    original = response_signed()
    made = evil_response(original)
    original.remove(original.find("ds:Signature", namespaces=NAMESPACES))
    in_object(made.find("ds:Signature", namespaces=NAMESPACES), original)
    assert refusal(made) == "token-malformed"


def test_xsw2_a_signed_response_before_the_signature_of_another():
    original = response_signed()
    made = evil_response(original)
    original.remove(original.find("ds:Signature", namespaces=NAMESPACES))
    made.insert(1, original)
    assert refusal(made) == "token-malformed"


def test_a_response_that_is_signed_while_its_assertion_is_not_does_not_count():
    assert refusal(response_signed()) == "token-unsigned"


@pytest.mark.parametrize("at", [2, 3], ids=["before", "behind"])
def test_xsw3_another_assertion_beside_the_signed_one(at):
    made = parse(response(GOOD))
    made.insert(at, evil())
    assert refusal(made) == "token-malformed"


@pytest.mark.parametrize("in_response", [True, False])
def test_xsw4_the_signed_assertion_inside_another(in_response):
    made = evil()
    made.append(parse(GOOD))
    assert refusal(wrapped(made) if in_response else made) == "token-malformed"


@pytest.mark.parametrize("in_response", [True, False])
def test_xsw5_the_signature_in_another_assertion_the_signed_one_behind_it(in_response):
    made = evil(signature=True)
    if in_response:
        made = wrapped(made)
    made.append(unsigned())
    assert refusal(made) == "token-malformed"


@pytest.mark.parametrize("in_response", [True, False])
def test_xsw6_the_signature_in_another_assertion_the_signed_one_inside_it(in_response):
    made = evil(signature=True)
    find(made, "ds:Signature").append(unsigned())
    assert refusal(wrapped(made) if in_response else made) == "token-malformed"


def test_xsw7_another_assertion_among_extensions():
    made = parse(response(GOOD))
    extensions = etree.Element(f"{{{NAMESPACES['samlp']}}}Extensions")
    extensions.append(evil("_a1"))
    made.insert(1, extensions)
    assert refusal(made) == "token-malformed"


@pytest.mark.parametrize("in_response", [True, False])
def test_xsw8_the_signed_assertion_in_an_object_of_the_signature(in_response):
    made = evil(signature=True)
    in_object(find(made, "ds:Signature"), unsigned())
    assert refusal(wrapped(made) if in_response else made) == "token-malformed"


@pytest.mark.parametrize("assertion_id", ["_a1", "_evil"])
def test_the_signature_moved_to_another_assertion_signs_nothing_there(assertion_id):
    made = evil(assertion_id, signature=True)
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


def test_a_second_signature_anywhere_is_refused():
    around = parse(IDP.sign(response(GOOD, more=b"<ds:Signature Id='placeholder'/>").decode(), reference="#_r1"))
    assert refusal(around) == "token-malformed"
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


def wrapped(assertion: etree._Element) -> etree._Element:
    document = parse(response())
    document.append(assertion)
    return document


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_however_the_parts_are_moved_or_copied_nothing_new_is_believed(data):
    """Any wrapping there is: parts of a good and of a forged assertion, put together in any way."""
    document = parse(response(GOOD))
    if data.draw(st.booleans()):
        document.append(evil(data.draw(st.sampled_from(["_a1", "_evil"])), signature=data.draw(st.booleans())))
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
