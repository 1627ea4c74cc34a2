"""Backtest: recorded requests, decided again by another policy.

Law: what the recording cannot tell (claims, arguments that were cut or masked) is said to be unknown, unless the
decision is the same whatever it was.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from coatcheck.identity.caller import Caller
from coatcheck.identity.match import is_expired
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.asked import asked
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Deny
from coatcheck.policy.explain import as_caller
from coatcheck.policy.index import Compiled, index_of
from coatcheck.policy.model import Effect, Policy, RuleId, Server
from coatcheck.policy.recorded import Recorded
from coatcheck.policy.trial import effect_of

EXAMPLES = 5
"""Calls that are kept of each group, by title."""

_CLAIM = re.compile(r"\bcaller\.claims\.([A-Za-z_][A-Za-z0-9_]*)")

type Verdict = Literal["same", "changed", "unknown"]


@dataclass(frozen=True, slots=True)
class Redecided:
    """What the policy makes of one recorded request. `why` is a deny's reason, or what the recording cannot tell."""

    verdict: Verdict
    effect: Effect
    rules: tuple[str, ...]
    why: str = ""


@dataclass(slots=True)
class Group:
    """Requests with the same caller, server and change: how many, and some of them by title."""

    caller: str
    server: str
    was: Effect
    was_rules: tuple[str, ...]
    now: Redecided
    count: int = 0
    titles: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backtest:
    """Every request counted; those whose decision changes or is unknown by group."""

    same: int
    groups: tuple[Group, ...]

    def count(self, verdict: Verdict) -> int:
        """How many requests have that verdict."""
        return self.same if verdict == "same" else sum(g.count for g in self.groups if g.now.verdict == verdict)


def backtest(policy: Policy, requests: Iterable[Recorded], *, claims: Mapping[str, Json] | None = None) -> Backtest:
    """Decides each request again, at the time it was made.

    Callers are taken by name; of their claims only those are known that the policy pins down, and `claims`.
    """
    same, groups = 0, dict[object, Group]()
    for request in requests:
        now = redecide(policy, request, claims)
        if now.verdict == "same":
            same += 1
            continue
        key = (request.caller, request.server, request.decision, request.rules, now)
        made = Group(request.caller, request.server, request.decision, request.rules, now)
        group = groups.setdefault(key, made)
        group.count += 1
        if len(group.titles) < EXAMPLES:
            group.titles[request.title] = None
    ordered = sorted(groups.values(), key=lambda g: (g.now.verdict, g.caller, g.server, g.now.rules, -g.count))
    return Backtest(same, tuple(ordered))


def redecide(policy: Policy, request: Recorded, claims: Mapping[str, Json] | None = None) -> Redecided:
    """What the policy makes of one recorded request."""
    identity, server = policy.identities.get(request.caller), policy.servers.get(request.server)
    if identity is None or identity.issuer != request.issuer:
        return _verdict(request, "deny", (), "unknown-identity")
    if identity.disabled or is_expired(identity, now=request.at):
        return _verdict(request, "deny", (), "identity-disabled" if identity.disabled else "identity-expired")
    if server is None:
        return _verdict(request, "deny", (), "unknown-server")
    caller = as_caller(policy, request.caller, claims)
    unsure = _unsure(policy, caller, server, request, all_claims=claims is not None)
    if unsure and not _is_denied_anyway(policy, caller, server, request, unsure):
        why = next(iter(unsure.values()))
        return Redecided("unknown", request.decision, tuple(sorted(unsure)), why)
    decision = decide(policy, caller, server, request.calls, now=request.at)
    why = decision.reason if isinstance(decision, Deny) and decision.reason != "rule" else ""
    return _verdict(request, effect_of(decision), decision.rules, why)


def _verdict(request: Recorded, effect: Effect, rules: tuple[str, ...], why: str) -> Redecided:
    return Redecided("same" if effect == request.decision else "changed", effect, rules, why)


def _unsure(
    policy: Policy, caller: Caller, server: Server, request: Recorded, *, all_claims: bool
) -> dict[RuleId, str]:
    """The rules that might match the request, by what is not known of it, and what that is."""
    out: dict[RuleId, str] = {}
    issuer = policy.issuers.get(caller.issuer)
    has_groups = issuer is not None and issuer.groups_claim is not None and not all_claims
    is_masked = any(mask.server == server.name for mask in policy.masks)
    for compiled in _matching(policy, server, request.calls):
        rule, source = compiled.rule, compiled.rule.when.source if compiled.rule.when else ""
        if not compiled.is_for(caller):
            if has_groups and compiled.groups:
                out[rule.id] = "the token's groups are not in the recording: give them with --claims"
        elif "args" in source and not request.has_arguments:
            out[rule.id] = "the arguments are not in the recording"
        elif "args" in source and is_masked:
            out[rule.id] = "the arguments are in the recording as masked"
        elif not all_claims and not _claims_are_known(source, caller, has_groups=has_groups):
            out[rule.id] = "claims are not in the recording: give them with --claims"
    return out


def _matching(policy: Policy, server: Server, calls: Iterable[Call]) -> Iterator[Compiled]:
    """The rules that name what is asked for, whoever asks and whatever their conditions."""
    rules = index_of(policy).on(server)
    for what in map(asked, calls):
        for one, test in (*rules.denying(what.aspect), *rules.holding(what.aspect), *rules.permitting_for(what.aspect)):
            if test(what):
                yield one


def _claims_are_known(source: str, caller: Caller, *, has_groups: bool) -> bool:
    """Whether the condition names claims one by one, and the policy pins each of them down."""
    named = _CLAIM.findall(source)
    is_pinned = len(named) == source.count("claims") and all(name in caller.claims for name in named)
    return is_pinned and not (has_groups and "groups" in source)


def _is_denied_anyway(
    policy: Policy, caller: Caller, server: Server, request: Recorded, unsure: Mapping[RuleId, str]
) -> bool:
    """Whether the request is denied whatever the unsure conditions come to."""
    certain = replace(policy, rules=tuple(rule for rule in policy.rules if rule.id not in unsure))
    decision = decide(certain, caller, server, request.calls, now=request.at)
    if not isinstance(decision, Deny):
        return False
    only_denies = all(rule.effect == "deny" for rule in policy.rules if rule.id in unsure)
    return decision.reason == "rule" or only_denies
