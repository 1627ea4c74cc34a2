"""Decide: the pure function from a policy, a caller and calls to a decision (DESIGN 5.3).

Law: what no rule permits is denied.
Law: the strictest matching rule wins (deny > approve > allow), whatever the order of rules.
Law: what an approve rule holds, no other spelling of it gets past: it matches as widely as a deny does what another
rule permits, and permits itself what it spells alone.
Law: a condition that cannot be evaluated denies, whatever its rule's effect.
Law: what `may_see` hides, `decide` denies for every argument.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy import globs
from coatcheck.policy.asked import Asked, Listed, asked
from coatcheck.policy.conditions import ConditionError, variables
from coatcheck.policy.decision import Allow, Decision, Deny, Hold
from coatcheck.policy.index import Compiled, Ready, ServerRules, index_of
from coatcheck.policy.model import DenyStyle, Policy, Rule, RuleId, Server


def decide(policy: Policy, caller: Caller, server: Server, calls: Sequence[Call], *, now: datetime) -> Decision:
    """The strictest of the decisions on each call; no calls at all are denied.

    `now` is timezone-aware UTC, what conditions see as `now`. Raises nothing.
    """
    rules = index_of(policy).on(server)
    if len(calls) == 1:
        return _decide_one(rules, caller, server, calls[0], now)
    if not calls:
        return Deny("no-rule", f"{caller.name} asked {server.name} for nothing")
    return _strictest([_decide_one(rules, caller, server, call, now) for call in calls])


def may_see(policy: Policy, caller: Caller, server: Server, kind: Listed, name: str, *, now: datetime) -> bool:
    """Whether some call to `name` could be allowed or approved: what a list may show.

    A `when` on a permitting rule counts as true, one on a deny as false. For resources `name` is a URI
    or a URI template (RFC 6570). `now` is there because a rule may come to depend on the time.
    """
    del now
    rules = index_of(policy).on(server)
    if kind == "resources" and "{" in name:
        return _may_see_template(rules, caller, name)
    what = Asked(kind, _LISTED_METHOD[kind], name)
    if any(not found.when for found in _matching(rules.denying(kind), caller, what)):
        return False
    return any(True for _ in _matching(rules.permitting_for(kind), caller, what))


def may_ask(policy: Policy, caller: Caller, server: Server, method: str) -> bool:
    """Whether the server could be let ask the caller `method` (`sampling/createMessage`) in some case.

    Conditions count as in `may_see`; `approve` does not let it: a request on a stream waits for nobody.
    """
    rules = index_of(policy).on(server)
    what = Asked("methods", method, method)
    if any(not found.when for found in _matching(rules.denying("methods"), caller, what)):
        return False
    return any(found.effect == "allow" for found in _matching(rules.permitting_for("methods"), caller, what))


def knows(policy: Policy, caller: Caller, server: Server) -> bool:
    """Whether some allow or approve rule on the server (not a shadow) names the caller."""
    return any(rule.is_for(caller) for rule in index_of(policy).on(server).permitting)


_STYLES: tuple[DenyStyle, ...] = ("error", "tool_error", "hide")
"""What says least is last."""

_LISTED_METHOD: dict[Listed, str] = {"tools": "tools/call", "resources": "resources/read", "prompts": "prompts/get"}


class _Conditions:
    """The conditions of one call: variables are made when the first one asks, failures are remembered."""

    __slots__ = ("_given", "_of", "broken")

    def __init__(self, caller: Caller, server: Server, call: Call, now: datetime) -> None:
        self._of = (caller, server, call, now)
        self._given: dict[str, object] | None = None
        self.broken: list[tuple[RuleId, str]] = []

    def hold(self, rule: Rule) -> bool:
        """Whether the rule's condition is true, or it has none."""
        if rule.when is None:
            return True
        if self._given is None:
            self._given = variables(*self._of)
        try:
            return rule.when.holds(self._given)
        except ConditionError as error:
            self.broken.append((rule.id, str(error)))
            return False


def _matching(ready: tuple[Ready, ...], caller: Caller, what: Asked) -> list[Rule]:
    """The rules that name the caller and what is asked for, whatever their conditions."""
    return [compiled.rule for compiled, test in ready if compiled.is_for(caller) and test(what)]


def _decide_one(rules: ServerRules, caller: Caller, server: Server, call: Call, now: datetime) -> Decision:
    what = asked(call)
    conditions = _Conditions(caller, server, call, now)
    denies = [rule for rule in _matching(rules.denying(what.aspect), caller, what) if conditions.hold(rule)]
    if denies:
        return _denied_by(denies, caller, server, what)
    permits: list[Rule] = []
    approvals: list[Rule] = []
    if not what.is_handshake:
        spelt = _matching(rules.permitting_for(what.aspect), caller, what)
        permits = [rule for rule in spelt if conditions.hold(rule)]
        approvals = [rule for rule in permits if rule.effect == "approve"]
        if permits:
            approvals += _holding_besides(spelt, rules, caller, what, conditions)
    if conditions.broken:
        first, why = conditions.broken[0]
        ids = tuple(sorted(rule for rule, _ in conditions.broken))
        return Deny("condition-error", f"the condition of rule {first} could not be checked: {why}", ids)
    if what.is_handshake and any(rule.is_for(caller) for rule in rules.permitting):
        return Allow()
    if not permits:
        return _unpermitted(caller, server, what)
    if approvals:  # which are no way around the limit of a rule that allows
        return replace(held_by(approvals), counted=tuple(sorted({rule.id for rule in (*permits, *approvals)})))
    ids = tuple(rule.id for rule in permits)
    return Allow(ids, ids)


def _holding_besides(
    spelt: list[Rule], rules: ServerRules, caller: Caller, what: Asked, conditions: _Conditions
) -> list[Rule]:
    """The approve rules that hold what is permitted, and are not among those that spell it."""
    asked_before = {rule.id for rule in spelt}
    found = _matching(rules.holding(what.aspect), caller, what)
    return [rule for rule in found if rule.id not in asked_before and conditions.hold(rule)]


def _denied_by(denies: list[Rule], caller: Caller, server: Server, what: Asked) -> Deny:
    """The first by id that has a message speaks for all; the style is that which says least."""
    speaker = next((rule for rule in denies if rule.message), denies[0])
    message = speaker.message or f"rule {speaker.id} denies {caller.name} to {what.phrase} on {server.name}"
    style = max((rule.deny_style for rule in denies), key=_STYLES.index)
    return Deny("rule", message, tuple(rule.id for rule in denies), style)


def _unpermitted(caller: Caller, server: Server, what: Asked) -> Deny:
    reason = "unknown-method" if what.aspect == "methods" and not what.is_handshake else "no-rule"
    return Deny(reason, f"no rule lets {caller.name} {what.phrase} on {server.name}")


def held_by(approvals: Sequence[Rule]) -> Hold:
    """What approve rules ask for together, as the most demanding: largest quorum, then shortest wait, then first id.

    Those decide whom all of them name; where there are none, whom the most demanding names.
    """
    asking = min(approvals, key=lambda rule: (-rule.quorum, rule.expires, rule.id))
    ids = tuple(sorted(rule.id for rule in approvals))
    common = tuple(name for name in asking.reviewers if all(name in rule.reviewers for rule in approvals))
    return Hold(ids, common or asking.reviewers, asking.quorum, asking.expires, asking.message)


def _strictest(decisions: list[Decision]) -> Decision:
    """Of a batch: the first deny; else the most demanding hold, with the rules of all; else all allowed.

    Whoever decides a hold may decide each of its calls: a caller cannot choose its reviewers by what it sends beside.
    """
    holds: list[Hold] = []
    rules: dict[RuleId, None] = {}
    counted: list[RuleId] = []
    for decision in decisions:
        match decision:
            case Deny():
                return decision
            case Hold():
                holds.append(decision)
                counted += decision.counted
            case Allow():
                rules.update(dict.fromkeys(decision.rules))
                counted += decision.counted
            case _:
                assert_never(decision)
    if not holds:
        return Allow(tuple(sorted(rules)), tuple(counted))
    asking = min(holds, key=lambda hold: (-hold.quorum, hold.expires, hold.rules))
    ids = tuple(sorted({rule for hold in holds for rule in hold.rules}))
    reviewers = tuple(name for name in asking.reviewers if all(name in hold.reviewers for hold in holds))
    if not reviewers:
        return Deny("no-common-reviewer", "nobody may approve all that this asks for: ask for it one by one", ids)
    return Hold(ids, reviewers, asking.quorum, asking.expires, asking.message, tuple(counted))


def _may_see_template(rules: ServerRules, caller: Caller, template: str) -> bool:
    """Whether some expansion of a URI template could be read."""

    def patterns(compiled: Compiled) -> tuple[str, ...]:
        return compiled.rule.resources if compiled.is_for(caller) else ()

    for compiled, _ in rules.denying("resources"):
        hides = any(globs.covers_expansions(pattern, template) for pattern in patterns(compiled))
        if hides and not compiled.rule.when:
            return False
    permits = (pattern for compiled in rules.permitting for pattern in patterns(compiled))
    return any(globs.may_expand_to(pattern, template) for pattern in permits)
