"""Identify: whose request is this?

Law: the caller is found anew for every request, not once for a connection; its token is taken off before
anything else can see it, also where the request is refused.
Law: a token of this gateway's is not taken along elsewhere in a head, to the server or into the flow; the caller's
own in no form (`keep_back.py`).
"""

import hashlib
from datetime import datetime

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges, Tunnel, Tunnels
from coatcheck.http.headers import without
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.match import match_identity
from coatcheck.identity.resource_metadata import WELL_KNOWN
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.tokens import JWT_START, Presented, find_token, holds_token, unverified_issuer
from coatcheck.identity.trace import TokenTrace
from coatcheck.identity.verify import trusts_alike
from coatcheck.live import Live, utc_now
from coatcheck.policy.model import Policy
from coatcheck.proxy.keep_back import astray, keep_back_head

_REMEMBERED = 10_000
_TRACED = 1_000
_JWT_START = JWT_START.encode()


class Identify:
    """Finds and verifies the token, and gives the exchange its caller."""

    def __init__(self, live: Live, exchanges: Exchanges, tunnels: Tunnels, sessions: SessionTokens) -> None:
        self._live = live
        self._sessions = sessions
        self._issuers: tuple[Policy | None, frozenset[str]] = (None, frozenset())
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._callers: dict[tuple[str, str, int], tuple[Verified, Caller]] = {}
        self._traces: dict[bytes, TokenTrace] = {}

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """Who opens a tunnel. No token is a 407 (some clients send it only then); a bad one is told inside."""
        exchange = self._exchanges.get(flow)
        if exchange is None:
            return
        is_astray = self._take_astray(flow, exchange)
        presented = self._take_token(flow, exchange)
        tunnel = self._tunnels.get(flow.client_conn)
        is_astray |= self._keep_back(flow, exchange, presented, tunnel)
        if flow.response or tunnel is None:
            return
        if presented is None:
            raise Refusal.unauthenticated("token-missing", "a token is needed: Proxy-Authorization", status=407)
        if is_astray:
            tunnel.refusal = astray()
            return
        try:
            tunnel.verified = await self._verify(presented, exchange.policy)
            tunnel.policy = exchange.policy
            tunnel.opened_by = exchange.caller = self._caller(exchange.policy, tunnel.verified, utc_now())
        except Refusal as refusal:
            tunnel.refusal = refusal

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Who sends this request."""
        exchange = self._exchanges.get(flow)
        if exchange is None or not flow.live:
            return
        is_astray = self._take_astray(flow, exchange)
        presented = self._take_token(flow, exchange)
        tunnel = self._tunnels.get(flow.client_conn)
        is_astray |= self._keep_back(flow, exchange, presented, tunnel)
        if flow.response:
            return
        if is_astray:
            raise astray()
        if presented is not None:
            verified = await self._verify(presented, exchange.policy)
        else:
            verified = await self._from_tunnel(flow, exchange.policy)
        exchange.caller = self._caller(exchange.policy, verified, utc_now())
        if presented is None or tunnel is None or tunnel.opened_by is None:
            return
        if _differ(tunnel.opened_by, exchange.caller):
            exchange.opened_by = tunnel.opened_by

    def _take_token(self, flow: http.HTTPFlow, exchange: Exchange) -> Presented | None:
        """The token, with every header that carries one of ours removed."""
        headers, head = flow.request.headers, exchange.headers
        if head and "proxy-authorization" not in head and "authorization" not in head:
            return None
        proxy_authorization = headers.get_all("proxy-authorization")
        authorization = headers.get_all("authorization")
        is_ours = True
        try:
            issuers = self._issuers_of(exchange.policy)
            is_ours = not head or (bool(authorization) and find_token([], authorization, issuers=issuers) is not None)
            return find_token(proxy_authorization, authorization, issuers=issuers)
        finally:
            taken = ("proxy-authorization", "authorization") if is_ours else ("proxy-authorization",)
            headers.fields = tuple(without(headers.fields, *taken))
            for name in taken:
                head.pop(name, None)

    def _take_astray(self, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        """Whether a token for this gateway stands where none belongs; it is removed from there."""
        request = flow.request
        values = b"\n".join([value for _, value in request.headers.fields])
        is_basic = exchange.headers.get("authorization", "").lstrip()[:5].lower() == "basic"
        if _JWT_START not in values and JWT_START not in request.path and not is_basic:
            return False
        issuers, audience = self._issuers_of(exchange.policy), exchange.policy.audience
        astray = [
            (name, value)
            for name, value in request.headers.fields
            if _may_hold(name, value) and holds_token(value.decode("latin-1"), issuers=issuers, audience=audience)
        ]
        if astray:
            request.headers.fields = tuple(each for each in request.headers.fields if each not in astray)
            for name, _ in astray:
                exchange.headers.pop(name.decode("latin-1").lower(), None)
        is_in_path = holds_token(request.path, issuers=issuers, audience=audience)
        if is_in_path:
            request.path = "/***"
        return bool(astray) or is_in_path

    def _keep_back(
        self, flow: http.HTTPFlow, exchange: Exchange, presented: Presented | None, tunnel: Tunnel | None
    ) -> bool:
        """Begins to look for the token, and for the tunnel's; whether one is in the head in whatever form."""
        own = self._trace(presented.token) if presented is not None else None
        if tunnel is not None and flow.request.method == "CONNECT":
            tunnel.trace = own
        opened_with = tunnel.trace if tunnel is not None else None
        exchange.traces = tuple(trace for trace in (own, opened_with if opened_with is not own else None) if trace)
        return bool(exchange.traces) and keep_back_head(flow, exchange)

    def _trace(self, token: str) -> TokenTrace:
        """The token's trace; remembered, for most tokens are shown again and again, by what tells nothing of them."""
        digest = hashlib.sha256(token.encode()).digest()
        trace = self._traces.get(digest)
        if trace is None:
            if len(self._traces) >= _TRACED:
                self._traces.clear()
            trace = self._traces[digest] = TokenTrace.of(token)
        return trace

    def _issuers_of(self, policy: Policy) -> frozenset[str]:
        """Whose bearer tokens are for us: the policy's issuers', and our own."""
        if self._issuers[0] is not policy:
            self._issuers = policy, policy.issuer_urls | {self._sessions.issuer}
        return self._issuers[1]

    async def _verify(self, presented: Presented, policy: Policy) -> Verified:
        if policy is not self._live.policy:  # its verifier is gone
            raise _policy_changed(503)
        now, token, sessions = utc_now(), presented.token, self._sessions
        verified = self._live.verifier.remembered(token, now=now)
        if verified is None:
            if sessions.is_remembered(token, policy.audience) or unverified_issuer(token) == sessions.issuer:
                return await sessions.verify(token, policy, now=now)
            verified = await self._live.verifier.verify(token, now=now)
        spec = policy.issuers.get(verified.issuer)
        if spec is not None and spec.one_time:
            message = f"tokens of issuer {spec.name} are used once: exchange it at the control port's /token"
            raise Refusal.unauthenticated("token-one-time", message)
        return verified

    async def _from_tunnel(self, flow: http.HTTPFlow, policy: Policy) -> Verified:
        tunnel = self._tunnels.get(flow.client_conn)
        if tunnel is not None and tunnel.refusal is not None:
            raise tunnel.refusal
        if tunnel is None or tunnel.verified is None:
            if flow.request.path.startswith(WELL_KNOWN):
                raise Refusal("not-found", "nothing is served here", status=404)
            is_proxied = tunnel is None and not isinstance(flow.client_conn.proxy_mode, ReverseMode)
            where = "Proxy-Authorization" if is_proxied else "Authorization"
            raise Refusal.unauthenticated(
                "token-missing", f"a token is needed: {where}", status=407 if is_proxied else 401
            )
        if tunnel.policy is not policy:
            if tunnel.policy is None or not trusts_alike(tunnel.policy, policy, tunnel.verified.issuer):
                raise _policy_changed(401)
            tunnel.policy = policy
        if tunnel.verified.expires_at <= utc_now():
            raise Refusal.unauthenticated("token-expired", "the token this tunnel was opened with has expired")
        if tunnel.verified.exchanged is not None:  # it may have been revoked since
            return await self._sessions.renew(tunnel.verified.exchanged.jti, policy, now=utc_now())
        return tunnel.verified

    def forget(self) -> None:
        """Every caller must be found anew."""
        self._callers.clear()
        self._traces.clear()

    def _caller(self, policy: Policy, verified: Verified, now: datetime) -> Caller:
        """The identity; remembered for a token under one policy for at most a day."""
        token_id = verified.exchanged.jti if verified.exchanged is not None else verified.token_id
        key = (policy.sha256, token_id, now.toordinal())
        known, caller = self._callers.get(key, (None, None))
        if caller is None or known is not verified:  # an issuer may give two tokens one `jti`
            caller = match_identity(policy.identities, policy.issuers, verified, now=now, named=policy.claims_named)
            if len(self._callers) >= _REMEMBERED:
                self._callers.clear()
            self._callers[key] = verified, caller
        return caller


def _policy_changed(status: int) -> Refusal:
    return Refusal.unauthenticated("policy-changed", "the policy changed; show your token again", status=status)


def _may_hold(name: bytes, value: bytes) -> bool:
    """Whether to look into a header for a token that does not belong there."""
    match name.lower():
        case b"proxy-authorization":
            return False
        case b"authorization":
            scheme, rest = value.lstrip()[:6].lower(), value.lstrip()[6:7]
            return scheme != b"bearer" or rest.isalnum()
    return _JWT_START in value


def _differ(one: Caller, other: Caller) -> bool:
    return (one.name, one.issuer, one.subject) != (other.name, other.issuer, other.subject)
