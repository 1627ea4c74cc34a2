"""Verifying a SAML 2.0 assertion (SAML Core, RFC 7522 section 3, RFC 8693 section 3: token type `saml2`).

Law: every check is exact, as it is for other tokens; an assertion passes all or none.
Law: what is believed is read from the bytes that were signed; the document around them only says where to look.
Law: a condition, a statement or a value of an unknown kind is refused, never passed over.
Needs the extra `saml`, and only when it is called. An assertion counts once; `one_time.py` sees to that.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module

from coatcheck.errors import Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.saml_attributes import NAME_ID_CLAIMS, read_attributes
from coatcheck.identity.verify import MAX_LEEWAY, check_subject
from coatcheck.identity.xml import MAX_BYTES, Element, read_xml
from coatcheck.mcp.call import Json
from coatcheck.policy.model import IssuerSpec, SamlTrust

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
PROTOCOL = "{urn:oasis:names:tc:SAML:2.0:protocol}"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z")

type SignedBytes = Callable[..., bytes]


@dataclass(frozen=True, slots=True)
class _Window:
    """When an assertion counts; all UTC."""

    issued_at: datetime
    not_before: datetime | None
    expires_at: datetime


def verify_assertion(assertion: bytes, issuers: Mapping[str, IssuerSpec], *, audience: str, now: datetime) -> Verified:
    """What an assertion says, once all of it holds. `assertion` is XML: an `Assertion`, or a `Response` with one in it.

    Its claims are `iss`, `sub` (the NameID), `aud`, `iat`, `nbf`, `exp`, `name_id_format`, `name_qualifier`,
    `sp_name_qualifier`, and its attributes by their names, each a list of strings. It takes a few milliseconds: call
    it off the event loop.

    Raises `Refusal` (401): `token-malformed`, `token-too-large`, `token-encrypted`, `token-unsigned`, `wrong-issuer`,
    `wrong-audience`, `wrong-recipient`, `algorithm-not-allowed`, `certificate-expired`, `bad-signature`,
    `claim-missing`, `token-expired`, `token-not-yet-valid`, `lifetime-too-long`.
    """
    if len(assertion) > MAX_BYTES:
        raise _refused("token-too-large", f"the assertion is larger than {MAX_BYTES} bytes")
    root = _read(assertion)
    found = _the_assertion(root)
    issuer, trust = _issuer(found, issuers)
    # the library is an extra, and whoever has no such issuer needs none of it
    signed_bytes: SignedBytes = import_module("coatcheck.identity.xml_signature").signed_bytes
    signed = _read(signed_bytes(assertion, root, found, trust.certificates, now=now))
    if signed.name != f"{SAML}Assertion" or _issuer(signed, issuers)[0] is not issuer:
        raise _malformed("not what was signed")
    return _verified(signed, issuer, audience=audience, recipient=trust.recipient or audience, now=now)


def _read(data: bytes) -> Element:
    try:
        return read_xml(data)
    except ValueError as error:
        raise _malformed(str(error)) from None


def _the_assertion(root: Element) -> Element:
    """The only assertion in a document: its root, or a child of a `Response` that holds little else."""
    names = [each.name for each in root.iter()]
    if any(name.rpartition("}")[2].startswith("Encrypted") for name in names):
        raise _refused("token-encrypted", "the assertion is encrypted, wholly or in part, and cannot be read")
    if names.count(f"{SAML}Assertion") != 1:
        raise _malformed("not one Assertion")
    if root.name == f"{SAML}Assertion":
        return root
    # a Response may be signed as a whole too: nothing is read from it, so that signature is not looked at
    allowed = {
        f"{SAML}Issuer",
        f"{PROTOCOL}Status",
        f"{SAML}Assertion",
        "{http://www.w3.org/2000/09/xmldsig#}Signature",
    }
    found = root.all(f"{SAML}Assertion")
    if root.name != f"{PROTOCOL}Response" or not found or not {child.name for child in root.children} <= allowed:
        raise _malformed("not an Assertion, nor a Response with one in it")
    return found[0]


def _issuer(assertion: Element, issuers: Mapping[str, IssuerSpec]) -> tuple[IssuerSpec, SamlTrust]:
    issuer = _one(assertion, "Issuer")
    if issuer.attributes.get("Format", ENTITY) != ENTITY or issuer.children:
        raise _refused("wrong-issuer", "the assertion's Issuer is not an entity's name")
    for spec in issuers.values():
        if spec.saml is not None and spec.issuer == issuer.text:
            return spec, spec.saml
    raise _refused("wrong-issuer", "the assertion's Issuer is not one of the policy's SAML issuers")


def _verified(assertion: Element, issuer: IssuerSpec, *, audience: str, recipient: str, now: datetime) -> Verified:
    if assertion.attributes.get("Version") != "2.0":
        raise _malformed("not version 2.0")
    identifier = assertion.attributes.get("ID", "")
    if not _ID.fullmatch(identifier):
        raise _malformed("without a usable ID")
    known = ("Issuer", "Subject", "Conditions", "AuthnStatement", "AttributeStatement")
    _check_children(assertion, *known)
    subject, conditions = _one(assertion, "Subject"), _one(assertion, "Conditions")
    leeway = min(issuer.leeway, MAX_LEEWAY)
    audiences = _check_audience(conditions, audience)
    window = _window(assertion, conditions, _confirmation(subject, recipient))
    _check_times(window, issuer, now=now, leeway=leeway)
    _check_sessions(assertion, now=now, leeway=leeway)
    name = _one(subject, "NameID")
    claims: dict[str, Json] = {
        "iss": issuer.issuer,
        "sub": _text(name),
        "aud": list(audiences),
        "iat": int(window.issued_at.timestamp()),
        "exp": int(window.expires_at.timestamp()),
    }
    if window.not_before is not None:
        claims["nbf"] = int(window.not_before.timestamp())
    claims |= {claim: name.attributes[key] for key, claim in NAME_ID_CLAIMS.items() if key in name.attributes}
    claims |= read_attributes(assertion.all(f"{SAML}AttributeStatement"))
    token_id = hashlib.sha256(f"{issuer.issuer}\0{identifier}".encode()).hexdigest()[:32]
    return Verified(issuer.name, check_subject(claims), claims, token_id, window.expires_at)


def _check_audience(conditions: Element, audience: str) -> tuple[str, ...]:
    """The audiences named. Every `AudienceRestriction` must name ours (Core 2.5.1.4), and one there must be."""
    _check_children(conditions, "AudienceRestriction", "OneTimeUse")
    restrictions = conditions.all(f"{SAML}AudienceRestriction")
    expected = f"the assertion must be made for the audience {audience}"
    if not restrictions:
        raise _refused("claim-missing", f"the assertion has no AudienceRestriction; {expected}")
    named: list[str] = []
    for restriction in restrictions:
        _check_children(restriction, "Audience")
        audiences = [_text(each) for each in restriction.children]
        if audience not in audiences:
            raise _refused("wrong-audience", expected)
        named += audiences
    return tuple(named)


def _confirmation(subject: Element, recipient: str) -> Element:
    """The data of the one bearer confirmation (SAML Profiles 4.1.4.2, RFC 7522 section 3 item 5).

    `Address` and `InResponseTo` are not heeded: the job that shows the assertion did not ask for it from here.
    """
    _check_children(subject, "NameID", "SubjectConfirmation")
    confirmation = _one(subject, "SubjectConfirmation")
    if confirmation.attributes != {"Method": BEARER}:
        raise _refused("token-bound", "the assertion is not confirmed for its bearer")
    _check_children(confirmation, "SubjectConfirmationData")
    data = _one(confirmation, "SubjectConfirmationData")
    if data.children or not data.is_container:
        raise _malformed("with something unknown in its SubjectConfirmationData")
    if data.attributes.get("Recipient") != recipient:
        raise _refused("wrong-recipient", f"the assertion must be confirmed for the recipient {recipient}")
    return data


def _window(assertion: Element, conditions: Element, confirmation: Element) -> _Window:
    """Both `NotOnOrAfter` are required, and the earlier one counts; of both `NotBefore` the later."""
    expiries = [_time(each, "NotOnOrAfter") for each in (conditions, confirmation)]
    starts = [_time(each, "NotBefore") for each in (conditions, confirmation) if "NotBefore" in each.attributes]
    return _Window(_time(assertion, "IssueInstant"), max(starts, default=None), min(expiries))


def _check_times(window: _Window, issuer: IssuerSpec, *, now: datetime, leeway: timedelta) -> None:
    """As `verify.check_times` does for other tokens."""
    if window.expires_at <= now - leeway:
        raise _refused("token-expired", "the assertion has expired; ask its issuer for a new one")
    if (window.not_before or now) > now + leeway or window.issued_at > now + MAX_LEEWAY:
        raise _refused("token-not-yet-valid", "the assertion is not valid yet; compare the clocks")
    if window.expires_at - window.issued_at > issuer.max_lifetime:
        limit = f"{issuer.max_lifetime.total_seconds():.0f} s"
        raise _refused("lifetime-too-long", f"assertions of issuer {issuer.name} may live {limit} at most")


def _check_sessions(assertion: Element, *, now: datetime, leeway: timedelta) -> None:
    for statement in assertion.all(f"{SAML}AuthnStatement"):
        ends = "SessionNotOnOrAfter"
        if ends in statement.attributes and _time(statement, ends) <= now - leeway:
            raise _refused("token-expired", "the session that the assertion speaks of has ended")


def _time(element: Element, name: str) -> datetime:
    """An `xs:dateTime` in UTC, as SAML writes it (Core 1.3.3). Nanoseconds are cut off."""
    if name not in element.attributes:
        raise _refused("claim-missing", f"the assertion has no {name}")
    found = _TIME.fullmatch(element.attributes[name])
    try:
        moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:
        moment = None
    if found is None or moment is None:
        raise _malformed(f"with a {name} that is not a time in UTC")
    return moment + timedelta(microseconds=int((found[2] or ".0")[1:7].ljust(6, "0")))


def _one(element: Element, name: str) -> Element:
    found = element.all(f"{SAML}{name}")
    if not found:
        raise _refused("claim-missing", f"the assertion has no {name}")
    if len(found) > 1:
        raise _malformed(f"with more than one {name}")
    return found[0]


def _text(element: Element) -> str:
    if element.children:
        raise _malformed("with elements where a text belongs")
    return element.text


def _check_children(element: Element, *names: str) -> None:
    if not element.is_container:
        raise _malformed("with text where elements belong")
    if not {child.name for child in element.children} <= {f"{SAML}{name}" for name in names}:
        raise _malformed(f"with something unknown in its {element.name.rpartition('}')[2]}")


def _malformed(what: str) -> Refusal:
    return _refused("token-malformed", f"the assertion is {what}")


def _refused(reason: str, message: str) -> Refusal:
    return Refusal.unauthenticated(reason, message)
