"""Verifying a token (RFC 7519 section 7.2, RFC 8725, RFC 9068 section 4).

Law: every check is exact: issuer, audience, algorithm, key, types of claims, times; a token passes all or none.
Law: nothing is remembered that has not been verified, and nothing beyond its expiry.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from coatcheck.errors import PolicyError, Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.jose import ALGORITHMS, read_claims, read_header
from coatcheck.identity.keys import KeySource
from coatcheck.mcp.call import Json
from coatcheck.policy.model import IssuerSpec, Policy

MAX_REMEMBERED = 10_000
MAX_SUBJECT_LENGTH = 1024
MAX_LEEWAY = timedelta(seconds=60)
REMEMBER_FOR = timedelta(minutes=5)
"""A verified token is looked at again this often, so that a key its issuer withdrew stops counting."""


class Verifier:
    """Verifies tokens for one audience, and remembers the ones it has verified."""

    def __init__(self, policy_issuers: Mapping[str, IssuerSpec], audience: str, keys: KeySource) -> None:
        if not audience:
            raise PolicyError("the audience is empty", hint="set gateway.audience to this gateway's own URL")
        issuers = [spec for spec in policy_issuers.values() if spec.saml is None]
        self._issuers = {spec.issuer: spec for spec in issuers}
        if len(self._issuers) != len(issuers):
            raise PolicyError("two issuers have the same URL", hint="keep one, and match claims in identities")
        self._audience = audience
        self._keys = keys
        self._jws = PyJWS(sorted(ALGORITHMS), {"verify_signature": True, "enforce_minimum_key_length": True})
        self._remembered: OrderedDict[bytes, tuple[datetime, Verified]] = OrderedDict()
        self._generation = 0

    def remembered(self, token: str, *, now: datetime) -> Verified | None:
        """What a token said when it was verified not long ago and is not expired; None where it must be verified."""
        digest = _digest(token)
        found = self._remembered.get(digest)
        if found is None:
            return None
        until, verified = found
        if now >= until:
            del self._remembered[digest]
            return None
        self._remembered.move_to_end(digest)
        return verified

    async def verify(self, token: str, *, now: datetime) -> Verified:
        """What the token says, once all of it holds. Remembers it.

        Raises `Refusal`: 401 `token-malformed`, `token-too-large`, `claim-missing`, `wrong-issuer`, `wrong-audience`,
        `wrong-type`, `algorithm-not-allowed`, `token-expired`, `token-not-yet-valid`, `lifetime-too-long`,
        `token-bound`, `unknown-key`, `bad-signature`; 503 `issuer-unreachable`.
        """
        generation = self._generation
        header, claims = read_header(token), read_claims(token)
        issuer = self._issuer(claims)
        if header.alg not in ALGORITHMS or header.alg not in issuer.algorithms:
            allowed = ", ".join(issuer.algorithms)
            raise _refused("algorithm-not-allowed", f"issuer {issuer.name} signs with {allowed}")
        if "events" in claims:  # a logout token without its typ (OpenID Connect Back-Channel Logout 2.4, RFC 8417 4.5)
            raise _refused("wrong-type", "the token tells of an event and is nobody's to show")
        if issuer.typ not in {None, header.media_type}:
            raise _refused("wrong-type", f"tokens of issuer {issuer.name} have the typ {issuer.typ}")
        # The cheap checks come first: a token that fails them costs neither a fetch nor a signature.
        check_audience(claims, self._audience)
        expires_at = check_times(claims, issuer, now=now)
        subject, token_id = check_subject(claims), _token_id(token, claims)
        key = await self._keys.key(issuer, header.kid, header.alg)
        try:
            self._jws.decode_complete(token, key=key, algorithms=[header.alg])
        except PyJWTError:
            raise _refused("bad-signature", f"the signature is not issuer {issuer.name}'s") from None
        verified = Verified(issuer.name, subject, claims, token_id, expires_at)
        if generation == self._generation:
            self._remember(token, verified, now=now)
        return verified

    def forget(self) -> None:
        """Every token must be verified anew, those being verified at this moment too."""
        self._generation += 1
        self._remembered.clear()

    def _issuer(self, claims: Mapping[str, Json]) -> IssuerSpec:
        spec = self._issuers.get(_string(claims, "iss"))
        if spec is None:
            raise _refused("wrong-issuer", "the token's iss is not one of the policy's issuers")
        return spec

    def _remember(self, token: str, verified: Verified, *, now: datetime) -> None:
        until = min(verified.expires_at, now + REMEMBER_FOR)
        self._remembered[_digest(token)] = (until, verified)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def trusts_alike(one: Policy, other: Policy, issuer: str) -> bool:
    """Whether both policies would verify the tokens of the issuer of that name in the same way.

    Where they do not, what was verified under one says nothing under the other: a name may be another issuer's now.
    """
    if one is other:
        return True
    spec = one.issuers.get(issuer)
    return spec is not None and spec == other.issuers.get(issuer) and one.audience == other.audience


def check_audience(claims: Mapping[str, Json], audience: str) -> None:
    """Raises `Refusal` unless `aud` is `audience` or a list of strings that holds it (RFC 7519 4.1.3)."""
    found = claims.get("aud")
    expected = f"the token must be minted for the audience {audience}"
    if found is None:
        raise _refused("claim-missing", f"the token has no aud; {expected}")
    named = found if isinstance(found, list) else [found]
    if not all(isinstance(name, str) for name in named):
        raise _refused("token-malformed", "the token's aud is neither a string nor a list of strings")
    if audience not in named:
        raise _refused("wrong-audience", expected)


def check_times(claims: Mapping[str, Json], issuer: IssuerSpec, *, now: datetime) -> datetime:
    """When the token stops to count. Raises `Refusal` unless it is valid now and for no longer than the issuer may say.

    `exp` is required, `nbf` and `iat` are heeded; whole numbers only (RFC 7519 4.1.4 to 4.1.6).
    """
    expires, not_before, issued = _time(claims, "exp"), _time(claims, "nbf"), _time(claims, "iat")
    if expires is None:
        raise _refused("claim-missing", "the token has no exp")
    leeway = min(issuer.leeway, MAX_LEEWAY).total_seconds()
    present = now.timestamp()
    if expires <= present - leeway:
        raise _refused("token-expired", "the token has expired; ask its issuer for a new one")
    # `iat` limits nothing by itself, and a new token's is the present of another clock: nonsense alone is refused.
    if (not_before or 0) > present + leeway or (issued or 0) > present + MAX_LEEWAY.total_seconds():
        raise _refused("token-not-yet-valid", "the token is not valid yet; compare the clocks")
    lifetime = expires - (issued if issued is not None else present)
    if lifetime > issuer.max_lifetime.total_seconds():
        limit = f"{issuer.max_lifetime.total_seconds():.0f} s"
        raise _refused("lifetime-too-long", f"tokens of issuer {issuer.name} may live {limit} at most")
    return datetime.fromtimestamp(expires + leeway, UTC)


def check_subject(claims: Mapping[str, Json]) -> str:
    """The subject: printable, so that it is one line in any log. Raises `Refusal`.

    A token bound to a key of the caller (`cnf`, RFC 7800) is refused: shown without proof of that key, it is stolen.
    """
    subject = _string(claims, "sub")
    if not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
        raise _refused("token-malformed", f"the token's sub is not 1 to {MAX_SUBJECT_LENGTH} printable characters")
    if "cnf" in claims:
        raise _refused("token-bound", "the token is bound to a key (cnf) and cannot be used as a bearer token")
    return subject


def _string(claims: Mapping[str, Json], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise _refused("claim-missing", f"the token has no {name}")
    if not isinstance(value, str):
        raise _refused("token-malformed", f"the token's {name} is not a string")
    return value


def _time(claims: Mapping[str, Json], name: str) -> int | None:
    """Seconds since 1970. `true`, `1.5` and `"1"` are not times."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refused("token-malformed", f"the token's {name} is not a whole number of seconds")
    return value


def _token_id(token: str, claims: Mapping[str, Json]) -> str:
    """The same for every spelling of one token: of issuer and `jti`, or of what was signed. Raises `Refusal`."""
    if claims.get("jti") is None:
        content = token.rpartition(".")[0]
    else:
        jti = _string(claims, "jti")
        if not jti:
            raise _refused("token-malformed", "the token's jti is empty")
        content = _string(claims, "iss") + "\0" + jti
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _refused(reason: str, message: str) -> Refusal:
    return Refusal.unauthenticated(reason, message)
