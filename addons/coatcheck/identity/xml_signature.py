"""The signature of one XML element (XML Signature 1.1; SAML 2.0 Core section 5.4). Needs the extra `saml`.

Law: a signature is looked at only in the one shape that SAML gives it: enveloped in the element whose ID its only
reference names, exclusive canonicalization, nothing else. Everything that makes wrapping possible is another shape.
Law: what comes out are the bytes whose digest was signed; the input document is not asked again.
Law: the key is the one that policy pins; what the document says about keys is not read.
"""

import binascii
import logging
from collections.abc import Sequence
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import load_der_x509_certificate
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import InvalidDigest, SignXMLException

from coatcheck.errors import Refusal
from coatcheck.identity.xml import Element

DS = "{http://www.w3.org/2000/09/xmldsig#}"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
INCLUSIVE_NAMESPACES = "{http://www.w3.org/2001/10/xml-exc-c14n#}InclusiveNamespaces"

_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_MGF1 = "http://www.w3.org/2007/05/xmldsig-more#"
SIGNATURE_METHODS = frozenset(
    [f"{_MORE}{kind}-sha{size}" for kind in ("rsa", "ecdsa") for size in (256, 384, 512)]
    + [f"{_MGF1}sha{size}-rsa-MGF1" for size in (256, 384, 512)]
)
DIGEST_METHODS = frozenset(
    {"http://www.w3.org/2001/04/xmlenc#sha256", f"{_MORE}sha384", "http://www.w3.org/2001/04/xmlenc#sha512"}
)


def signed_bytes(data: bytes, root: Element, signed: Element, certificates: Sequence[bytes], *, now: datetime) -> bytes:
    """The canonical form of `signed`, without its signature, as one of `certificates` (DER) signed it.

    `root` is what `read_xml` made of `data`, and `signed` is that or a child of it: then `root` may have a signature of
    its own, which is not looked at.

    Raises `Refusal` (401): `token-unsigned`, `token-malformed`, `algorithm-not-allowed`, `certificate-expired`,
    `bad-signature`.
    """
    _check_shape(root, signed)
    known = [load_der_x509_certificate(certificate) for certificate in certificates]
    pinned = [each for each in known if each.not_valid_before_utc <= now <= each.not_valid_after_utc]
    if not pinned:
        raise _refused("certificate-expired", "the issuer's certificate in policy is not valid today")
    # At its most talkative level the library logs what it canonicalizes, and that is a token.
    logging.getLogger("signxml").setLevel(logging.WARNING)
    methods = frozenset(SignatureMethod(method) for method in SIGNATURE_METHODS)
    digests = frozenset(DigestAlgorithm(digest) for digest in DIGEST_METHODS)
    location = "./" if signed is root else f"./{signed.name}/"
    for certificate in pinned:
        config = SignatureConfiguration(
            location=location,
            signature_methods=methods,
            digest_algorithms=digests,
            ignore_ambiguous_key_info=True,
            verification_time=now,
        )
        # A parser is not shared between threads. `read_xml` has passed the document; this one could fetch nothing.
        parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False)
        try:
            # `_check_shape` is narrower than the schema, which takes no InclusiveNamespaces in one of its two places
            result = XMLVerifier().verify(
                data,
                x509_cert=certificate,
                id_attribute="ID",
                parser=parser,
                expect_config=config,
                validate_schema=False,
            )
        except (InvalidDigest, etree.LxmlError):
            break  # no other key helps: this one signed something else, or the document has no canonical form
        except (SignXMLException, UnsupportedAlgorithm, ValueError):
            continue
        return bytes(result.signed_data)
    raise _refused("bad-signature", "the signature is not one of the issuer's certificate in policy")


def _check_shape(root: Element, signed: Element) -> None:
    signatures = [each for each in root.iter() if each.name == f"{DS}Signature"]
    own = signed.all(f"{DS}Signature")
    if not own:
        raise _refused("token-unsigned", "the assertion is not signed itself")
    around = root.all(f"{DS}Signature") if root is not signed else ()
    if len(own) != 1 or len(around) > 1 or len(signatures) != 1 + len(around):
        raise _malformed("more than one signature")
    if signed.children[1:2] != own:  # SAML Core 2.3.3: behind the Issuer, where every reader looks for it
        raise _malformed("a signature in another place")
    _check_ids(root)
    info, value = _signature_parts(own[0])
    method, reference = _signed_info(info)
    if method not in SIGNATURE_METHODS:
        raise _not_allowed()
    if reference.attributes != {"URI": f"#{signed.attributes.get('ID')}"}:
        raise _malformed("a signature of something else than the assertion")
    transforms, digest_method, digest = _children(reference, "Transforms", "DigestMethod", "DigestValue")
    _check_transforms(transforms)
    if _algorithm(digest_method) not in DIGEST_METHODS:
        raise _not_allowed()
    for encoded in (value, digest):
        _check_base64(encoded)


def _check_ids(root: Element) -> None:
    """However an ID is spelt, it names one element: no two readers may find different ones."""
    ids = [
        value
        for element in root.iter()
        for name, value in element.attributes.items()
        if name.rpartition("}")[2].lower() == "id"
    ]
    if len(set(ids)) != len(ids):
        raise _malformed("an ID that is given twice")


def _signature_parts(signature: Element) -> tuple[Element, Element]:
    """`SignedInfo` and `SignatureValue`. `KeyInfo` may follow and is not read; `Object` may not."""
    names = [child.name for child in signature.children]
    if names[:2] != [f"{DS}SignedInfo", f"{DS}SignatureValue"] or names[2:] not in ([], [f"{DS}KeyInfo"]):
        raise _malformed("a signature of another shape")
    return signature.children[0], signature.children[1]


def _signed_info(info: Element) -> tuple[str, Element]:
    """The signature method, and the one reference."""
    canonicalization, method, reference = _children(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _check_canonicalization(canonicalization)
    return _algorithm(method), reference


def _check_transforms(transforms: Element) -> None:
    enveloped, canonicalization = _children(transforms, "Transform", "Transform")
    if _algorithm(enveloped) != ENVELOPED:
        raise _malformed("a signature with other transforms")
    _check_canonicalization(canonicalization)


def _check_canonicalization(element: Element) -> None:
    """Exclusive Canonicalization 1.0, without comments. `InclusiveNamespaces` adds declarations and hides nothing."""
    names = [child.name for child in element.children]
    if element.attributes != {"Algorithm": EXCLUSIVE} or names not in ([], [INCLUSIVE_NAMESPACES]):
        raise _malformed("a signature with other transforms")


def _algorithm(element: Element) -> str:
    """Of an element that has nothing but its `Algorithm`: a parameter could weaken it."""
    if element.attributes.keys() != {"Algorithm"} or element.children or element.text.strip():
        raise _malformed("a signature of another shape")
    return element.attributes["Algorithm"]


def _children(element: Element, *names: str) -> tuple[Element, ...]:
    if [child.name for child in element.children] != [f"{DS}{name}" for name in names]:
        raise _malformed("a signature of another shape")
    return element.children


def _check_base64(element: Element) -> None:
    text = "".join(element.text.split())
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded or element.children:
        raise _malformed("a signature that is not base64")


def _malformed(what: str) -> Refusal:
    return _refused("token-malformed", f"the assertion has {what}")


def _not_allowed() -> Refusal:
    message = "assertions are signed with RSA or ECDSA, over SHA-256, SHA-384 or SHA-512"
    return _refused("algorithm-not-allowed", message)


def _refused(reason: str, message: str) -> Refusal:
    return Refusal.unauthenticated(reason, message)
