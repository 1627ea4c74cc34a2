"""Explain: why a call is decided as it is, rule by rule.

Law: an explanation comes from the same tests as the decision; it is never a second opinion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from coatcheck.identity.caller import Caller
from coatcheck.identity.match import token_groups
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.asked import Asked, asked
from coatcheck.policy.conditions import ConditionError, variables
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Decision
from coatcheck.policy.index import Compiled, compile_rule, index_of
from coatcheck.policy.model import Effect, Policy, Rate, Rule, RuleId, Server

_KEPT = "_with_shadows"
_HOLDS = "holds it where another rule permits it"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one rule makes of a call: `why` is the first thing that does not match, in words, or that all does."""

    rule: RuleId
    matched: bool
    why: str
    effect: Effect
    is_shadow: bool = False
    where: str = ""
    """`file:line:col` of the rule."""
    limit: Rate | None = None


def explain(policy: Policy, caller: Caller, server: Server, call: Call, *, now: datetime) -> list[Explanation]:
    """One explanation a rule, in the order of the files."""
    what = asked(call)
    given = variables(caller, server, call, now)
    rules = [compile_rule(rule) for rule in policy.rules]
    told = [_explain_rule(one, caller, server, what, given) for one in rules]
    spelt = [_spells(one, what) for one in rules]
    acting = [one.matched and not one.is_shadow and one.effect != "deny" for one in told]
    if any(acts and is_spelt for acts, is_spelt in zip(acting, spelt, strict=True)):
        return told
    return [  # of a call that no rule permits there is nothing to hold
        replace(one, matched=False, why=_HOLDS) if acts else one for one, acts in zip(told, acting, strict=True)
    ]


def shadows(policy: Policy, caller: Caller, server: Server, call: Call, *, now: datetime) -> list[Explanation]:
    """The shadow rules that would have had an effect on the call, by id; cheap where a server has none."""
    found = [one for one in index_of(policy).on(server).all if one.rule.shadow]
    if not found:
        return []
    what, given = asked(call), variables(caller, server, call, now)
    explained = [_explain_rule(one, caller, server, what, given) for one in found]
    return [explanation for explanation in explained if explanation.matched]


def with_shadows(policy: Policy) -> Policy:
    """The policy as it would be if its shadow rules acted; made once and kept on it, as its index is."""
    kept: Policy | None = policy.__dict__.get(_KEPT)
    if kept is None:
        acting = replace(policy, rules=tuple(replace(rule, shadow=False) for rule in policy.rules))
        kept = policy.__dict__[_KEPT] = acting
    return kept


def shadow_decision(
    policy: Policy, caller: Caller, server: Server, calls: Sequence[Call], decision: Decision, *, now: datetime
) -> Decision | None:
    """What would have been decided if the shadow rules acted; None where that is `decision`. Cheap without shadows."""
    if not index_of(policy).on(server).has_shadows:
        return None
    shadowed = decide(with_shadows(policy), caller, server, calls, now=now)
    return None if shadowed == decision else shadowed


def as_caller(policy: Policy, name: str, claims: Mapping[str, Json] | None = None) -> Caller:
    """A declared identity as a caller without a token: its groups, and the claims its declaration pins down.

    `claims` are added to those, and the groups they list to its own. Raises `KeyError` for an unknown name.
    """
    identity = policy.identities[name]
    pinned: dict[str, Json] = {
        claim: value
        for claim, value in identity.claims.items()
        if not isinstance(value, tuple) and not (isinstance(value, str) and "*" in value)
    }
    held = {**pinned, **(claims or {})}
    return Caller(
        name=name,
        issuer=identity.issuer,
        subject="",
        token_id="",
        expires_at=datetime.max.replace(tzinfo=UTC),
        groups=identity.groups | token_groups(policy.issuers.get(identity.issuer), held),
        claims=held,
    )


def _explain_rule(
    compiled: Compiled, caller: Caller, server: Server, what: Asked, given: dict[str, object]
) -> Explanation:
    rule = compiled.rule
    why = _first_mismatch(compiled, caller, server, what)
    matched = why is None
    if why is None:
        why = "matches" if _spells(compiled, what) else _HOLDS
        if rule.when is not None:
            try:
                matched = rule.when.holds(given)
                why = f"{why}, and its condition is true" if matched else "its condition is false"
            except ConditionError as error:
                why = f"its condition could not be checked: {error}"
        if matched and rule.shadow:
            why = f"a shadow rule, recorded only: {why}"
    return Explanation(rule.id, matched, why, rule.effect, rule.shadow, rule.where, rule.limit)


def _spells(compiled: Compiled, what: Asked) -> bool:
    """Whether it matches as it is written, not only as widely as it holds."""
    return what.aspect in compiled.tests and compiled.tests[what.aspect](what)


def _first_mismatch(compiled: Compiled, caller: Caller, server: Server, what: Asked) -> str | None:
    rule = compiled.rule
    if rule.server != server.name:
        return f"it is on {rule.server}, not {server.name}"
    if not compiled.is_for(caller):
        return f"it is for {', '.join(rule.who)}"
    test = (compiled.holds or compiled.tests).get(what.aspect)
    if test is None:
        return f"it names no {what.aspect}"
    if test(what):
        return None
    return f"its {what.aspect} are {', '.join(_patterns(rule, what))}"


def _patterns(rule: Rule, what: Asked) -> tuple[str, ...]:
    match what.aspect:
        case "tools":
            found = rule.tools
        case "resources":
            found = rule.resources
        case "prompts":
            found = rule.prompts
        case "methods":
            found = rule.methods
        case "http":
            found = tuple(f"{pattern.method} {pattern.path}" for pattern in rule.http)
    return found or rule.methods
