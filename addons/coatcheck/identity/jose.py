"""A compact JWS, read strictly (RFC 7515 section 7.1, RFC 7519 section 7.2, RFC 8725).

Law: what is accepted here has exactly one spelling: canonical base64url, JSON without duplicate members.
Law: nothing here is proof; only `verify.py` makes claims count.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json

MAX_TOKEN_BYTES = 16 * 1024
MAX_KID_LENGTH = 256
MAX_DEPTH = 64
MAX_DIGITS = 18

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Signatures with a public key (RFC 7518 3.1, RFC 8037). `none` and `HS*` can never be allowed."""

_PART = r"[A-Za-z0-9_-]+"
_COMPACT = re.compile(rf"({_PART})\.({_PART})\.({_PART})")
_KEY_BEARING = frozenset({"jku", "jwk", "x5u", "x5c", "epk"})
_EXTENSIONS = frozenset({"crit", "b64"})
_ENCRYPTED = frozenset({"enc", "zip", "apu", "apv", "p2s", "p2c", "iv", "tag", "iss", "sub", "aud"})
"""What only the header of an encrypted token has a use for (RFC 7516 4.1, RFC 7518 4, RFC 7519 5.3)."""
_TYPES = frozenset({None, "jwt", "jose", "at+jwt"})
SESSION_TYPE = "coatcheck-session+jwt"
"""The `typ` of session tokens: no other token can be taken for one, nor one for another (RFC 8725 3.11)."""
ANY_TYPE = _TYPES | {SESSION_TYPE}


@dataclass(frozen=True, slots=True)
class JoseHeader:
    """The header members that verification uses. `kid` picks a key from a dictionary and does nothing else."""

    alg: str
    kid: str | None = None
    typ: str | None = None

    @property
    def media_type(self) -> str | None:
        """`typ` in lower case and without `application/`: two spellings of one type are one (RFC 7515 4.1.9)."""
        return None if self.typ is None else self.typ.lower().removeprefix("application/")


def read_header(token: str, *, types: Collection[str | None] = _TYPES) -> JoseHeader:
    """The token's header, unverified. Raises `Refusal` (`token-malformed`, `token-too-large`) for anything odd.

    A header that brings its own key (`jku`, `jwk`, `x5u`, `x5c`: RFC 8725 3.10), asks for an extension (`crit`, `b64`),
    speaks of encryption or of another token inside (`cty`), or is typed for another use than `types` (RFC 8725 3.11) is
    refused. `x5t` names a certificate and brings none; it is passed over like whatever else is of no use here.
    """
    header_part, _, signature_part = _parts(token)
    _decoded(signature_part, "signature")
    header = _object(header_part, "header")
    _check_members(header)
    alg = _text(header, "alg")
    if alg is None:
        raise _malformed("the token's header has no alg")
    found = JoseHeader(alg=alg, kid=_text(header, "kid"), typ=_text(header, "typ"))
    if found.media_type not in types:
        raise _malformed("the token's typ is not that of an access or identity token")
    return found


def _check_members(header: Mapping[str, Json]) -> None:
    """A member in another case is no other member: some reader takes it for the one it looks like."""
    names = {name.lower() for name in header}
    if len(names) != len(header):
        raise _malformed("the token's header has a member in two spellings")
    for name in sorted(names & _KEY_BEARING):
        raise _malformed(f"the token's header carries {name}, which is never trusted")
    for name in sorted(names & _EXTENSIONS):
        raise _malformed(f"the token's header carries {name}, and no extension is understood")
    for name in sorted(names & _ENCRYPTED):
        raise _malformed(f"the token's header carries {name}, as that of an encrypted token does")
    content = header.get("cty", "")
    if not isinstance(content, str) or content.lower().removeprefix("application/") == "jwt":
        raise _malformed("the token holds another token")


def read_claims(token: str) -> dict[str, Json]:
    """The token's claims, unverified. Raises `Refusal` as `read_header` does."""
    return _object(_parts(token)[1], "payload")


def read_object(data: bytes) -> dict[str, Json]:
    """A JSON object, strictly: UTF-8, no duplicate members, no NaN or infinity, integers of 18 digits at most, no lone
    surrogates, at most `MAX_DEPTH` levels (RFC 7493). Raises `ValueError`, whose text never quotes the input.
    """
    try:
        text = data.decode("utf-8")
        value: Json = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, at character {error.pos}") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    if "\\u" in text and _has_lone_surrogate(value):
        raise ValueError("text with half a character")
    if isinstance(value, dict):
        return value
    raise ValueError("not a JSON object")


def _parts(token: str) -> tuple[str, str, str]:
    if len(token) > MAX_TOKEN_BYTES:
        raise Refusal.unauthenticated("token-too-large", f"the token is larger than {MAX_TOKEN_BYTES} bytes")
    found = _COMPACT.fullmatch(token)
    if found is None:
        raise _malformed("the token is not three base64url parts")
    return found[1], found[2], found[3]


def _decoded(part: str, what: str) -> bytes:
    """Base64url with one spelling only: no padding (refused before), no bits left over (RFC 4648 3.5)."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise _malformed(f"the token's {what} is not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode("ascii"):
        raise _malformed(f"the token's {what} has stray bits")
    return data


def _object(part: str, what: str) -> dict[str, Json]:
    try:
        return read_object(_decoded(part, what))
    except ValueError as error:
        raise _malformed(f"the token's {what} is {error}") from None


def _text(header: dict[str, Json], name: str) -> str | None:
    value = header.get(name)
    if value is None and name not in header:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_KID_LENGTH or not value.isascii():
        raise _malformed(f"the token's {name} is not a short ASCII string")
    if not value.isprintable():
        raise _malformed(f"the token's {name} holds control characters")
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object with a member given twice")
    return found


def _no_constant(_name: str) -> Json:
    raise ValueError("a document with a number JSON does not have")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a document with a number out of range")
    return value


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError("a document with a number out of range")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite_float, parse_int=_bounded_int
)


def _is_deeper(value: Json, limit: int) -> bool:
    level: list[Json] = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Json) -> list[Json]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _has_lone_surrogate(value: Json) -> bool:
    """Such text cannot be written as UTF-8, so it could never be journalled."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _malformed(message: str) -> Refusal:
    return Refusal.unauthenticated("token-malformed", message)
