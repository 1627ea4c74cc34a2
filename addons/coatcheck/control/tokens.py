"""Token exchange at the control port (RFC 8693), and the keys that verify what it gives out (RFC 7517).

Law: a subject token is verified exactly as a caller's token is, and must be one identity's; a session token is none.
Law: what was given out is in the database and in the journal before it is answered; what was refused is journaled too.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, override

import tornado.web

from coatcheck.control.server import Routes
from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.match import match_identity
from coatcheck.identity.one_time import UsedTokens
from coatcheck.identity.session_store import IssuedToken
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.token_request import (
    ErrorCode,
    TokenRequest,
    TokenRequestError,
    read_assertion,
    read_token_request,
    unsupported_token_type,
)
from coatcheck.identity.tokens import unverified_issuer
from coatcheck.live import Live, utc_now
from coatcheck.mcp.call import Json
from coatcheck.policy.model import IssuerSpec, Policy

type NoteIssued = Callable[[IssuedToken], Awaitable[None]]
type NoteRefused = Callable[[Refusal, Caller | None, Policy], None]


class VerifyAssertion(Protocol):
    """Verifies a SAML assertion (its XML) for `audience`. Blocks; raises `Refusal`."""

    def __call__(
        self, assertion: bytes, issuers: Mapping[str, IssuerSpec], *, audience: str, now: datetime
    ) -> Verified:
        """What the assertion says."""
        ...


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """Makes session tokens of callers' tokens. `note` journals each, `note_refused` each token that gives none, with
    its caller where it is one's; without `verify_assertion` SAML is refused.
    """

    live: Live
    tokens: SessionTokens
    used: UsedTokens
    note: NoteIssued
    note_refused: NoteRefused
    verify_assertion: VerifyAssertion | None = None

    def routes(self) -> Routes:
        """What the control port serves of it."""
        return [
            (r"/token", Token, {"exchange": self}),
            (r"/\.well-known/jwks\.json", PublicKeys, {"exchange": self}),
        ]

    async def exchange(self, body: bytes, content_type: str) -> dict[str, Json]:
        """The answer of RFC 8693 section 2.2.1. Raises `TokenRequestError`."""
        policy, now, caller = self.live.policy, utc_now(), None
        request = read_token_request(body, content_type, audience=policy.audience)
        try:
            caller = await self._caller(request, policy, now)
            token, issued = await self._issued(caller, policy, now)
        except Refusal as refusal:
            self.note_refused(refusal, caller, policy)
            raise _as_oauth(refusal) from None
        except CoatcheckError:
            what = "session tokens cannot be given out at the moment"
            raise TokenRequestError("temporarily_unavailable", what, reason="state-unavailable", status=503) from None
        return {
            "access_token": token,
            "issued_token_type": request.issued_type,
            "token_type": "Bearer",
            "expires_in": issued.expires_at - issued.issued_at,
        }

    async def _caller(self, request: TokenRequest, policy: Policy, now: datetime) -> Caller:
        verified = await self._verified(request, policy, now)
        return match_identity(policy.identities, policy.issuers, verified, now=now, named=policy.claims_named)

    async def _issued(self, caller: Caller, policy: Policy, now: datetime) -> tuple[str, IssuedToken]:
        if policy.issuers[caller.issuer].one_time:
            await asyncio.to_thread(self.used.use, caller.token_id, expires_at=caller.expires_at, now=now)
        token, issued = await asyncio.to_thread(self.tokens.issue, caller, policy, now=now)
        await self.note(issued)
        return token, issued

    async def _verified(self, request: TokenRequest, policy: Policy, now: datetime) -> Verified:
        if request.kind == "jwt":
            if unverified_issuer(request.subject_token) == self.tokens.issuer:
                raise Refusal.unauthenticated("token-exchanged", "a session token cannot be exchanged for another")
            return await self.live.verifier.verify(request.subject_token, now=now)
        if self.verify_assertion is None or not any(spec.saml for spec in policy.issuers.values()):
            raise unsupported_token_type("no issuer in the policy is one of SAML assertions")
        assertion = read_assertion(request.subject_token)
        return await asyncio.to_thread(
            self.verify_assertion, assertion, policy.issuers, audience=policy.audience, now=now
        )


def _as_oauth(refusal: Refusal) -> TokenRequestError:
    """A subject token that is not acceptable, for whatever reason, is an invalid request (RFC 8693 section 2.2.2).

    The status is the one that the same token gets at the proxy: RFC 6749 section 5.2 leaves it open, and clients that
    look no further than there see a bad token (401), nobody's (403) and a gateway that cannot tell (503) apart.
    """
    code: ErrorCode = "temporarily_unavailable" if refusal.status in (429, 503) else "invalid_request"
    return TokenRequestError(code, refusal.message, reason=refusal.reason, status=refusal.status)


class _Handler(tornado.web.RequestHandler):
    @override
    def initialize(self, exchange: TokenExchange) -> None:
        self.exchange = exchange

    @override
    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        self.clear_header("Server")

    @override
    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.finish(json.dumps({"error": "invalid_request", "error_description": self._reason, "reason": "error"}))


class Token(_Handler):
    """`POST /token`: a session token for a caller's token."""

    async def post(self) -> None:
        """200 as RFC 8693 section 2.2.1, or an error as RFC 6749 section 5.2 with our own `reason` beside it: 400 for a
        request that is none, else the status that the token gets at the proxy.
        """
        types = self.request.headers.get_list("Content-Type")
        try:
            answer = await self.exchange.exchange(self.request.body, types[0] if len(types) == 1 else "")
        except TokenRequestError as error:
            self.set_status(error.status)
            if error.status == 401:
                self.set_header("WWW-Authenticate", 'Bearer error="invalid_token"')  # RFC 9110 section 15.5.2
            answer = {"error": error.code, "error_description": _plain(error.description), "reason": error.reason}
        self.finish(json.dumps(answer))


class PublicKeys(_Handler):
    """`GET /.well-known/jwks.json`: the public halves of the keys that sign session tokens."""

    def get(self) -> None:
        """A JWK set (RFC 7517 section 5)."""
        self.finish(json.dumps(self.exchange.tokens.keys.jwks()))


def _plain(text: str) -> str:
    """The characters that an `error_description` may have (RFC 6749 section 5.2)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
