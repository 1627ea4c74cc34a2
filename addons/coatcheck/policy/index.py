"""A policy's rules, sorted and compiled for deciding.

Law: a rule's place in its file never matters: rules are kept by effect and id.

The index is made once a policy and kept on it the way `functools.cached_property` keeps a value (a policy never
changes; a changed one is another policy with its own index).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from coatcheck.identity.caller import Caller
from coatcheck.policy.asked import ASPECTS, Asked, Aspect
from coatcheck.policy.globs import name_test, path_test, uri_test
from coatcheck.policy.model import Policy, Rule, Server

type Test = Callable[[Asked], bool]

_KEPT = "_index"


@dataclass(frozen=True, slots=True)
class Compiled:
    """One rule: `tests` says, for each aspect it can match, whether what is asked for matches; `holds` of an approve
    rule the same, as widely as a deny: what it holds where another rule permits it.
    """

    rule: Rule
    anyone: bool
    names: frozenset[str]
    groups: frozenset[str]
    tests: Mapping[Aspect, Test]
    holds: Mapping[Aspect, Test]

    def is_for(self, caller: Caller) -> bool:
        """Whether its `who` names the caller, by name or by group."""
        return self.anyone or caller.name in self.names or not self.groups.isdisjoint(caller.groups)


type Ready = tuple[Compiled, Test]


@dataclass(frozen=True, slots=True)
class ServerRules:
    """The rules on one server; shadow rules are in `all` only."""

    all: tuple[Compiled, ...] = ()
    permitting: tuple[Compiled, ...] = ()
    denies: Mapping[Aspect, tuple[Ready, ...]] | None = None
    permits: Mapping[Aspect, tuple[Ready, ...]] | None = None
    holds: Mapping[Aspect, tuple[Ready, ...]] | None = None
    has_shadows: bool = False
    speaks_mcp: bool = True
    """Whether some rule names tools, resources, prompts or methods, or none names http."""

    def denying(self, aspect: Aspect) -> tuple[Ready, ...]:
        """Deny rules that can match this aspect."""
        return self.denies.get(aspect, ()) if self.denies else ()

    def permitting_for(self, aspect: Aspect) -> tuple[Ready, ...]:
        """Allow and approve rules that can match this aspect."""
        return self.permits.get(aspect, ()) if self.permits else ()

    def holding(self, aspect: Aspect) -> tuple[Ready, ...]:
        """Approve rules that can hold what is permitted in this aspect."""
        return self.holds.get(aspect, ()) if self.holds else ()


@dataclass(frozen=True, slots=True)
class PolicyIndex:
    """Rules by their server's name, servers by host and port."""

    rules: Mapping[str, ServerRules]
    hosts: Mapping[tuple[str, int], tuple[Server, ...]]

    def on(self, server: Server) -> ServerRules:
        """The rules on a server; none for one the policy does not know."""
        return self.rules.get(server.name, ServerRules())


def index_of(policy: Policy) -> PolicyIndex:
    """The policy's index, made at its first use."""
    kept: PolicyIndex | None = policy.__dict__.get(_KEPT)
    if kept is None:
        kept = policy.__dict__[_KEPT] = _build(policy)
    return kept


def compile_rule(rule: Rule) -> Compiled:
    """A rule with its patterns compiled. Denies match more widely than what permits (`globs`), and so does what holds
    where another rule permits: a call is not let go without its approval for being spelt otherwise.
    """
    return Compiled(
        rule,
        "any" in rule.who,
        frozenset(who for who in rule.who if who != "any" and not who.startswith("group:")),
        frozenset(who.removeprefix("group:") for who in rule.who if who.startswith("group:")),
        _tests(rule, wide=rule.effect == "deny"),
        _tests(rule, wide=True) if rule.effect == "approve" else {},
    )


def _tests(rule: Rule, *, wide: bool) -> dict[Aspect, Test]:
    tests: dict[Aspect, Test] = {}
    if rule.tools:
        tests["tools"] = _by_name(name_test(rule.tools, deny=wide))
    if rule.prompts:
        tests["prompts"] = _by_name(name_test(rule.prompts, deny=wide))
    if rule.resources:
        tests["resources"] = _by_name(uri_test(rule.resources, deny=wide))
    if rule.http:
        tests["http"] = _by_path(path_test(rule.http, deny=wide))
    if rule.methods:
        methods = _by_method(name_test(rule.methods, deny=wide, methods=True))
        tests["methods"] = methods
        if wide:  # `methods: ["tools/*"]` denies calling tools too; to permit a tool, it must be named
            for aspect in ("tools", "prompts", "resources"):
                tests[aspect] = _either(tests[aspect], methods) if aspect in tests else methods
    return tests


def _build(policy: Policy) -> PolicyIndex:
    by_server: dict[str, list[Compiled]] = {}
    for rule in sorted(policy.rules, key=lambda rule: rule.id):
        by_server.setdefault(rule.server, []).append(compile_rule(rule))
    hosts: dict[tuple[str, int], tuple[Server, ...]] = {}
    for server in policy.servers.values():
        place = (server.host, server.port)
        hosts[place] = (*hosts.get(place, ()), server)
    return PolicyIndex({name: _server_rules(rules) for name, rules in by_server.items()}, hosts)


def _server_rules(rules: Iterable[Compiled]) -> ServerRules:
    every = tuple(rules)
    acting = [compiled for compiled in every if not compiled.rule.shadow]
    denies = [compiled for compiled in acting if compiled.rule.effect == "deny"]
    permits = [compiled for compiled in acting if compiled.rule.effect != "deny"]
    has_shadows = len(acting) < len(every)
    return ServerRules(
        every,
        tuple(permits),
        _by_aspect(denies),
        _by_aspect(permits),
        {aspect: tuple((rule, rule.holds[aspect]) for rule in permits if aspect in rule.holds) for aspect in ASPECTS},
        has_shadows,
        _speak_mcp(rule.rule for rule in every),
    )


def _speak_mcp(rules: Iterable[Rule]) -> bool:
    named = tuple(rules)
    speaks = any(rule.tools or rule.resources or rule.prompts or rule.methods for rule in named)
    return speaks or not any(rule.http for rule in named)


def _by_aspect(rules: list[Compiled]) -> dict[Aspect, tuple[Ready, ...]]:
    return {aspect: tuple((rule, rule.tests[aspect]) for rule in rules if aspect in rule.tests) for aspect in ASPECTS}


def _by_name(test: Callable[[str], bool]) -> Test:
    return lambda what: test(what.name)


def _by_method(test: Callable[[str], bool]) -> Test:
    return lambda what: test(what.method)


def _by_path(test: Callable[[str, str], bool]) -> Test:
    return lambda what: test(what.method, what.name)


def _either(first: Test, second: Test) -> Test:
    return lambda what: first(what) or second(what)
