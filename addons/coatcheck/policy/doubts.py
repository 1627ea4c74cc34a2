"""Doubts about a policy that loads: what is likely a mistake, but may be meant.

Law: a doubt never changes a decision; what is surely wrong is refused by the loader.
"""

from collections.abc import Iterator

from coatcheck.errors import Problem
from coatcheck.identity.presets import PRESETS
from coatcheck.policy.model import Identity, Policy


def doubts(policy: Policy) -> list[Problem]:
    """What a careful reader would ask about; each with what to do."""
    return [*_about_rules(policy), *_about_identities(policy), *_about_servers(policy)]


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


def _about_identities(policy: Policy) -> Iterator[Problem]:
    named = {who for rule in policy.rules for who in rule.who}
    for name, identity in policy.identities.items():
        where = f"identity {name}"
        if "any" not in named and name not in named and not any(f"group:{group}" in named for group in identity.groups):
            yield Problem(where, "no rule names it")
        if identity.expires is None:
            yield Problem(where, "it never expires", "add expires: YYYY-MM-DD")
        mutable = _only_mutable(policy, identity)
        if mutable:
            yield Problem(
                where, f"it is told by {', '.join(mutable)} alone, which someone else can take over", "match an id"
            )


def _only_mutable(policy: Policy, identity: Identity) -> list[str]:
    """The claims an identity is told by, where its issuer's preset knows all of them as names that can change hands."""
    issuer = policy.issuers.get(identity.issuer)
    preset = PRESETS.get(issuer.preset) if issuer and issuer.preset else None
    if preset is None or not set(identity.claims) <= set(preset.mutable_claims):
        return []
    return sorted(identity.claims)


def _about_servers(policy: Policy) -> Iterator[Problem]:
    used = {rule.server for rule in policy.rules}
    for name, server in policy.servers.items():
        where = f"server {name}"
        if name not in used:
            yield Problem(where, "no rule is about it: nobody can reach it")
        if server.scheme == "http" and server.credential:
            yield Problem(where, "its credential crosses the network in the clear", "write its URL with https")
