"""Published keys (RFC 7517, RFC 7518 section 6, RFC 8037).

Law: a key verifies only algorithms of its own kind, and only the one it names where it names one (RFC 8725 3.1).
Law: a secret or private key in a published set is never used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from coatcheck.identity.jose import MAX_KID_LENGTH, read_object
from coatcheck.mcp.call import Json

type AllowedPublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""A longer one makes a signature slow to verify and no safer."""
MAX_EXPONENT_BITS = 64
"""A longer one does the same: 65537 is what keys have."""

MAX_KEYS = 100
"""Of one set: more are not an issuer's, and each costs time to read."""

_USES = ("sig", "jwt-svid")
"""RFC 7517 4.2; a SPIFFE bundle says `jwt-svid` (JWT-SVID section 6.1), and `x509-svid` of what is none of ours."""

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_KINDS: Mapping[str, type[RSAAlgorithm | ECAlgorithm | OKPAlgorithm]] = {
    "RSA": RSAAlgorithm,
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """One usable key of a set. `alg` is the only algorithm it serves, where the set says so."""

    kid: str | None
    alg: str | None
    key: AllowedPublicKey

    def fits(self, alg: str) -> bool:
        """Whether this key may verify a signature made with `alg`."""
        if self.alg not in {None, alg}:
            return False
        match self.key:
            case RSAPublicKey():
                return alg.startswith(("RS", "PS"))
            case EllipticCurvePublicKey():
                return _CURVES.get(alg) == self.key.curve.name
            case _:
                return alg == "EdDSA"


def read_jwks(data: bytes) -> tuple[PublishedKey, ...]:
    """The usable keys of a JWK Set (RFC 7517 section 5: members that cannot be used are passed over).

    Raises `ValueError` where it is no JWK Set, or no key in it can be used.
    """
    found = read_object(data).get("keys")
    members = found if isinstance(found, list) else []
    if len(members) > MAX_KEYS:
        raise ValueError(f"a JWK Set of more than {MAX_KEYS} keys")
    keys = tuple(key for jwk in members if isinstance(jwk, dict) and (key := _usable(jwk)) is not None)
    if not keys:
        raise ValueError("no JWK Set with a key that could verify a token")
    return keys


def _usable(jwk: Mapping[str, Json]) -> PublishedKey | None:
    """The key, None where it is not a strong public key for signatures."""
    kind = jwk.get("kty")
    kid, alg, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops", ["verify"])
    if not isinstance(kind, str) or kind not in _KINDS or jwk.get("use", "sig") not in _USES:
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if not isinstance(kid, str | None) or len(kid or "") > MAX_KID_LENGTH or not isinstance(alg, str | None):
        return None
    try:
        key = _KINDS[kind].from_jwk(dict(jwk))
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    # A JWK with a private half makes a private key, which is none of these.
    if isinstance(key, RSAPublicKey):
        is_quick = key.key_size <= MAX_RSA_BITS and key.public_numbers().e.bit_length() <= MAX_EXPONENT_BITS
        return PublishedKey(kid, alg, key) if is_quick and key.key_size >= MIN_RSA_BITS else None
    if isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        return PublishedKey(kid, alg, key)
    return None
