"""A token exchange request, read strictly (RFC 8693 section 2.1, RFC 6749 sections 3.2 and 5.2).

Law: a parameter given twice, or a value that is not understood, is an error; only parameters that are not ours to
know are passed over, as the specification says.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from coatcheck.errors import Refusal

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type's name
JWT = "urn:ietf:params:oauth:token-type:jwt"
SAML2 = "urn:ietf:params:oauth:token-type:saml2"
MAX_PARAMETERS = 32

type ErrorCode = Literal[
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "temporarily_unavailable",
    "unsupported_grant_type",
    "unsupported_token_type",
]


class TokenRequestError(Exception):
    """What is wrong with a request: an OAuth error code, a sentence, and a stable reason of our own."""

    def __init__(self, code: ErrorCode, description: str, *, reason: str = "bad-request", status: int = 400) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked for: a session token for this subject token."""

    subject_token: str = field(repr=False)
    kind: Literal["jwt", "saml2"]
    issued_type: str


def read_token_request(body: bytes, content_type: str, *, audience: str) -> TokenRequest:
    """The request in a form body. Raises `TokenRequestError`.

    `audience` is the gateway's: what the request names as `audience` or `resource` must be it.
    """
    given = _parameters(body, content_type)
    if given.get("grant_type") != GRANT_TYPE:
        if "grant_type" not in given:
            raise TokenRequestError("invalid_request", "grant_type is missing")
        raise TokenRequestError("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
    for name in ("audience", "resource"):
        if given.get(name, audience) != audience:
            what = f"session tokens are for {audience} alone"
            raise TokenRequestError("invalid_target", what, reason="wrong-audience")
    if "scope" in given:
        raise TokenRequestError("invalid_scope", "there are no scopes: the policy says what a caller may do")
    if "actor_token" in given or "actor_token_type" in given:
        raise TokenRequestError("invalid_request", "nobody acts for another here: leave actor_token out")
    issued_type = given.get("requested_token_type", ACCESS_TOKEN)
    if issued_type not in (ACCESS_TOKEN, JWT):
        raise TokenRequestError("invalid_request", f"requested_token_type must be {ACCESS_TOKEN} or {JWT}")
    for name in ("subject_token", "subject_token_type"):
        if name not in given:
            raise TokenRequestError("invalid_request", f"{name} is missing")
    match given["subject_token_type"]:
        case "urn:ietf:params:oauth:token-type:jwt":
            return TokenRequest(given["subject_token"], "jwt", issued_type)
        case "urn:ietf:params:oauth:token-type:saml2":
            return TokenRequest(given["subject_token"], "saml2", issued_type)
    raise unsupported_token_type(f"subject_token_type must be {JWT} or {SAML2}")


def unsupported_token_type(description: str) -> TokenRequestError:
    """A kind of subject token that is not taken here."""
    return TokenRequestError("unsupported_token_type", description, reason="unsupported-token-type")


def read_assertion(text: str) -> bytes:
    """The bytes of a SAML assertion given as base64url without padding (RFC 8693 section 3, RFC 7522 section 2.1).

    Raises `Refusal` (401 `token-malformed`).
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise Refusal.unauthenticated("token-malformed", "subject_token is not base64url")
    return data


def _parameters(body: bytes, content_type: str) -> Mapping[str, str]:
    """The parameters by name; those without a value count as left out (RFC 6749 section 3.2)."""
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower()
    if kind.strip().lower() != "application/x-www-form-urlencoded" or charset not in ("", "charset=utf-8"):
        raise TokenRequestError("invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict",
                          max_num_fields=MAX_PARAMETERS) if text else []  # fmt: skip
    except (UnicodeDecodeError, ValueError):
        raise TokenRequestError("invalid_request", "the body is not a form") from None
    given = dict(pairs)
    if len(given) != len(pairs):
        raise TokenRequestError("invalid_request", "a parameter is given twice")
    return {name: value for name, value in given.items() if value}
