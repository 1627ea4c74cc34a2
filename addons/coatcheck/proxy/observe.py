"""Observe: with `--observe` the policy is asked and not obeyed, so that it can be tried on real traffic.

Law: a secret goes only with what would have been allowed; whatever would have been refused or held goes without.
Law: who the caller is, which servers there are, and what cannot be read or put in order, are no matters of policy:
they are enforced all the same.
"""

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange
from coatcheck.policy.decision import Allow, Deny
from coatcheck.policy.model import RuleId


def deny(exchange: Exchange, refusal: Refusal) -> None:
    """Raises the refusal; where the exchange only observes, notes it as what would have been decided."""
    if not exchange.observes:
        raise refusal
    if not isinstance(exchange.observed, Deny):  # the first word counts: the request would have come no further
        rules = () if refusal.rule is None else (RuleId(refusal.rule),)
        exchange.observed = Deny(refusal.reason, refusal.message, rules)


def may_have_secrets(exchange: Exchange) -> bool:
    """Whether the request would have gone just as it is."""
    return not exchange.observes or isinstance(exchange.observed, Allow)
