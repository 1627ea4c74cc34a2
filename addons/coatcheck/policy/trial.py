"""Trial: a policy's cases, decided, and which of its rules they tried.

Law: a case passes only when effect, rules and reason are those it names; a rule counts as tried only when a case's
call matches it, its condition included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from coatcheck.errors import Problem, Refusal
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.match import is_expired, match_identity
from coatcheck.policy.cases import Case, Token
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Decision, Deny, Hold
from coatcheck.policy.explain import as_caller, explain
from coatcheck.policy.model import Effect, Policy, RuleId
from coatcheck.policy.shape import suggest


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, tried: `problem` is None where it passed. `tried` are the rules that its call matches."""

    case: Case
    problem: Problem | None
    tried: frozenset[RuleId] = frozenset()


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many rules there are, and those no case tried, by place in the files."""

    rules: int
    untried: tuple[RuleId, ...]


def try_cases(policy: Policy, cases: Iterable[Case], *, now: datetime) -> list[Outcome]:
    """Each case, decided by the policy at its own moment or `now`."""
    return [_try(policy, case, case.at or now) for case in cases]


def coverage(policy: Policy, outcomes: Sequence[Outcome]) -> Coverage:
    """Which rules the cases tried."""
    tried = frozenset[RuleId]().union(*(outcome.tried for outcome in outcomes))
    return Coverage(len(policy.rules), tuple(rule.id for rule in policy.rules if rule.id not in tried))


def effect_of(decision: Decision) -> Effect:
    """`allow`, `approve` or `deny`."""
    match decision:
        case Allow():
            return "allow"
        case Hold():
            return "approve"
        case Deny():
            return "deny"


def _try(policy: Policy, case: Case, now: datetime) -> Outcome:
    unknown = _unknown_name(policy, case)
    if unknown is not None:
        return Outcome(case, unknown)
    server = policy.servers[case.server]
    try:
        caller = _caller(policy, case, now)
    except Refusal as refusal:
        return Outcome(case, _compare(case, Deny(refusal.reason, refusal.message)))
    decision = decide(policy, caller, server, [case.call], now=now)
    told = explain(policy, caller, server, case.call, now=now)
    return Outcome(case, _compare(case, decision), frozenset(one.rule for one in told if one.matched))


def _unknown_name(policy: Policy, case: Case) -> Problem | None:
    """A name the policy does not have would let a case that expects a deny pass for nothing."""
    names = [("server", [case.server], set(policy.servers))]
    if isinstance(case.caller, Token):
        names.append(("issuer", [case.caller.issuer], set(policy.issuers)))
    else:
        names.append(("identity", [case.caller], set(policy.identities)))
    names.append(("rule", list(case.rules), {rule.id for rule in policy.rules}))
    for what, used, known in names:
        for name in used:
            if name not in known:
                return Problem(case.where, f"case {case.name!r}: unknown {what} {name!r}", suggest(name, known))
    return None


def _caller(policy: Policy, case: Case, now: datetime) -> Caller:
    """Who the gateway would take the caller for. Raises `Refusal`."""
    if isinstance(case.caller, Token):
        token = case.caller
        verified = Verified(token.issuer, token.subject, token.claims, "", now + timedelta(minutes=5))
        return match_identity(policy.identities, policy.issuers, verified, now=now)
    identity = policy.identities[case.caller]
    if identity.disabled or is_expired(identity, now=now):
        reason = "identity-disabled" if identity.disabled else "identity-expired"
        raise Refusal.denied(reason, f"identity {identity.name} is {reason.partition('-')[2]}")
    return as_caller(policy, case.caller, case.claims)


def _compare(case: Case, decision: Decision) -> Problem | None:
    """What the case says otherwise than the decision; None where they agree."""
    effect = effect_of(decision)
    why = f"{decision.reason}: {decision.message}" if isinstance(decision, Deny) else ", ".join(decision.rules)
    got = f"{effect} ({why})" if why else effect
    if effect != case.expect:
        return Problem(case.where, f"case {case.name!r}: expected {case.expect}, got {got}")
    missing = [rule for rule in case.rules if rule not in decision.rules]
    if missing:
        return Problem(case.where, f"case {case.name!r}: expected it by rule {', '.join(missing)}, got {got}")
    if case.reason is not None and isinstance(decision, Deny) and decision.reason != case.reason:
        return Problem(case.where, f"case {case.name!r}: expected the reason {case.reason}, got {got}")
    return None
