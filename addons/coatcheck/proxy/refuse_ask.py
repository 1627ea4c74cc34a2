"""What a server asks of its client, decided like a call of that client's.

Law: what no rule allows is not asked; what a rule would hold is not either, as a server cannot be kept waiting.
Law: a method that MCP does not have is a server's own text, and stands in no message and no record.
"""

from datetime import datetime
from typing import TypeIs

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.methods import METHODS
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Decision, Deny


def refused_ask(exchange: Exchange, method: object, message: Json, *, now: datetime) -> Refusal | None:
    """Why the policy does not let the server ask this, with the rule that says so; None where it does."""
    if not isinstance(message, dict) or not is_askable(method):
        return Refusal.denied("policy-denied", "the server asked for what servers do not ask")
    assert exchange.caller is not None
    assert exchange.server is not None
    params = message.get("params", {})
    call = Call("mcp", method, params=params if isinstance(params, dict) else {})
    decision = decide(exchange.policy, exchange.caller, exchange.server, [call], now=now)
    if isinstance(decision, Allow):
        return None
    rule = decision.rules[0] if decision.rules else None
    return Refusal.denied("policy-denied", _message(decision, method), rule=rule)


def is_askable(method: object) -> TypeIs[str]:
    """Whether a server may ask it at all; a rule may allow what MCP does not know."""
    known = METHODS.get(method) if isinstance(method, str) else None
    return isinstance(method, str) and (known is None or known.sender != "client")


def _message(decision: Decision, method: str) -> str:
    """Where a rule denies, its own words; they are the policy's."""
    if method in METHODS and isinstance(decision, Deny) and decision.rules:
        return f"the server asked for {method}: {decision.message}"
    return f"the server asked for {name_of(method)}, which no rule lets it ask"


def name_of(method: object) -> str:
    """A method's name for records; `unknown` where MCP has none of that name."""
    return method if isinstance(method, str) and method in METHODS else "unknown"
