"""Suggest: the least policy that would have decided recorded requests as they were decided.

Law: decided again by the suggested rules, no recorded request changes; where that cannot be had, a note says so, and
the strictest of what was recorded holds.
Law: a rule names what was seen, or one glob for a family of names that were all allowed; it says so where it does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from coatcheck.mcp.call import Call
from coatcheck.policy.asked import Aspect, asked
from coatcheck.policy.backtest import backtest
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.explain import as_caller
from coatcheck.policy.families import families, is_expressible
from coatcheck.policy.model import Effect, HttpPattern, Policy, Rule, RuleId
from coatcheck.policy.recorded import Recorded
from coatcheck.policy.tell_apart import condition_for

STRICTNESS: Mapping[Effect, int] = {"allow": 0, "approve": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Asks:
    """Who is asked where a call was held: what the policy's own rule said, or every reviewer."""

    reviewers: tuple[str, ...]
    quorum: int = 1
    expires: timedelta = timedelta(minutes=15)
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Suggested:
    """One rule: `patterns` of one aspect. `notes` say where it is wider than what was seen."""

    id: str
    caller: str
    server: str
    effect: Effect
    aspect: Aspect
    patterns: tuple[str, ...]
    when: str | None = None
    asks: Asks | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The rules, by caller and server; `notes` are what they cannot say. `requests` counts what was looked at."""

    rules: tuple[Suggested, ...]
    notes: tuple[str, ...]
    requests: int


@dataclass(slots=True)
class _Seen:
    """What one caller asked of one server: calls by aspect and pattern, each with its effects."""

    calls: dict[tuple[Aspect, str], list[tuple[Call, Effect]]] = field(default_factory=dict)
    handshake: dict[str, set[Effect]] = field(default_factory=dict)
    asks: dict[tuple[Aspect, str], Asks] = field(default_factory=dict)
    at: datetime | None = None


def suggest(policy: Policy, requests: Iterable[Recorded], *, exact: bool = False) -> Suggestion:
    """Rules for everything that `requests` hold, beside the policy's declarations and in place of its rules.

    `exact`: no globs. Callers and servers that the policy does not declare are noted and left out.
    """
    kept, count, seen, notes = dict[object, Recorded](), 0, dict[tuple[str, str], _Seen](), dict[str, None]()
    for request in requests:
        count += 1
        identity = policy.identities.get(request.caller)
        if identity is None or request.server not in policy.servers:
            notes[f"{request.caller} on {request.server}: not declared in the policy"] = None
            continue
        digests = tuple(call.digest for call in request.calls)
        kept.setdefault((request.caller, request.server, digests, request.decision), request)
    for request in _plain_first(kept.values()):
        _note(policy, request, seen.setdefault((request.caller, request.server), _Seen()))
    rules: list[Suggested] = []
    for (caller, server), found in sorted(seen.items()):
        rules += _rules_for(policy, caller, server, found, notes, exact=exact)
    rules = _numbered(rules)
    suggested = replace(policy, rules=tuple(map(as_rule, rules)), masks=())
    for group in backtest(suggested, kept.values()).groups:
        calls = ", ".join(group.titles)
        would = f"would be {group.now.effect}" if group.now.verdict == "changed" else f"unknown, {group.now.why}"
        notes[f"{group.caller} on {group.server}: {calls}: was {group.was}, {would}"] = None
    return Suggestion(tuple(rules), tuple(notes), count)


def as_rule(suggested: Suggested) -> Rule:
    """The rule as the loader would read it."""
    patterns = {suggested.aspect: suggested.patterns}
    rule = Rule(
        RuleId(suggested.id),
        (suggested.caller,),
        suggested.server,
        suggested.effect,
        "suggested:1:1",
        http=tuple(HttpPattern(*pattern.split(" ", 1)) for pattern in patterns.get("http", ())),
        when=compile_condition(suggested.when) if suggested.when else None,
        tools=patterns.get("tools", ()),
        resources=patterns.get("resources", ()),
        prompts=patterns.get("prompts", ()),
        methods=patterns.get("methods", ()),
    )
    asks = suggested.asks
    return rule if asks is None else replace(rule, reviewers=asks.reviewers, quorum=asks.quorum, expires=asks.expires)


def _plain_first(requests: Iterable[Recorded]) -> list[Recorded]:
    """Batches last: what a batch's calls came to each is told by what was allowed alone."""
    return sorted(requests, key=lambda one: (len(one.calls) > 1, STRICTNESS[one.decision]))


def _note(policy: Policy, request: Recorded, seen: _Seen) -> None:
    """Adds a request's calls. A batch came to the strictest of its calls: those allowed elsewhere are not to blame."""
    seen.at = request.at
    blamed = request.calls
    if len(request.calls) > 1 and request.decision != "allow":
        blamed = tuple(call for call in request.calls if not _was_allowed(seen, call)) or request.calls
    for call in request.calls:
        effect: Effect = request.decision if call in blamed else "allow"
        what = asked(call)
        if what.is_handshake:
            seen.handshake.setdefault(what.method, set()).add(effect)
            continue
        key = (what.aspect, f"{what.method} {what.name}" if what.aspect == "http" else what.name)
        seen.calls.setdefault(key, []).append((call, effect))
        if effect == "approve":
            seen.asks.setdefault(key, _asks(policy, request))


def _was_allowed(seen: _Seen, call: Call) -> bool:
    what = asked(call)
    if what.is_handshake:
        return "allow" in seen.handshake.get(what.method, set())
    key = (what.aspect, f"{what.method} {what.name}" if what.aspect == "http" else what.name)
    return any(effect == "allow" and one.digest == call.digest for one, effect in seen.calls.get(key, ()))


def _asks(policy: Policy, request: Recorded) -> Asks:
    """What the rule that held the request says, where the policy still has it; else every reviewer."""
    for rule in policy.rules:
        if rule.id in request.rules and rule.effect == "approve":
            return Asks(rule.reviewers, rule.quorum, rule.expires, rule.message)
    return Asks(tuple(policy.reviewers))


def _rules_for(
    policy: Policy, caller: str, server: str, seen: _Seen, notes: dict[str, None], *, exact: bool
) -> Iterator[Suggested]:
    whose = f"{caller} on {server}"
    allowed: dict[Aspect, list[str]] = {}
    held: dict[tuple[Aspect, Asks], list[str]] = {}
    others: dict[Aspect, list[str]] = {}
    split: list[Suggested] = []
    for (aspect, name), calls in sorted(seen.calls.items()):
        effects = {effect for _, effect in calls}
        if effects != {"deny"} and not is_expressible(aspect, name):
            notes[f"{whose}: no rule can name {name!r}"] = None
            continue
        if effects == {"allow"}:
            allowed.setdefault(aspect, []).append(name)
            continue
        others.setdefault(aspect, []).append(name)
        asks = seen.asks.get((aspect, name))
        if asks is not None and not asks.reviewers:
            notes[f"{whose}: {name} was held, and the policy has no reviewers"] = None
        elif effects == {"approve"} and asks is not None:
            held.setdefault((aspect, asks), []).append(name)
        elif len(effects) > 1:
            split += _split(
                policy, Suggested("", caller, server, "allow", aspect, (name,)), calls, asks, seen.at, notes
            )
    for aspect, names in allowed.items():
        yield from _allow(caller, server, aspect, names, others.get(aspect, []), exact=exact)
    for (aspect, asks), names in held.items():
        yield Suggested("", caller, server, "approve", aspect, tuple(names), asks=asks)
    yield from split
    yield from _handshake(caller, server, seen, has_rules=bool(allowed or held or split))


def _allow(
    caller: str, server: str, aspect: Aspect, names: Sequence[str], others: Sequence[str], *, exact: bool
) -> Iterator[Suggested]:
    found = {} if exact else families(aspect, names, others)
    covered = {name for members in found.values() for name in members}
    patterns = (*sorted(found), *(name for name in names if name not in covered))
    notes = tuple(
        f"{glob} is wider than what was seen: {', '.join(members)}" for glob, members in sorted(found.items())
    )
    yield Suggested("", caller, server, "allow", aspect, patterns, notes=notes)


def _split(
    policy: Policy,
    base: Suggested,
    calls: Sequence[tuple[Call, Effect]],
    asks: Asks | None,
    at: datetime | None,
    notes: dict[str, None],
) -> list[Suggested]:
    """Rules for a thing that was decided now this way, now that: told apart by arguments, or else the strictest."""
    who, server = as_caller(policy, base.caller), policy.servers[base.server]
    out: list[Suggested] = []
    assert at is not None  # noqa: S101 - there are calls, and each has its time
    for effect in ("allow", "approve"):
        wanted = [call for call, one in calls if one == effect]
        rest = [call for call, one in calls if one != effect]
        if not wanted:
            continue
        when = condition_for(wanted, rest, who, server, at)
        if when is None:
            break
        made = replace(base, effect=effect, when=when, asks=asks if effect == "approve" else None)
        out.append(replace(made, notes=("told apart by what was seen: check that the condition is what is meant",)))
    else:
        return out
    strictest = max((effect for _, effect in calls), key=STRICTNESS.__getitem__)
    name = base.patterns[0]
    notes[f"{base.caller} on {base.server}: {name} was decided in several ways that nothing tells apart"] = None
    return [replace(base, effect="approve", asks=asks)] if strictest == "approve" else []


def _handshake(caller: str, server: str, seen: _Seen, *, has_rules: bool) -> Iterator[Suggested]:
    """The handshake needs some permitting rule; one of its own where nothing else is permitted."""
    allowed = sorted(name for name, effects in seen.handshake.items() if "allow" in effects)
    denied = sorted(name for name, effects in seen.handshake.items() if effects == {"deny"})
    if allowed and not has_rules:
        yield Suggested("", caller, server, "allow", "methods", (allowed[0],), notes=("for the handshake and lists",))
    if denied and (allowed or has_rules):
        yield Suggested("", caller, server, "deny", "methods", tuple(denied))


def _numbered(rules: Iterable[Suggested]) -> list[Suggested]:
    """The rules with ids of their own: `shop-ci-github-allow-tools`, numbered where that is taken."""
    taken: set[str] = set()
    out = []
    for rule in rules:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", f"{rule.caller}-{rule.server}-{rule.effect}-{rule.aspect}")[:58]
        names = (plain, *(f"{plain}-{n}" for n in range(2, 100_000)))
        chosen = next(name for name in names if name not in taken)
        taken.add(chosen)
        out.append(replace(rule, id=chosen))
    return out
