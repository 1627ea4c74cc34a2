"""Finds dead rules: those that can never have an effect.

Law: only what is plainly dead is reported; cover is told from the patterns as text, without guessing.
"""

from collections.abc import Mapping

from coatcheck.policy.globs import covers
from coatcheck.policy.model import HttpPattern, Identity, Rule
from coatcheck.policy.shape import Findings


def report_dead_rules(rules: tuple[Rule, ...], identities: Mapping[str, Identity], findings: Findings) -> None:
    """Reports every allow or approve rule that an unconditional deny on its server fully covers."""
    denies = [rule for rule in rules if rule.effect == "deny" and rule.when is None and not rule.shadow]
    for rule in rules:
        if rule.effect == "deny" or rule.shadow:
            continue
        for deny in denies:
            if deny.server == rule.server and _covers_who(deny, rule, identities) and covers_what(deny, rule):
                what = f"rule {rule.id!r} can never {rule.effect}: rule {deny.id!r} denies all of it"
                findings.report(rule.where, what, "narrow the deny, or remove this rule")
                break


def _covers_who(deny: Rule, rule: Rule, identities: Mapping[str, Identity]) -> bool:
    if "any" in deny.who:
        return True

    def is_covered(who: str) -> bool:
        groups = identities[who].groups if who in identities else frozenset()
        return who in deny.who or any(f"group:{group}" in deny.who for group in groups)

    return all(is_covered(who) for who in rule.who)


def covers_what(deny: Rule, rule: Rule) -> bool:
    """Whether each pattern of the rule lies within some pattern of the deny (or of what holds as widely)."""
    return (
        all(any(covers(wide, one, places=False) for wide in deny.tools) for one in rule.tools)
        and all(any(covers(wide, one, places=False) for wide in deny.prompts) for one in rule.prompts)
        and all(any(covers(wide, one, places=False) for wide in deny.methods) for one in rule.methods)
        and all(any(covers(wide, one, places=True) for wide in deny.resources) for one in rule.resources)
        and all(any(_covers_http(wide, one) for wide in deny.http) for one in rule.http)
    )


def _covers_http(wide: HttpPattern, one: HttpPattern) -> bool:
    return wide.method in {"*", one.method} and covers(wide.path, one.path, places=True)
