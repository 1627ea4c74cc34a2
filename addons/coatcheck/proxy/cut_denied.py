"""Cut denied: what goes on for long ends when the policy no longer permits it.

Law: after a change of the policy no relayed tunnel and no stream goes on that the new policy would deny. What it would
have approved goes on: it was allowed, or approved, when it began.
"""

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.connection import Client

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges, Tunnels
from coatcheck.identity.caller import Verified
from coatcheck.identity.match import match_identity
from coatcheck.identity.verify import trusts_alike
from coatcheck.live import Live, utc_now
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Deny
from coatcheck.policy.model import Policy
from coatcheck.proxy.under_way import under_way


class CutDenied:
    """Run after every change of the policy, and a stage for what begins to stream after one. `cut` ends a client's
    connection.
    """

    def __init__(self, live: Live, exchanges: Exchanges, tunnels: Tunnels, cut: Callable[[Client], None]) -> None:
        self._live = live
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._cut = cut

    def run(self) -> None:
        """Cuts whatever is under way that the policy in force would not let begin."""
        for client, exchange, verified in under_way(self._exchanges, self._tunnels):
            if not _may_go_on(self._live.policy, exchange, verified):
                self._cut(client)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The same of a stream whose request was sent under an older policy."""
        exchange = self._exchanges.get(flow)
        if exchange is None or not exchange.streaming or exchange.policy is self._live.policy:
            return
        if exchange.caller is None or not _may_go_on(self._live.policy, exchange, exchange.caller.verified):
            self._cut(flow.client_conn)


def _may_go_on(policy: Policy, exchange: Exchange, verified: Verified) -> bool:
    """Whose token is verified alike, for the identity it was, to a server there still is, and not denied."""
    server = policy.servers.get(exchange.server.name) if exchange.server is not None else None
    if server is None or exchange.caller is None or not trusts_alike(exchange.policy, policy, verified.issuer):
        return False
    if exchange.stream is not None and not server.legacy_sse:
        return False  # a stream of the transport that this server may not speak any more
    now = utc_now()
    try:
        caller = match_identity(policy.identities, policy.issuers, verified, now=now, named=policy.claims_named)
    except Refusal:
        return False
    is_same = caller.name == exchange.caller.name
    if exchange.observes:
        return is_same
    return is_same and not isinstance(decide(policy, caller, server, exchange.calls, now=now), Deny)
