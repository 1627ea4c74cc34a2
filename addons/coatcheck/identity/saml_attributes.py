"""A SAML assertion's attributes as claims (SAML Core 2.7.3).

Law: an attribute is a list of strings, however many values it has: what the issuer knows about someone does not
change what a claim is.
Law: a name stands for one attribute, and never for what the assertion itself says. Its values may come in several
elements, as Keycloak writes roles.
"""

from collections.abc import Sequence

from coatcheck.errors import Refusal
from coatcheck.identity.xml import Element
from coatcheck.mcp.call import Json

NAME_ID_CLAIMS = {
    "Format": "name_id_format",
    "NameQualifier": "name_qualifier",
    "SPNameQualifier": "sp_name_qualifier",
}
"""What else a NameID says, as claims: two that differ in these are two subjects (SAML Core 2.2.2)."""

RESERVED = frozenset({"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cnf", *NAME_ID_CLAIMS.values()})

_SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def read_attributes(statements: Sequence[Element]) -> dict[str, Json]:
    """The attributes of all statements by their `Name`. Raises `Refusal` (401 `token-malformed`)."""
    claims: dict[str, list[Json]] = {}
    formats: dict[str, str | None] = {}
    for attribute in (child for statement in statements for child in statement.children):
        if not attribute.is_container:
            raise _malformed("is no attribute")
        name, form = attribute.attributes.get("Name", ""), attribute.attributes.get("NameFormat")
        if attribute.name != f"{_SAML}Attribute" or not name.strip() or not name.isprintable():
            raise _malformed("is no attribute with a name")
        if name in RESERVED or formats.setdefault(name, form) != form:
            raise _malformed("has a name that stands for something else")
        claims.setdefault(name, []).extend(_value(child) for child in attribute.children)
    return dict(claims)


def _value(element: Element) -> Json:
    if element.name != f"{_SAML}AttributeValue" or element.children or _NIL in element.attributes:
        raise _malformed("has a value that is not a text")
    return element.text


def _malformed(what: str) -> Refusal:
    return Refusal.unauthenticated("token-malformed", f"something among the assertion's attributes {what}")
