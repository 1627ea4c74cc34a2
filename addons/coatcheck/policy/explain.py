"""Explain: why a call is decided as it is, rule by rule, and who may make it.

Law: an explanation comes from the same tests as the decision; it is never a second opinion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.asked import Asked, asked
from coatcheck.policy.conditions import ConditionError, variables
from coatcheck.policy.index import Compiled, compile_rule, index_of
from coatcheck.policy.model import Effect, Policy, Rule, RuleId, Server


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one rule makes of a call: `why` is the first thing that does not match, in words, or that all does."""

    rule: RuleId
    matched: bool
    why: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Access:
    """What one identity may do: `effect` is the strictest of the rules that permit it.

    `depends` says that some rule involved has a condition, so that arguments or claims decide.
    """

    caller: str
    effect: Effect
    depends: bool
    rules: tuple[RuleId, ...]


def explain(policy: Policy, caller: Caller, server: Server, call: Call, *, now: datetime) -> list[Explanation]:
    """One explanation a rule, in the order of the files."""
    what = asked(call)
    given = variables(caller, server, call, now)
    return [_explain_rule(compile_rule(rule), caller, server, what, given) for rule in policy.rules]


def shadows(policy: Policy, caller: Caller, server: Server, call: Call, *, now: datetime) -> list[Explanation]:
    """The shadow rules that would have had an effect on the call, by id; cheap where a server has none."""
    found = [one for one in index_of(policy).on(server).all if one.rule.shadow]
    if not found:
        return []
    what, given = asked(call), variables(caller, server, call, now)
    explained = [_explain_rule(one, caller, server, what, given) for one in found]
    return [explanation for explanation in explained if explanation.matched]


def who_may(policy: Policy, server: Server, call: Call) -> list[Access]:
    """Every declared identity that could make the call (arguments aside), by name.

    A condition on a permitting rule counts as met, one on a deny as not met; groups that only tokens give
    are not known here.
    """
    what = asked(call)
    found = [_access(policy, as_caller(policy, name), server, what) for name in sorted(policy.identities)]
    return [access for access in found if access is not None]


def as_caller(policy: Policy, name: str, claims: Mapping[str, Json] | None = None) -> Caller:
    """A declared identity as a caller without a token: its groups, and the claims its declaration pins down.

    `claims` are added to those. Raises `KeyError` for a name the policy does not have.
    """
    identity = policy.identities[name]
    pinned: dict[str, Json] = {
        claim: value
        for claim, value in identity.claims.items()
        if not isinstance(value, tuple) and not (isinstance(value, str) and "*" in value)
    }
    return Caller(
        name=name,
        issuer=identity.issuer,
        subject="",
        token_id="",
        expires_at=datetime.max.replace(tzinfo=UTC),
        groups=identity.groups,
        claims={**pinned, **(claims or {})},
    )


def _explain_rule(
    compiled: Compiled, caller: Caller, server: Server, what: Asked, given: dict[str, object]
) -> Explanation:
    rule = compiled.rule
    why = _first_mismatch(compiled, caller, server, what)
    if why is None and rule.when is not None:
        try:
            if not rule.when.holds(given):
                why = "its condition is false"
        except ConditionError as error:
            return Explanation(rule.id, True, f"its condition could not be checked: {error}", rule.effect)
    if why is not None:
        return Explanation(rule.id, False, why, rule.effect)
    return Explanation(rule.id, True, "a shadow rule: recorded only" if rule.shadow else "matches", rule.effect)


def _first_mismatch(compiled: Compiled, caller: Caller, server: Server, what: Asked) -> str | None:
    rule = compiled.rule
    if rule.server != server.name:
        return f"it is on {rule.server}, not {server.name}"
    if not compiled.is_for(caller):
        return f"it is for {', '.join(rule.who)}"
    test = compiled.tests.get(what.aspect)
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


def _access(policy: Policy, caller: Caller, server: Server, what: Asked) -> Access | None:
    rules = index_of(policy).on(server)
    denies = [one.rule for one, test in rules.denying(what.aspect) if one.is_for(caller) and test(what)]
    permits = [one.rule for one, test in rules.permitting_for(what.aspect) if one.is_for(caller) and test(what)]
    if not permits or any(rule.when is None for rule in denies):
        return None
    effect: Effect = "approve" if any(rule.effect == "approve" for rule in permits) else "allow"
    depends = any(rule.when is not None for rule in (*denies, *permits))
    return Access(caller.name, effect, depends, tuple(rule.id for rule in (*denies, *permits)))
