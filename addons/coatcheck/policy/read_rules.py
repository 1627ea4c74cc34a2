"""Reads `rules`: who + server + what + effect.

Law: nothing is implied: a rule names who, where and what, and every name in it means something.
"""

from datetime import timedelta
from typing import cast

from coatcheck.policy.asked import ASKED_OF_CLIENT, HANDSHAKE
from coatcheck.policy.conditions import CelCondition, compile_condition
from coatcheck.policy.expressions import Fault
from coatcheck.policy.globs import may_expand_to
from coatcheck.policy.model import DenyStyle, Effect, HttpPattern, Identity, IssuerSpec, Reviewer, Rule, RuleId, Server
from coatcheck.policy.read_patterns import PATTERN_READERS, read_http_pattern
from coatcheck.policy.read_values import read_rate
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import (
    Findings,
    Form,
    read_choice,
    read_duration,
    read_form,
    read_integer,
    read_name,
    read_text,
    suggest,
)
from coatcheck.policy.source import Node, Scalar

MATCHERS = ("tools", "resources", "prompts", "methods", "http")
EFFECTS: tuple[Effect, ...] = ("allow", "approve", "deny")
DENY_STYLES: tuple[DenyStyle, ...] = ("error", "tool_error", "hide")
MAX_EXPIRES = timedelta(days=7)

_KEYS = (*MATCHERS, "when", "reviewers", "quorum", "expires", "message", "mode", "limit", "deny_style")


def read_rules(
    sections: Sections,
    issuers: dict[str, IssuerSpec],
    identities: dict[str, Identity],
    reviewers: dict[str, Reviewer],
    servers: dict[str, Server],
) -> tuple[Rule, ...]:
    """All rules, in the order written; ids are unique."""
    reader = _RuleReader(sections, issuers, identities, reviewers, servers)
    rules = [rule for entry in sections.rules if (rule := reader.read(entry)) is not None]
    seen: dict[str, str] = {}
    for rule in rules:
        if rule.id in seen:
            sections.findings.report(rule.where, f"duplicate rule id {rule.id!r}", f"it is already at {seen[rule.id]}")
        seen.setdefault(rule.id, rule.where)
    return tuple(rules)


class _RuleReader:
    """Reads one rule after another against what is declared."""

    def __init__(
        self,
        sections: Sections,
        issuers: dict[str, IssuerSpec],
        identities: dict[str, Identity],
        reviewers: dict[str, Reviewer],
        servers: dict[str, Server],
    ) -> None:
        self._sections = sections
        self._findings = sections.findings
        self._reviewers = reviewers
        self._servers = servers
        self._groups = {group for identity in identities.values() for group in identity.groups}
        is_whole = len(identities) == len(sections.identities) and len(issuers) == len(sections.issuers)
        self._may_be_more_groups = not is_whole or any(issuer.groups_claim for issuer in issuers.values())

    def read(self, entry: Entry) -> Rule | None:
        """The rule; None where any problem with it is reported: half a rule must not look like a dead one."""
        problems = len(self._findings.problems)
        form = read_form(
            entry.node, self._findings, required=("id", "who", "server", "effect"), optional=_KEYS, what="a rule"
        )
        rule_id = form.read("id", read_name, what="id")
        who = form.read_list("who", self._read_who)
        server = form.read("server", read_text, what="server")
        if server is not None:
            self._sections.is_known(server, self._sections.servers, form.at_value("server"), what="server")
        effect = cast("Effect | None", form.read("effect", read_choice, EFFECTS, what="effect"))
        names = {key: form.read_list(key, PATTERN_READERS[key]) for key in MATCHERS if key != "http"}
        http = form.read_list("http", read_http_pattern)
        when = self._read_when(form)
        self._check_matchers(form, effect, names["methods"])
        if server in self._servers:
            _check_http(form, self._servers[server], http)
        approval = self._read_approval(form, effect)
        message = form.read("message", read_text, what="message")
        mode = form.read("mode", read_choice, ("enforce", "shadow"), what="mode")
        limit = form.read("limit", read_rate, what="limit")
        if effect == "deny" and "limit" in form:
            form.report(form.at_key("limit"), "'limit' on a rule with effect deny", "it needs effect: allow or approve")
        style = self._read_style(form, effect)
        if rule_id is None or server is None or effect is None or len(self._findings.problems) > problems:
            return None
        return Rule(
            RuleId(rule_id),
            who,
            server,
            effect,
            entry.at,
            http=http,
            when=when,
            message=message,
            shadow=mode == "shadow",
            limit=limit,
            deny_style=style,
            **names,
            reviewers=approval[0],
            quorum=approval[1],
            expires=approval[2],
        )

    def _read_who(self, node: Node, findings: Findings) -> str | None:
        """`any`, `group:NAME` or an identity's name."""
        text = read_text(node, findings, what="who")
        if text is None or text == "any":
            return text
        if text.startswith("group:"):
            group = text.removeprefix("group:")
            if group in self._groups or (group and self._may_be_more_groups):
                return text
            hint = suggest(group, self._groups) or "no identity has a group"
            findings.report(node.at, f"unknown group {group!r}", hint)
            return None
        if text in self._groups and text not in self._sections.identities:
            findings.report(node.at, f"unknown identity {text!r}", f"did you mean 'group:{text}'?")
            return None
        return text if self._sections.is_known(text, self._sections.identities, node.at, what="identity") else None

    def _read_when(self, form: Form) -> CelCondition | None:
        condition = form.read("when", _read_condition)
        if condition is None:
            return None
        at = form.at_value("when")
        if "args" in condition.uses and any(key in form for key in ("resources", "http", "methods")):
            what = "'when' uses args, which only tools and prompts have"
            form.report(at, what, "put the tools into a rule of their own")
        if "http" in condition.uses and any(key in form for key in ("tools", "resources", "prompts", "methods")):
            form.report(at, "'when' uses http, which only plain HTTP has", "put 'http' into a rule of its own")
        return condition

    def _check_matchers(self, form: Form, effect: Effect | None, methods: tuple[str, ...]) -> None:
        """At least one matcher; an approval is for something that can wait."""
        if form.is_spelt_right and not any(key in form for key in MATCHERS):
            form.report(form.at, "a rule names what it is about", f"give one of: {', '.join(MATCHERS)}")
        if effect == "approve" and (held := HANDSHAKE.intersection(methods)):
            what = f"{min(held)!r} cannot wait for an approval: clients give up on a handshake"
            form.report(form.at_value("methods"), what)
        if effect == "approve" and (asked := ASKED_OF_CLIENT.intersection(methods)):
            what = f"{min(asked)!r} cannot wait for an approval: the server asks in the middle of a call"
            form.report(form.at_value("methods"), what, "put the approval on the tools that ask")

    def _read_style(self, form: Form, effect: Effect | None) -> DenyStyle:
        style = form.read("deny_style", read_choice, DENY_STYLES, what="deny_style")
        if effect is not None and effect != "deny" and "deny_style" in form:
            what = f"'deny_style' on a rule with effect {effect}"
            form.report(form.at_key("deny_style"), what, "it needs effect: deny")
        elif "deny_style" in form and "tools" not in form:
            form.report(form.at_key("deny_style"), "'deny_style' is for calls of tools", "give the tools it is about")
        return cast("DenyStyle", style or "error")

    def _read_approval(self, form: Form, effect: Effect | None) -> tuple[tuple[str, ...], int, timedelta]:
        """Reviewers, quorum and expiry: `approve` needs reviewers, the other effects have none of them."""
        reviewers = form.read_list("reviewers", self._read_reviewer)
        quorum = form.read("quorum", read_integer, what="quorum", low=1, high=20) or 1
        shortest = timedelta(seconds=1)
        expires = form.read("expires", read_duration, what="expires", low=shortest, high=MAX_EXPIRES)
        if effect == "approve" and "reviewers" not in form:
            form.report(form.at, "missing key 'reviewers' in a rule with effect approve", "who may decide?")
        if effect is not None and effect != "approve":
            for key in ("reviewers", "quorum", "expires"):
                if key in form:
                    form.report(form.at_key(key), f"{key!r} on a rule with effect {effect}", "it needs effect: approve")
        people = [self._reviewers[name] for name in reviewers if name in self._reviewers]
        voices = sum(len(person.local) or 1 for person in people)
        if people and quorum > voices and not any(person.issuer for person in people):
            form.report(form.at_value("quorum"), f"quorum {quorum} can never be reached: {voices} can decide")
        return reviewers, quorum, expires or timedelta(minutes=15)

    def _read_reviewer(self, node: Node, findings: Findings) -> str | None:
        name = read_text(node, findings, what="a reviewer")
        if name is None or not self._sections.is_known(name, self._sections.reviewers, node.at, what="reviewer"):
            return None
        return name


def _check_http(form: Form, server: Server, http: tuple[HttpPattern, ...]) -> None:
    """Each matcher can match something on that server."""
    if server.tunnel:
        opened = [key for key in MATCHERS if key in form and key != "http"]
        if opened or any(pattern.method not in {"CONNECT", "*"} for pattern in http):
            at = form.at_key(opened[0] if opened else "http")
            what = f"server {server.name} is a tunnel: nothing in it can be seen"
            form.report(at, what, 'permit the tunnel itself with http: ["CONNECT /"]')
        return
    prefix = server.path.rstrip("/")
    for pattern in http:
        if prefix and not may_expand_to(pattern.path, prefix + "{"):
            what = f"{pattern.path!r} can never match: server {server.name} is at {server.path}"
            form.report(form.at_value("http"), what, f"paths are whole, such as {prefix}{pattern.path}")


def _read_condition(node: Node, findings: Findings) -> CelCondition | None:
    text = read_text(node, findings, what="when", expands=True)
    if text is None:
        return None
    try:
        return compile_condition(text.strip())
    except Fault as fault:
        for one in (fault, *fault.more):
            findings.report(*_placed(one, node, len(text) - len(text.lstrip())))
        return None


def _placed(fault: Fault, node: Node, skipped: int) -> tuple[str, str]:
    """Where a condition is wrong, and what: in the file, or within the condition where that is all we know."""
    if not fault.line:
        return node.at, f"when: {fault}"
    if isinstance(node, Scalar) and node.inset is not None and fault.line == 1:
        file, line, column = node.at.rsplit(":", 2)
        return f"{file}:{line}:{int(column) + node.inset + skipped + fault.column - 1}", f"when: {fault}"
    return node.at, f"when: at {fault.line}:{fault.column} of it: {fault}"
