"""Session tokens: what a caller gets for its platform's token, for jobs that outlive it (RFC 8693, RFC 7519).

Law: a session token is never more than the token it was exchanged for: the same identity, groups and claims, decided
under the present policy; for what is issued, what is in force now counts, never what was in force then.
Law: no token is kept; its claims are sealed in the database, found by `jti`, and bound to all that is listed of it.
Law: a revoked token is refused from the moment its revocation is noticed, in open tunnels too; while the database
cannot be asked, every session token is refused, and while nobody watches for revocations nothing is remembered.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
from jwt.exceptions import PyJWTError

from coatcheck.errors import GATEWAY_FAULT, CoatcheckError, Refusal
from coatcheck.identity.caller import Caller, Exchanged, Verified
from coatcheck.identity.jose import SESSION_TYPE, read_claims, read_header
from coatcheck.identity.session_claims import SealedClaims, short_run, sign_token
from coatcheck.identity.session_store import IssuedToken, SessionStore
from coatcheck.identity.signing_keys import ALGORITHM, SigningKey, SigningKeys
from coatcheck.identity.verify import check_audience
from coatcheck.mcp.call import Json
from coatcheck.policy.model import IssuerSpec, Policy
from coatcheck.vault.crypto import Sealer

POLL_SECONDS = 1.0
WATCHED_SECONDS = 5.0
"""How long what was looked up counts after the last look for revocations."""
MAX_REMEMBERED = 10_000
KEY_COOLDOWN_SECONDS = 1.0

_log = logging.getLogger(__name__)

type NoteRevoked = Callable[[IssuedToken], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Known:
    """One token as the database has it, its claims opened."""

    issued: IssuedToken
    claims: Mapping[str, Json]


class SessionTokens:
    """Issues, verifies and forgets the session tokens of one gateway, or of several that share a database."""

    def __init__(
        self, store: SessionStore, sealer: Sealer, vault_id: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer = f"urn:coatcheck:gateway:{vault_id}"
        self.keys = SigningKeys(store, sealer, vault_id)
        self._store = store
        self._claims = SealedClaims(sealer, vault_id)
        self._jws = jwt.PyJWS([ALGORITHM])
        self._signed: OrderedDict[bytes, str] = OrderedDict()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._made: dict[tuple[str, str], Verified] = {}
        self._generation = 0
        self._clock = clock
        self._watched_at = self._keys_at = clock() - WATCHED_SECONDS

    # -- issuing -----------------------------------------------------------------------------------------------

    def issue(self, caller: Caller, policy: Policy, *, now: datetime) -> tuple[str, IssuedToken]:
        """A new token for a caller that has shown another one, and what may be told about it. Blocks on the database.

        Raises `Refusal` (429 `too-many-tokens`; 401 `token-exchanged` for a caller that showed a session token),
        `StateError`.
        """
        if caller.exchanged is not None:
            raise _refused("token-exchanged", "a session token cannot be exchanged for another")
        issued_at = int(now.timestamp())
        issued = IssuedToken(
            jti=secrets.token_hex(16),
            identity=caller.name,
            issuer=policy.issuers[caller.issuer].issuer,
            subject=caller.subject,
            token_id=caller.token_id,
            run=short_run(caller.claims),
            issued_at=issued_at,
            expires_at=issued_at + int(policy.session_ttl.total_seconds()),
        )
        key = self.keys.current(now=now)
        self._store.add(issued, self._claims.seal(caller.claims, issued), now=now)
        return sign_token(issued, key, issuer=self.issuer, audience=policy.audience), issued

    # -- verifying ---------------------------------------------------------------------------------------------

    def is_remembered(self, token: str, audience: str) -> bool:
        """Whether this very token was verified not long ago, so that it need not be read to know that it is ours."""
        return _digest(token, audience) in self._signed

    async def verify(self, token: str, policy: Policy, *, now: datetime) -> Verified:
        """What the token stands for, under `policy`.

        Raises `Refusal`: 401 `token-malformed`, `wrong-issuer`, `wrong-audience`, `algorithm-not-allowed`,
        `unknown-key`, `bad-signature`, and those of `renew`; 503 `state-unavailable`.
        """
        digest = _digest(token, policy.audience)
        jti = self._signed.get(digest)
        if jti is None:
            jti = await self._verify_signature(token, policy.audience)
            self._signed[digest] = jti
            if len(self._signed) > MAX_REMEMBERED:
                self._signed.popitem(last=False)
        return await self.renew(jti, policy, now=now)

    async def renew(self, jti: str, policy: Policy, *, now: datetime) -> Verified:
        """What the token of that id, verified before, stands for now: asked again for whatever came in its tunnel.

        Raises `Refusal`: 401 `unknown-token`, `token-revoked`, `token-expired`, `wrong-issuer`; 503
        `state-unavailable`.
        """
        is_watched = self._clock() - self._watched_at < WATCHED_SECONDS
        known = (self._known.get(jti) if is_watched else None) or await self._load(jti)
        issued = known.issued
        if issued.revoked_at is not None:
            raise _refused("token-revoked", "this session token was revoked")
        # a lifetime that was shortened since counts for the tokens that are out
        expires_at = min(issued.expires_at, issued.issued_at + int(policy.session_ttl.total_seconds()))
        if expires_at <= now.timestamp():
            raise _refused("token-expired", "the session token has expired; exchange a new token for another")
        verified = self._made.get((jti, policy.sha256))
        if verified is None:
            spec = _issuer_of(issued, policy)
            if spec is None:
                raise _refused("wrong-issuer", "the issuer this session token goes back to is no more in the policy")
            until = datetime.fromtimestamp(expires_at, UTC)
            origin = (spec.name, issued.subject, known.claims, issued.token_id)
            verified = Verified(*origin, until, Exchanged(jti, issued.identity))
            if len(self._made) >= MAX_REMEMBERED:
                self._made.clear()
            if jti in self._known:
                self._made[jti, policy.sha256] = verified
        return verified

    async def _verify_signature(self, token: str, audience: str) -> str:
        """The token's `jti`, once it is known to be one of ours."""
        header, claims = read_header(token, types=(SESSION_TYPE,)), read_claims(token)
        if claims.get("iss") != self.issuer:
            raise _refused("wrong-issuer", "the session token is another gateway's")
        if header.alg != ALGORITHM or header.typ != SESSION_TYPE or header.kid is None:
            raise _refused("algorithm-not-allowed", "not the header of a session token")
        check_audience(claims, audience)
        key = self.keys.find(header.kid) or await self._look_again(header.kid)
        try:
            self._jws.decode_complete(token, key=key.public, algorithms=[ALGORITHM])
        except PyJWTError:
            raise _refused("bad-signature", "the session token's signature is not this gateway's") from None
        jti = claims.get("jti")
        if not isinstance(jti, str):
            raise _refused("token-malformed", "the session token has no jti")
        return jti

    async def _look_again(self, kid: str) -> SigningKey:
        """A key that another gateway may have made just now; looked for once a second at most."""
        if self._clock() - self._keys_at >= KEY_COOLDOWN_SECONDS:
            self._keys_at = self._clock()
            await _asked(self.keys.load)
        key = self.keys.find(kid)
        if key is None:
            raise _refused("unknown-key", "no key of this gateway signed this session token")
        return key

    async def _load(self, jti: str) -> _Known:
        generation = self._generation
        found = await _asked(lambda: self._store.find(jti))
        if found is None:
            raise _refused("unknown-token", "no session token of that id was given out")
        known = _Known(found[0], self._claims.open(*found))
        if generation == self._generation:
            self._known[jti] = known
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return known

    # -- revocation --------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Every session token must be asked for anew, those being looked up at this moment too."""
        self._generation += 1
        self._signed.clear()
        self._known.clear()
        self._made.clear()

    async def watch(
        self, problems: MutableMapping[str, str], note: NoteRevoked, changed: Callable[[], Awaitable[None]]
    ) -> None:
        """Runs for the gateway's life: takes over revocations and new keys. `note` is told each revocation once;
        `changed` ends what may not go on.

        While the database cannot be asked nothing is remembered, and `problems` says so.
        """
        seen: int | None = None
        while True:
            try:
                began = self._clock()
                generation = await asyncio.to_thread(self._store.generation)
                if generation != seen:
                    await asyncio.to_thread(self._take_keys)
                    self.forget()
                    await changed()
                    await self._note_revoked(note)
                    seen = generation
                self._watched_at = began
                problems.pop("session-tokens", None)
            except CoatcheckError as error:
                self.forget()
                seen = None
                problems["session-tokens"] = "revocations cannot be noticed"
                _log.warning("session tokens: %s", error)
            await asyncio.sleep(POLL_SECONDS)

    def _take_keys(self) -> None:
        """The keys as they now are; the first is made here, so that it can be seen before it signs."""
        self.keys.load()
        self.keys.current(now=datetime.now(UTC))

    async def _note_revoked(self, note: NoteRevoked) -> None:
        due = await asyncio.to_thread(self._store.unjournaled)
        for issued in due:
            await note(issued)
        if due:
            done, now = [issued.jti for issued in due], datetime.now(UTC)
            await asyncio.to_thread(lambda: self._store.set_journaled(done, now=now))


async def _asked[T](ask: Callable[[], T]) -> T:
    """What the database says, off the event loop. Raises `Refusal` (503 `state-unavailable`) where it fails."""
    try:
        return await asyncio.to_thread(ask)
    except CoatcheckError:
        message = "session tokens cannot be looked up at the moment"
        raise Refusal("state-unavailable", message, status=503, code=GATEWAY_FAULT, retryable=True) from None


def _issuer_of(issued: IssuedToken, policy: Policy) -> IssuerSpec | None:
    """The issuer a token goes back to. One provider may be two, of tokens and of assertions: then the identity's."""
    named = [spec for spec in policy.issuers.values() if spec.issuer == issued.issuer]
    identity = policy.identities.get(issued.identity)
    return next((spec for spec in named if identity and spec.name == identity.issuer), named[0] if named else None)


def _digest(token: str, audience: str) -> bytes:
    return hashlib.sha256(f"{token} {audience}".encode("utf-8", "surrogatepass")).digest()


def _refused(reason: str, message: str) -> Refusal:
    return Refusal.unauthenticated(reason, message)
