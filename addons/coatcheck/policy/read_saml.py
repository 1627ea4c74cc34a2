"""Reads an issuer of SAML 2.0 assertions: its name, and the certificates of the keys it signs with.

Law: the key is pinned here; no certificate that comes with an assertion, and no authority, can stand in for it.
"""

from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificates

from coatcheck.policy.model import IssuerSpec, SamlTrust
from coatcheck.policy.read_places import read_file, read_url
from coatcheck.policy.scope import Entry
from coatcheck.policy.shape import Findings, Form, read_duration, read_form, read_text
from coatcheck.policy.source import Fields, Node

MAX_LEEWAY = timedelta(seconds=60)
MAX_LIFETIME = timedelta(days=30)
SAML_LIFETIME = timedelta(hours=1)
"""An assertion is exchanged at once, so it need not live longer unless its issuer says so."""

MAX_CERTIFICATES = 4
MAX_FILE_BYTES = 64 * 1024
MAX_NAME_LENGTH = 1024
"""SAML Core 8.3.6: an entity's name is a URI of this length at most."""

_FOR_SAML = frozenset({"issuer", "saml", "groups", "leeway", "max_lifetime"})
_EXTRA = ("signxml", "lxml")
_SIGNING_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})


def is_saml(entry: Entry) -> bool:
    """Whether an entry of `issuers` is to be one of assertions."""
    return isinstance(entry.node, Fields) and "saml" in entry.node.fields


def read_saml_issuer(entry: Entry, form: Form) -> IssuerSpec | None:
    """The issuer of a `form` that has the key `saml`: `{certificate: FILE, recipient: URL}`."""
    for key in form.fields.keys() - _FOR_SAML:
        form.report(form.at_key(key), f"{key!r} beside 'saml'", "its certificate is all that is needed")
    if form.is_spelt_right and "issuer" not in form:
        form.report(entry.at, f"missing key 'issuer' in issuer {entry.name}", "the exact Issuer of its assertions")
    if not all(find_spec(module) for module in _EXTRA):
        hint = "install it: pip install 'coatcheck[saml]'"
        form.report(form.at_key("saml"), "SAML needs the extra 'saml', which is not installed", hint)
    issuer = form.read("issuer", _read_entity, what="issuer")
    trust = form.read("saml", _read_trust, entry.folder)
    groups = form.read("groups", read_text, what="groups")
    leeway, lifetime = read_times(form)
    if issuer is None or trust is None:
        return None
    return IssuerSpec(
        name=entry.name,
        issuer=issuer,
        algorithms=(),
        groups_claim=groups,
        leeway=leeway or timedelta(0),
        max_lifetime=lifetime or SAML_LIFETIME,
        saml=trust,
        one_time=True,
    )


def read_times(form: Form) -> tuple[timedelta | None, timedelta | None]:
    """An issuer's `leeway` and `max_lifetime`."""
    leeway = form.read("leeway", read_duration, what="leeway", low=timedelta(0), high=MAX_LEEWAY)
    shortest = timedelta(seconds=1)
    lifetime = form.read("max_lifetime", read_duration, what="max_lifetime", low=shortest, high=MAX_LIFETIME)
    return leeway, lifetime


def _read_entity(node: Node, findings: Findings, *, what: str) -> str | None:
    """A URI, compared as text and never fetched: `urn:` and `http:` are as good as `https:` (SAML Core 8.3.6)."""
    text = read_text(node, findings, what=what)
    if text is None:
        return None
    if ":" in text and len(text) <= MAX_NAME_LENGTH and text.isascii() and text.isprintable() and " " not in text:
        return text
    findings.report(node.at, f"{what} is not a URI", "the Issuer of its assertions, such as https://idp.example/saml")
    return None


def _read_trust(node: Node, findings: Findings, folder: Path) -> SamlTrust | None:
    form = read_form(node, findings, required=("certificate",), optional=("recipient",), what="saml")
    read = form.read("certificate", _read_certificates, folder)
    recipient = form.read("recipient", read_url, what="recipient", schemes=("http", "https"))
    return SamlTrust(read[1], recipient.url if recipient else None, read[0]) if read else None


def _read_certificates(node: Node, findings: Findings, folder: Path) -> tuple[Path, tuple[bytes, ...]] | None:
    """A PEM file and its certificates, each as DER: one, or a few while the issuer changes its key."""
    path = read_file(node, findings, folder, what="certificate")
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        found = load_pem_x509_certificates(data) if len(data) <= MAX_FILE_BYTES else []
    except (OSError, ValueError, UnsupportedAlgorithm):
        found, data = [], b""
    if not 0 < len(found) <= MAX_CERTIFICATES or b"PRIVATE KEY" in data:
        hint = f"1 to {MAX_CERTIFICATES} certificates in PEM form and nothing else, as the issuer publishes them"
        findings.report(node.at, f"certificate: not a file of certificates: {path.name}", hint)
        return None
    faults = list(_faults(found))
    for fault in faults:
        findings.report(node.at, f"certificate: {fault}")
    return None if faults else (path, tuple(each.public_bytes(Encoding.DER) for each in found))


def _faults(certificates: list[Certificate]) -> Iterator[str]:
    """What is wrong with their keys: kinds and sizes as for published keys (`identity/jwks.py`)."""
    for certificate in certificates:
        try:
            match certificate.public_key():
                case RSAPublicKey(key_size=size) if size >= 2048:
                    continue
                case EllipticCurvePublicKey() as key if key.curve.name in _SIGNING_CURVES:
                    continue
        except (ValueError, UnsupportedAlgorithm):
            pass
        yield "a key that is neither RSA of 2048 bits or more, nor on P-256, P-384 or P-521"
