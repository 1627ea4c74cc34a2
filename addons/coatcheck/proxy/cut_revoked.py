"""Cut revoked: what a session token began ends when the token is revoked.

Law: of a revoked token no relayed tunnel and no stream goes on. Requests not yet sent are refused where they are;
answers that are not streams are over in a moment, and say to their caller what was done.
"""

from collections.abc import Callable, Iterator

from mitmproxy import http
from mitmproxy.connection import Client

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchanges, Tunnels
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.live import Live, utc_now


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
        for client, jti in list(self._under_way()):
            try:
                await self._sessions.renew(jti, self._live.policy, now=utc_now())
            except Refusal as refusal:
                if refusal.reason == "token-revoked":
                    self._cut(client)

    def _under_way(self) -> Iterator[tuple[Client, str]]:
        """Connections that carry something a session token began, with its id."""
        for client, tunnel in list(self._tunnels.items()):
            relayed = tunnel.exchange is not None and not tunnel.exchange.finished
            if relayed and isinstance(client, Client) and tunnel.verified and tunnel.verified.exchanged:
                yield client, tunnel.verified.exchanged.jti
        for flow, exchange in list(self._exchanges.items()):
            streams = exchange.streaming and not exchange.finished
            if streams and isinstance(flow, http.HTTPFlow) and exchange.caller and exchange.caller.exchanged:
                yield flow.client_conn, exchange.caller.exchanged.jti
