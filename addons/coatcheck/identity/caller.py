"""A caller: the identity one request was verified as. Holds no token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coatcheck.mcp.call import Json


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a session token says beyond the token it was exchanged for: its own id, and whose it may only be."""

    jti: str
    identity: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says, before any identity is matched.

    `issuer` is the issuer's name in policy; `token_id` a digest of issuer and `jti` (or of the signed
    content where there is no `jti`), safe to log; `expires_at` is timezone-aware UTC. Of a session token all but
    `expires_at` are those of the token it was exchanged for, and `exchanged` is its own.
    """

    issuer: str
    subject: str
    claims: Mapping[str, Json]
    token_id: str
    expires_at: datetime
    exchanged: Exchanged | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A declared identity, with the claims its token carried."""

    name: str
    issuer: str
    subject: str
    token_id: str
    expires_at: datetime
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, Json] = field(default_factory=dict)
    exchanged: Exchanged | None = None
    """Of a caller that showed a session token."""
    named: Mapping[str, Json] = field(default_factory=dict)
    """The claims that the policy names, by its names: in the identity, as the issuer's groups, in conditions."""

    @property
    def verified(self) -> Verified:
        """What its token said, to be matched anew under another policy."""
        return Verified(self.issuer, self.subject, self.claims, self.token_id, self.expires_at, self.exchanged)
