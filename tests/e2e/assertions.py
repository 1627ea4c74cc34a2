"""A SAML identity provider for tests: a real key, a real certificate, assertions signed by signxml."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import XMLSigner

NAMESPACES = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ISSUER = "https://idp.acme.dev/saml"


@dataclass(frozen=True)
class Draft:
    """An assertion before it is signed. Every part is a text that goes in as it is; `...` in a time leaves it out."""

    now: datetime
    audience: str
    recipient: str
    id: str = "_a1"
    version: str = "2.0"
    issuer: str = f"<saml:Issuer>{ISSUER}</saml:Issuer>"
    signature: str = "<ds:Signature Id='placeholder'/>"
    name_id: str = "<saml:NameID>shop-ci</saml:NameID>"
    method: str = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    issued: str | None = None
    not_before: str | None = None
    expires: str | None = None
    confirmed_until: str | None = None
    confirmation: str | None = None
    conditions: str | None = None
    attributes: dict[str, list[str]] = field(default_factory=dict)
    more: str = ""

    def at(self, minutes: float) -> str:
        moment = self.now.astimezone(UTC) + timedelta(minutes=minutes)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def xml(self) -> str:
        """The assertion, where it is to be signed holding a mark for the signature."""
        confirmation = self.confirmation
        if confirmation is None:
            until = self.at(5) if self.confirmed_until is None else self.confirmed_until
            confirmation = (
                f'<saml:SubjectConfirmation Method="{self.method}"><saml:SubjectConfirmationData'
                f"{_attribute('Recipient', self.recipient)}{_attribute('NotOnOrAfter', until)}/>"
                "</saml:SubjectConfirmation>"
            )
        conditions = self.conditions
        if conditions is None:
            conditions = (
                f"<saml:AudienceRestriction><saml:Audience>{self.audience}</saml:Audience></saml:AudienceRestriction>"
            )
        statement = ""
        if self.attributes:
            listed = "".join(
                f'<saml:Attribute Name="{name}">'
                + "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in values)
                + "</saml:Attribute>"
                for name, values in self.attributes.items()
            )
            statement = f"<saml:AttributeStatement>{listed}</saml:AttributeStatement>"
        issued = self.at(0) if self.issued is None else self.issued
        not_before = self.at(-1) if self.not_before is None else self.not_before
        expires = self.at(10) if self.expires is None else self.expires
        return (
            f"<saml:Assertion {DECLARED}{_attribute('ID', self.id)}{_attribute('Version', self.version)}"
            f"{_attribute('IssueInstant', issued)}>{self.issuer}{self.signature}"
            f"<saml:Subject>{self.name_id}{confirmation}</saml:Subject>"
            f"<saml:Conditions{_attribute('NotBefore', not_before)}{_attribute('NotOnOrAfter', expires)}>"
            f"{conditions}</saml:Conditions>"
            f'<saml:AuthnStatement AuthnInstant="{self.at(0)}"><saml:AuthnContext><saml:AuthnContextClassRef>'
            "urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></saml:AuthnContext>"
            f"</saml:AuthnStatement>{statement}{self.more}</saml:Assertion>"
        )


def _attribute(name: str, value: str) -> str:
    return "" if value == "..." else f' {name}="{value}"'


class _AnySigner(XMLSigner):
    """Signs with anything, SHA-1 too: attackers would."""

    def check_deprecated_methods(self) -> None:
        pass


class Idp:
    """One signing key and its certificate."""

    def __init__(self, *, now: datetime, alg: str = "rsa", days: int = 30, key: object = None) -> None:
        curve = ec.SECP256R1()
        made = ec.generate_private_key(curve) if alg == "ec" else rsa.generate_private_key(65537, 2048)
        self.alg, self.key = alg, key or made
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
        self.certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=days))
            .sign(self.key, hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem)
        return path

    def sign(
        self,
        xml: str,
        *,
        reference: str = "#_a1",
        signature: str | None = None,
        digest: str = "sha256",
        c14n: str = EXCLUSIVE,
        key: object = None,
        embeds_certificate: bool = True,
        **options: object,
    ) -> bytes:
        """The document with the marked signature made. `options` are `XMLSigner.sign`'s."""
        default = "ecdsa-sha256" if self.alg == "ec" else "rsa-sha256"
        signer = _AnySigner(signature_algorithm=signature or default, digest_algorithm=digest, c14n_algorithm=c14n)
        signer.namespaces = {"ds": NAMESPACES["ds"]}
        if embeds_certificate:
            options.setdefault("cert", [self.certificate])
        signed = signer.sign(
            etree.fromstring(xml.encode()), key=key or self.key, reference_uri=reference, id_attribute="ID", **options
        )
        return etree.tostring(signed)


def response(*inside: bytes, more: bytes = b"", response_id: str = "_r1") -> bytes:
    """A `Response` around assertions."""
    return (
        f'<samlp:Response {DECLARED} ID="{response_id}" Version="2.0"><saml:Issuer>{ISSUER}</saml:Issuer>'.encode()
        + more
        + b'<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
        + b"".join(inside)
        + b"</samlp:Response>"
    )
