"""Authorize: may this caller ask this server for this?"""

from collections.abc import Mapping

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.live import utc_now
from coatcheck.mcp.answers import told_of_tool
from coatcheck.mcp.call import Json
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Decision, Deny
from coatcheck.policy.explain import shadow_decision
from coatcheck.proxy.peers import is_stateless

_REASONS = {"rule": "policy-denied", "no-rule": "policy-denied"}


class Authorize:
    """Asks the policy."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def request(self, flow: http.HTTPFlow) -> None:
        """Decides; a denial is raised as the answer."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or flow.error or not flow.live:
            return
        decide_exchange(exchange)


def decide_exchange(exchange: Exchange) -> Decision:
    """Decides the exchange's calls as inspected, and notes the decision on it; raises `Refusal` for a denial.

    Where the exchange only observes, it is allowed, and what was decided is noted beside that.
    """
    assert exchange.caller is not None
    assert exchange.server is not None
    policy, caller, server, calls, now = exchange.policy, exchange.caller, exchange.server, exchange.calls, utc_now()
    decision = decide(policy, caller, server, calls, now=now)
    exchange.shadow = shadow_decision(policy, caller, server, calls, decision, now=now)
    if exchange.observes:
        exchange.observed = decision
        decision = decision if isinstance(decision, Allow) else Allow()
    exchange.decision = decision
    if isinstance(decision, Deny):
        reason = _REASONS.get(decision.reason, decision.reason)
        told = _told(decision, exchange)
        raise Refusal.denied(reason, decision.message, rule=decision.rules[0] if decision.rules else None, told=told)
    return decision


def _told(decision: Deny, exchange: Exchange) -> Mapping[str, Json] | None:
    """The denial in its rule's style. A batch is refused as one: no result of a tool could answer it."""
    if exchange.inspected is not None and exchange.inspected.kind != "batch":
        call = exchange.calls[0]  # what follows are the client's answers that came with it
        if call.method != "tools/call":
            return None
        return told_of_tool(decision.style, call.name, decision.message, is_stateless=is_stateless(exchange))
    return told_of_tool("hide", None, decision.message) if decision.style == "hide" else None
