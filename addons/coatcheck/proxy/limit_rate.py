"""LimitRate: a rule's `limit`, for each caller and server.

Law: every rule that permits a call counts it, also one that allows what another asks an approval for; the limit that is
used up first is the one that holds.
Law: what is over a limit is refused before anyone is asked and before anything is journaled as sent. What must be
approved is counted once it is, before its approval is used up: to ask costs nothing, and waits for nobody in vain.
Buckets are this process's own: several gateways allow as many times as much.
"""

import math
from collections import Counter
from collections.abc import Callable

from mitmproxy import http

from coatcheck.errors import TOO_MANY, Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.policy.decision import Deny, Hold
from coatcheck.policy.rate import Claimed, RateLimits
from coatcheck.proxy.observe import deny


class LimitRate:
    """The stage after authorize: counts what the policy has permitted."""

    def __init__(self, exchanges: Exchanges, clock: Callable[[], float]) -> None:
        self._exchanges = exchanges
        self._clock = clock
        self._limits = RateLimits()

    def request(self, flow: http.HTTPFlow) -> None:
        """Counts what is allowed, looks for what is held; raises `Refusal` where a limit is used up."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.decision is None or flow.response or flow.error or not flow.live:
            return
        if isinstance(exchange.decision, Hold):
            over = self._limits.look(_claims(exchange), now=self._clock())
            self._refuse(exchange, over)
        else:
            self.count(exchange)

    def count(self, exchange: Exchange) -> None:
        """Takes one a call from the limits of every rule that permits it; raises `Refusal` where one is used up."""
        self._refuse(exchange, self._limits.take(_claims(exchange), now=self._clock()))

    @staticmethod
    def _refuse(exchange: Exchange, over: tuple[Claimed, float] | None) -> None:
        if over is None:
            return
        claim, wait = over
        message = f"{claim.caller} may call {claim.server} at most {claim.rate} by rule {claim.rule}"
        can_wait = math.isfinite(wait)
        refusal = Refusal(
            "rate-limited",
            message,
            status=429,
            code=TOO_MANY,
            rule=claim.rule,
            retryable=can_wait,
            details={"retry_after": math.ceil(wait)} if can_wait else None,
        )
        deny(exchange, refusal)


def _claims(exchange: Exchange) -> Counter[Claimed]:
    limits = exchange.policy.limits
    if not limits:
        return Counter()
    assert exchange.caller is not None
    assert exchange.server is not None
    decision = exchange.observed or exchange.decision
    assert decision is not None
    caller, server = exchange.caller.name, exchange.server.name
    counted = () if isinstance(decision, Deny) else decision.counted
    return Counter(Claimed(caller, server, rule, limits[rule]) for rule in counted if rule in limits)
