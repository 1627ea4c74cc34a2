"""Cut revoked: what a session token began ends when the token is revoked.

Law: of a revoked token no relayed tunnel and no stream goes on. Requests not yet sent are refused where they are.
"""

from collections.abc import Callable

from mitmproxy.connection import Client

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchanges, Tunnels
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.live import Live, utc_now
from coatcheck.proxy.under_way import under_way


class CutRevoked:
    """Run after every change of the session tokens. `cut` ends a client's connection."""

    def __init__(
        self,
        live: Live,
        exchanges: Exchanges,
        tunnels: Tunnels,
        sessions: SessionTokens,
        cut: Callable[[Client], None],
    ) -> None:
        self._live = live
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._sessions = sessions
        self._cut = cut

    async def run(self) -> None:
        """Cuts whatever is under way for tokens that are revoked now."""
        for client, _, verified in list(under_way(self._exchanges, self._tunnels)):
            if verified.exchanged is None:
                continue
            try:
                await self._sessions.renew(verified.exchanged.jti, self._live.policy, now=utc_now())
            except Refusal as refusal:
                if refusal.reason == "token-revoked":
                    self._cut(client)
