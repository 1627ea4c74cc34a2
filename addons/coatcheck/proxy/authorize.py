"""Authorize: may this caller ask this server for this?"""

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.live import utc_now
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Decision, Deny

_REASONS = {"rule": "policy-denied", "no-rule": "policy-denied"}


class Authorize:
    """Fourth stage: asks the policy."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def request(self, flow: http.HTTPFlow) -> None:
        """Decides; a denial is raised as the answer."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or flow.error or not flow.live:
            return
        decide_exchange(exchange)


def decide_exchange(exchange: Exchange) -> Decision:
    """Decides the exchange's calls as inspected, and notes the decision on it; raises `Refusal` for a denial."""
    assert exchange.caller is not None
    assert exchange.server is not None
    decision = decide(exchange.policy, exchange.caller, exchange.server, exchange.calls, now=utc_now())
    exchange.decision = decision
    if isinstance(decision, Deny):
        reason = _REASONS.get(decision.reason, decision.reason)
        raise Refusal.denied(reason, decision.message, rule=decision.rules[0] if decision.rules else None)
    return decision
