"""Identify: whose request is this?

Law: the caller is found anew for every request, not once for a connection; its token is taken off before
anything else can see it, also where the request is refused.
"""

from datetime import datetime

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges, Tunnels
from coatcheck.http.headers import without
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.match import match_identity
from coatcheck.identity.tokens import Presented, find_token
from coatcheck.live import Live, utc_now
from coatcheck.policy.model import Policy

_REMEMBERED = 10_000


class Identify:
    """Second stage: finds and verifies the token, and gives the exchange its caller."""

    def __init__(self, live: Live, exchanges: Exchanges, tunnels: Tunnels) -> None:
        self._live = live
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._callers: dict[tuple[str, str, int], tuple[Verified, Caller]] = {}

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """Who opens a tunnel. No token is a 407 (some clients send it only then); a bad one is told inside."""
        exchange = self._exchanges.get(flow)
        if exchange is None:
            return
        presented = self._take_token(flow, exchange)
        tunnel = self._tunnels.get(flow.client_conn)
        if flow.response or tunnel is None:
            return
        if presented is None:
            raise Refusal.unauthenticated("token-missing", "a token is needed: Proxy-Authorization", status=407)
        try:
            tunnel.verified = await self._verify(presented)
            exchange.caller = self._caller(exchange.policy, tunnel.verified, utc_now())
        except Refusal as refusal:
            tunnel.refusal = refusal

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Who sends this request."""
        exchange = self._exchanges.get(flow)
        if exchange is None or not flow.live:
            return
        presented = self._take_token(flow, exchange)
        if flow.response:
            return
        verified = await self._verify(presented) if presented else self._from_tunnel(flow)
        exchange.caller = self._caller(exchange.policy, verified, utc_now())

    def _take_token(self, flow: http.HTTPFlow, exchange: Exchange) -> Presented | None:
        """The token, with every header that carries one of ours removed."""
        headers, head = flow.request.headers, exchange.headers
        if head and "proxy-authorization" not in head and "authorization" not in head:
            return None
        proxy_authorization = headers.get_all("proxy-authorization")
        authorization = headers.get_all("authorization")
        is_ours = True
        try:
            issuers = exchange.policy.issuer_urls
            is_ours = not head or (bool(authorization) and find_token([], authorization, issuers=issuers) is not None)
            return find_token(proxy_authorization, authorization, issuers=issuers)
        finally:
            taken = ("proxy-authorization", "authorization") if is_ours else ("proxy-authorization",)
            headers.fields = tuple(without(headers.fields, *taken))
            for name in taken:
                head.pop(name, None)

    async def _verify(self, presented: Presented) -> Verified:
        now = utc_now()
        remembered = self._live.verifier.remembered(presented.token, now=now)
        return remembered or await self._live.verifier.verify(presented.token, now=now)

    def _from_tunnel(self, flow: http.HTTPFlow) -> Verified:
        tunnel = self._tunnels.get(flow.client_conn)
        if tunnel is not None and tunnel.refusal is not None:
            raise tunnel.refusal
        if tunnel is None or tunnel.verified is None:
            if flow.request.path.startswith("/.well-known/"):
                raise Refusal("not-found", "nothing is served here", status=404)
            is_proxied = tunnel is None and not isinstance(flow.client_conn.proxy_mode, ReverseMode)
            where = "Proxy-Authorization" if is_proxied else "Authorization"
            raise Refusal.unauthenticated(
                "token-missing", f"a token is needed: {where}", status=407 if is_proxied else 401
            )
        if tunnel.verified.expires_at <= utc_now():
            raise Refusal.unauthenticated("token-expired", "the token this tunnel was opened with has expired")
        return tunnel.verified

    def _caller(self, policy: Policy, verified: Verified, now: datetime) -> Caller:
        """The identity; remembered for a token under one policy for at most a day."""
        key = (policy.sha256, verified.token_id, now.toordinal())
        known, caller = self._callers.get(key, (None, None))
        if caller is None or known is not verified:  # an issuer may give two tokens one `jti`
            caller = match_identity(policy.identities, policy.issuers, verified, now=now)
            if len(self._callers) >= _REMEMBERED:
                self._callers.clear()
            self._callers[key] = verified, caller
        return caller
