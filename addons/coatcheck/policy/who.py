"""Who: every declared identity that could make a call, and with whose approval.

Law: whoever some call to the thing could be allowed or held for is listed; arguments and tokens may still decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from coatcheck.identity.caller import Caller
from coatcheck.identity.match import is_expired
from coatcheck.mcp.call import Call
from coatcheck.policy.asked import Asked, asked
from coatcheck.policy.decide import held_by
from coatcheck.policy.decision import Hold
from coatcheck.policy.explain import as_caller
from coatcheck.policy.index import ServerRules, index_of
from coatcheck.policy.model import Effect, Policy, RuleId, Server


@dataclass(frozen=True, slots=True)
class Access:
    """What one identity may do: `effect` is the strictest of the rules that permit it.

    `depends` says that some rule involved has a condition, so that arguments or claims decide. `approval` is what is
    asked for where the effect is `approve`. `group` is set where this holds only for tokens that list that group.
    """

    caller: str
    effect: Effect
    depends: bool
    rules: tuple[RuleId, ...]
    approval: Hold | None = None
    group: str | None = None


def who_may(policy: Policy, server: Server, call: Call, *, now: datetime) -> list[Access]:
    """Every identity that could make the call (arguments aside), by name; disabled and expired ones cannot.

    A condition on a permitting rule counts as met, one on a deny as not met. Where tokens carry groups, what a
    group of the rules would add to an identity is listed too, one group at a time.
    """
    what, rules = asked(call), index_of(policy).on(server)
    out: list[Access] = []
    for name, identity in sorted(policy.identities.items()):
        if not identity.disabled and not is_expired(identity, now=now):
            out.extend(_of(policy, as_caller(policy, name), rules, what))
    return out


def _of(policy: Policy, caller: Caller, rules: ServerRules, what: Asked) -> Iterator[Access]:
    plain = _access(caller, rules, what)
    if plain is not None:
        yield plain
    issuer = policy.issuers.get(caller.issuer)
    if issuer is None or issuer.groups_claim is None:
        return
    named = {group for compiled in rules.permitting for group in compiled.groups}
    for group in sorted(named - caller.groups):
        more = _access(replace(caller, groups=caller.groups | {group}), rules, what)
        if more is not None and more != plain:
            yield replace(more, group=group)


def _access(caller: Caller, rules: ServerRules, what: Asked) -> Access | None:
    denies = [one.rule for one, test in rules.denying(what.aspect) if one.is_for(caller) and test(what)]
    if any(rule.when is None for rule in denies):
        return None
    depends = any(rule.when is not None for rule in denies)
    if what.is_handshake:
        permits = [one.rule for one in rules.permitting if one.is_for(caller)]
        return (
            Access(caller.name, "allow", depends, tuple(rule.id for rule in (*denies, *permits))) if permits else None
        )
    permits = [one.rule for one, test in rules.permitting_for(what.aspect) if one.is_for(caller) and test(what)]
    if not permits:
        return None
    approvals = [one.rule for one, test in rules.holding(what.aspect) if one.is_for(caller) and test(what)]
    permits += [rule for rule in approvals if rule not in permits]
    return Access(
        caller.name,
        "approve" if approvals else "allow",
        depends or any(rule.when is not None for rule in permits),
        tuple(rule.id for rule in (*denies, *permits)),
        held_by(approvals) if approvals else None,
    )
