"""Finding the caller's token in a request's headers (DESIGN 5.2; RFC 9110 section 11, RFC 6750, RFC 7617).

Law: a request shows one token or none; what could be read two ways is refused, never resolved.
Law: an `Authorization` header that is not for the gateway is left alone, whatever it holds.
Law: what looks like one of our issuers' tokens to a lenient reader is ours, so that it can never slip upstream.
"""

import base64
import binascii
import json
import re
import string
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from coatcheck.errors import Refusal
from coatcheck.identity.jose import ANY_TYPE, MAX_TOKEN_BYTES, read_claims, read_header
from coatcheck.mcp.call import Json

_MAX_HEADER = 2 * MAX_TOKEN_BYTES
_TOKEN68 = (string.ascii_letters + string.digits + "-._~+/").encode()
"""RFC 9110 section 11.2."""
JWT_START = "eyJ"
"""What `{"` is in base64: every token's header, and so every token, begins with it."""
_RUNS = re.compile(r"(?<![A-Za-z0-9_-])e[A-Za-z0-9_-]{50,}")
"""What may be a token's claims: an issuer and an audience are no shorter."""
_AUD_IN_BASE64 = ("ImF1ZC", "JhdWQi", "iYXVkI")
"""The letters that `"aud"` always comes to, by where it begins."""
_BASIC = re.compile(r"[ \t]*basic[ \t]+([A-Za-z0-9+/]+=*)[ \t]*", re.IGNORECASE)
_BEARER = re.compile(r"[ \t]*bearer(?![!#$%&'*+.^_`|~0-9a-z-])(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Presented:
    """The one token of a request, and the header it came in. Nothing about it has been verified."""

    token: str = field(repr=False)
    place: Literal["proxy-authorization", "authorization"]


def find_token(
    proxy_authorization: Sequence[str], authorization: Sequence[str], *, issuers: Collection[str]
) -> Presented | None:
    """The token of a request with these header values, None where it shows none.

    `issuers` are the policy's issuer URLs: a bearer token in `Authorization` counts only when it claims one of them.
    Where both headers hold the same token the place is `proxy-authorization`, and both must be taken out.
    Raises `Refusal` (401): `two-tokens`, `token-malformed`, `token-too-large`.
    """
    for name, values in (("Proxy-Authorization", proxy_authorization), ("Authorization", authorization)):
        if len(values) > 1:
            raise Refusal.unauthenticated("two-tokens", f"the request has more than one {name} header")
    to_proxy = _from_proxy_authorization(proxy_authorization[0]) if proxy_authorization else None
    to_server = _from_authorization(authorization[0], issuers) if authorization else None
    if to_proxy is not None:
        if to_server is not None and to_server != to_proxy:
            raise Refusal.unauthenticated("two-tokens", "Proxy-Authorization and Authorization hold different tokens")
        return Presented(to_proxy, "proxy-authorization")
    return Presented(to_server, "authorization") if to_server is not None else None


def holds_token(text: str, *, issuers: Collection[str], audience: str) -> bool:
    """Whether a token that claims one of `issuers` and `audience` stands in a text, whatever is around it.

    It is looked for as it was minted, or so in base64 as in `Basic` credentials. Linear in the text's length.
    """
    basic = _BASIC.fullmatch(text)
    if basic is not None:
        with suppress(ValueError):
            text = base64.b64decode(basic[1]).decode("latin-1")
    return JWT_START in text and any(_is_minted_for(run, issuers, audience) for run in _RUNS.findall(text))


def _is_minted_for(payload: str, issuers: Collection[str], audience: str) -> bool:
    if not any(part in payload for part in _AUD_IN_BASE64):
        return False  # decoding whatever looks like base64 would add up
    claims = dict(_members(payload))
    named = claims.get("aud")
    return (named == audience or (isinstance(named, list) and audience in named)) and _is_of(claims, issuers)


def _is_of(claims: Mapping[str, Json], issuers: Collection[str]) -> bool:
    issuer = claims.get("iss")
    return isinstance(issuer, str) and issuer in issuers


def unverified_issuer(token: str) -> str | None:
    """The `iss` a well-formed token claims, None for anything else. Never raises; proves nothing."""
    try:
        read_header(token, types=ANY_TYPE)
        issuer = read_claims(token).get("iss")
    except Refusal:
        return None
    return issuer if isinstance(issuer, str) else None


def _from_proxy_authorization(value: str) -> str:
    if len(value) > _MAX_HEADER:
        raise _too_large()
    if "," in value:
        raise Refusal.unauthenticated("two-tokens", "Proxy-Authorization holds more than one credential")
    scheme, _, credential = value.partition(" ")
    match scheme.lower():
        case "bearer":
            return _token(credential, "Proxy-Authorization")
        case "basic":
            return _token(_password(credential), "the password in Proxy-Authorization")
    raise _malformed("Proxy-Authorization must be Basic, with the token as password, or Bearer")


def _password(credential: str) -> str:
    """RFC 7617: the user name ends at the first colon, the password may hold more of them."""
    try:
        user_pass = base64.b64decode(credential, validate=True)
        _, colon, password = user_pass.partition(b":")
        text = password.decode("ascii")
    except (binascii.Error, ValueError):
        raise _malformed("Proxy-Authorization is not the base64 of a name and a token") from None
    if not colon or not text:
        raise _malformed("Proxy-Authorization has no password: the token belongs there, after any user name")
    return text


def _from_authorization(value: str, issuers: Collection[str]) -> str | None:
    """The token where it is for us; None where the header is the server's business."""
    found = _BEARER.match(value)
    if found is None or not (rest := found[1]).strip():
        return None
    token = rest.removeprefix(" ")
    if "," in token:
        raise Refusal.unauthenticated("two-tokens", "Authorization holds more than one bearer token")
    if not value[:1].isalpha() or not rest.startswith(" ") or token.split() != [token]:
        raise _malformed("Authorization must be Bearer, one space and one token")
    return _token(token, "Authorization") if _claims_one_of(token, issuers) else None


def _claims_one_of(token: str, issuers: Collection[str]) -> bool:
    """Whether a lenient reader could take this for a token of `issuers`: padding, stray bits and duplicate
    members are overlooked here, and refused later by the strict reader.
    """
    _, dot, rest = token.partition(".")
    if not dot:
        return False
    members = _members(rest.partition(".")[0])
    return any(name == "iss" and isinstance(value, str) and value in issuers for name, value in members)


def _members(payload: str) -> tuple[tuple[str, Json], ...]:
    """The members of an object in any spelling of base64, in order; none where it is no object."""
    payload = payload.translate(_URL_SAFE).replace("=", "")
    try:
        found = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4)), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return ()
    return found if isinstance(found, tuple) else ()


_URL_SAFE = str.maketrans("-_", "+/")


def _token(token: str, where: str) -> str:
    if "," in token:
        raise Refusal.unauthenticated("two-tokens", f"{where} holds more than one token")
    if len(token) > MAX_TOKEN_BYTES:
        raise _too_large()
    # Deleting what a token may hold is ten times as fast as a regular expression.
    if not token.isascii() or not token or token.rstrip("=").encode("ascii").translate(None, _TOKEN68):
        raise _malformed(f"{where} holds characters that no token has")
    return token


def _too_large() -> Refusal:
    return Refusal.unauthenticated("token-too-large", f"the token is larger than {MAX_TOKEN_BYTES} bytes")


def _malformed(message: str) -> Refusal:
    return Refusal.unauthenticated("token-malformed", message)
