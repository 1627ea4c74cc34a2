"""Doubts about a policy that loads: what is likely a mistake, but may be meant.

Law: a doubt never changes a decision; what is surely wrong is refused by the loader.
"""

import re
from collections.abc import Iterator
from itertools import combinations, permutations

from coatcheck.errors import Problem
from coatcheck.identity.match import can_both_match
from coatcheck.identity.presets import PRESETS
from coatcheck.policy.dead import covers_what
from coatcheck.policy.model import ClaimPattern, Identity, Policy, Reviewer


def doubts(policy: Policy) -> list[Problem]:
    """What a careful reader would ask about; each with what to do."""
    return [
        *_about_rules(policy),
        *_about_approvals(policy),
        *_about_identities(policy),
        *_about_reviewers(policy),
        *_about_servers(policy),
    ]


def _about_rules(policy: Policy) -> Iterator[Problem]:
    if not any(rule.effect != "deny" and not rule.shadow for rule in policy.rules):
        yield Problem("", "no rule permits anything: every call is denied")
    for rule in policy.rules:
        if rule.shadow:
            yield Problem(
                rule.where, f"rule {rule.id} is a shadow: it does nothing", "remove 'mode: shadow' to enforce it"
            )
        elif rule.effect == "allow" and "any" in rule.who and "*" in rule.tools:
            yield Problem(rule.where, f"rule {rule.id} lets anyone call every tool", "name callers or tools")


def _about_approvals(policy: Policy) -> Iterator[Problem]:
    """One approval is asked for; where no reviewer is named by all the rules, those of one decide alone."""
    asking = [rule for rule in policy.rules if rule.effect == "approve" and not rule.shadow]
    for wide, one in permutations(asking, 2):
        is_for_both = "any" in (*wide.who, *one.who) or not set(wide.who).isdisjoint(one.who)
        is_within = is_for_both and wide.server == one.server and wide.when is None and covers_what(wide, one)
        if is_within and not set(wide.reviewers) & set(one.reviewers):
            what = f"rule {wide.id} holds all of it too, and no reviewer is named by both: those of one decide alone"
            yield Problem(one.where, f"rule {one.id}: {what}", "name a reviewer in both, or narrow one")


def _about_identities(policy: Policy) -> Iterator[Problem]:
    named = {who for rule in policy.rules for who in rule.who}
    for name, identity in policy.identities.items():
        where = f"identity {name}"
        if "any" not in named and name not in named and not any(f"group:{group}" in named for group in identity.groups):
            yield Problem(where, "no rule names it")
        if identity.expires is None:
            yield Problem(where, "it never expires", "add expires: YYYY-MM-DD")
        yield from _about_claims(policy, identity, where)
    for one, other in combinations(policy.identities.values(), 2):
        if one.issuer == other.issuer and can_both_match(one.claims, other.claims):
            yield Problem(
                f"identity {other.name}",
                f"a token can be both this and identity {one.name}, and is then refused",
                "name a claim in both, with different values",
            )


def _about_reviewers(policy: Policy) -> Iterator[Problem]:
    for name, reviewer in policy.reviewers.items():
        yield from _about_claims(policy, reviewer, f"reviewer {name}")
        for identity in policy.identities.values():
            if reviewer.issuer == identity.issuer and reviewer.claims.items() <= identity.claims.items():
                what = f"every token of identity {identity.name} is this reviewer's: its jobs decide for each other"
                yield Problem(f"reviewer {name}", what, "name a claim that only people have")


def _about_claims(policy: Policy, one: Identity | Reviewer, where: str) -> Iterator[Problem]:
    """Where an issuer gives tokens to many owners, who is told by names alone can be taken over."""
    issuer = policy.issuers.get(one.issuer) if one.issuer else None
    preset = PRESETS.get(issuer.preset) if issuer and issuer.preset else None
    if preset is None or not preset.pins or not one.claims:
        return
    if not any(_is_pinned(one.claims[claim], values) for claim, values in preset.pins.items() if claim in one.claims):
        told_by = ", ".join(sorted(one.claims))
        ids = " or ".join(claim for claim in preset.pins if claim != "sub") or "sub"
        yield Problem(where, f"it is told by {told_by} alone, which someone else can take over", f"match {ids} as well")


def _is_pinned(pattern: ClaimPattern, values: str) -> bool:
    """Whether every value the pattern may take stays with its owner."""
    wanted = pattern if isinstance(pattern, tuple) else (pattern,)
    return all(re.fullmatch(values, str(value)) for value in wanted)


def _about_servers(policy: Policy) -> Iterator[Problem]:
    used = {rule.server for rule in policy.rules}
    for name, server in policy.servers.items():
        where = f"server {name}"
        if name not in used:
            yield Problem(where, "no rule is about it: nobody can reach it")
        if server.scheme == "http" and server.credential:
            yield Problem(where, "its credential crosses the network in the clear", "write its URL with https")
