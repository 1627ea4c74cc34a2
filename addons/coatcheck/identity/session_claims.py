"""What a session token says, and what is kept of the token it was exchanged for (RFC 7519, RFC 8693).

Law: the token itself names where it comes from and nothing more; the claims it stands for are sealed in the database,
bound to all that is listed of it, so that neither can be changed without the other.
"""

import json
from collections.abc import Mapping

import jwt

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.identity.jose import SESSION_TYPE, read_object
from coatcheck.identity.session_store import IssuedToken
from coatcheck.identity.signing_keys import ALGORITHM, SigningKey
from coatcheck.journal.records import run_of
from coatcheck.mcp.call import Json
from coatcheck.vault.crypto import Sealed, Sealer
from coatcheck.vault.secret import Secret

MAX_RUN_VALUE = 256


def sign_token(issued: IssuedToken, key: SigningKey, *, issuer: str, audience: str) -> str:
    """The token as its caller gets it: a compact JWS of `SESSION_TYPE`."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": issued.identity,
        "jti": issued.jti,
        "iat": issued.issued_at,
        "exp": issued.expires_at,
        "origin": {
            "iss": issued.issuer,
            "sub": issued.subject,
            "token_id": issued.token_id,
            "run": issued.run,
        },
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": SESSION_TYPE})


def short_run(claims: Mapping[str, Json]) -> dict[str, Json]:
    """What tells one run from another, where it is short and plain."""
    plain = {name: value for name, value in run_of(claims).items() if isinstance(value, str | int)}
    return {name: value for name, value in plain.items() if len(str(value)) <= MAX_RUN_VALUE}


class SealedClaims:
    """Seals and opens the claims that session tokens stand for, under one vault's key."""

    def __init__(self, sealer: Sealer, vault_id: str) -> None:
        self._sealer = sealer
        self._vault_id = vault_id

    def seal(self, claims: Mapping[str, Json], issued: IssuedToken) -> Sealed:
        """The claims as stored beside `issued`."""
        data = json.dumps(claims, sort_keys=True, ensure_ascii=True).encode()
        return self._sealer.seal(Secret(data), self._facts(issued))

    def open(self, issued: IssuedToken, sealed: Sealed) -> Mapping[str, Json]:
        """The claims. Raises `Refusal` (401 `unknown-token`) where anything stored was changed."""
        try:
            return read_object(self._sealer.open(sealed, self._facts(issued)).reveal())
        except (CoatcheckError, ValueError):
            message = "what is stored of this session token is not what was stored"
            raise Refusal.unauthenticated("unknown-token", message) from None

    def _facts(self, issued: IssuedToken) -> Mapping[str, str | int]:
        """What the claims are sealed with: change one of these in the database and the token is refused."""
        return {
            "vault": self._vault_id,
            "use": "session-token",
            "jti": issued.jti,
            "identity": issued.identity,
            "issuer": issued.issuer,
            "subject": issued.subject,
            "token_id": issued.token_id,
            "issued_at": issued.issued_at,
            "expires_at": issued.expires_at,
        }
