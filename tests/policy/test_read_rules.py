import pytest

from coatcheck.policy.model import HttpPattern


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        pytest.param("who: []", "an empty list", id="nobody"),
        pytest.param(None, "missing key 'who'", id="no who"),
        pytest.param("who: any", "a list, not text", id="who as text"),
        pytest.param("who: [shop]", "unknown identity 'shop'", id="unknown identity"),
        pytest.param("who: [ci]", "unknown identity 'ci'", id="group without its prefix"),
        pytest.param("who: ['group:']", "unknown group", id="empty group"),
        pytest.param("server: gitlab", "unknown server 'gitlab'", id="unknown server"),
        pytest.param("server: ~", "text, not nothing", id="no server"),
        pytest.param("tools: []", "an empty list", id="no tools"),
        pytest.param("tools: [a, 5]", "text, not a number", id="a number as tool"),
        pytest.param("tools: ['a?']", "stands for itself only", id="question mark"),
        pytest.param("tools: ['{a,b}']", "stands for itself only", id="braces"),
        pytest.param("tools: [d\u0435lete]", "printable ASCII", id="Cyrillic letter"),
        pytest.param("tools: ['a ']", "printable ASCII", id="space at the end"),
        pytest.param("id: 'ci reads'", "not a name", id="space in an id"),
        pytest.param("id: ci-merges", "duplicate rule id 'ci-merges'", id="same id twice"),
        pytest.param("when: arg.x == 1", "unknown name 'arg', did you mean 'args'", id="condition"),
        pytest.param("when: args.x ==", "not a CEL expression", id="condition's syntax"),
        pytest.param("when: http.method == 'GET'", "'when' uses http", id="http on a tool"),
        pytest.param("reviewers: [sre]", "'reviewers' on a rule with effect allow", id="reviewers on an allow"),
        pytest.param("quorum: 1", "'quorum' on a rule with effect allow", id="quorum on an allow"),
        pytest.param("expires: 1h", "'expires' on a rule with effect allow", id="expiry on an allow"),
        pytest.param("limit: 30", "limit is a number in a time, such as 30/min", id="a limit without its time"),
        pytest.param("limit: 0/min", "limit is a number in a time", id="a limit of nothing"),
        pytest.param("limit: 30/month", "limit is a number in a time", id="a limit in another time"),
        pytest.param("mode: dry-run", "mode cannot be 'dry-run'", id="unknown mode"),
        pytest.param("resources: ['file:///a**']", "'**' within a segment", id="half a segment"),
        pytest.param("resources: ['file:///a b']", "no spaces", id="space in a URI"),
        pytest.param("methods: [tools/call]", "named by what it is about", id="tools by method"),
        pytest.param("methods: ['a b']", "not a method", id="not a method"),
        pytest.param("http: [/repos]", "not an http pattern", id="no method"),
        pytest.param("http: ['get /mcp/repos']", "not an http pattern", id="lower-case method"),
        pytest.param("http: ['GET /mcp/a?b']", "can never match", id="query"),
        pytest.param("http: ['GET /mcp/../a']", "can never match", id="dot segments"),
        pytest.param("http: ['GET /repos/**']", "can never match: server github is at /mcp/", id="outside the server"),
        pytest.param("extra: {}", "unknown key 'extra'", id="unknown key"),
    ],
)
def test_a_rule_says_who_where_and_what_and_every_name_means_something(draft, rule, what):
    written = draft.text[draft.text.index("  - id: ci-reads") : draft.text.index("  - id: ci-merges")]
    key = "who" if rule is None else rule.partition(":")[0]
    lines = [line for line in written.splitlines() if line.replace("- ", "  ").strip().partition(":")[0] != key]
    if rule is not None:
        lines.append(f"    {rule}")
    made = "\n".join(lines).replace("    who", "  - who", 1) if key == "id" else "\n".join(lines)
    found = draft.faults(draft.edited(written, made + "\n"))
    assert any(what in said for _, said, _ in found), found


def rule_on(server, *lines, effect="allow"):
    return (
        "\n".join([f"  - id: extra\n    who: [any]\n    server: {server}\n    effect: {effect}", *lines])
        .replace("\n", "\n    ")
        .replace("        ", "    ")
        + "\n"
    )


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        pytest.param(rule_on("github"), "names what it is about", id="no matcher"),
        pytest.param(rule_on("packages", "tools: [a]"), "is a tunnel", id="tools in a tunnel"),
        pytest.param(rule_on("packages", "http: ['GET /']"), "is a tunnel", id="paths in a tunnel"),
        pytest.param(
            rule_on("github", "resources: ['x:y']", "when: args.a == 1"), "uses args", id="args of a resource"
        ),
        pytest.param(rule_on("prices", "http: ['GET /v2/**']", "when: args.a == 1"), "uses args", id="args of a path"),
        pytest.param(rule_on("github", "tools: [a]", effect="approve"), "missing key 'reviewers'", id="no reviewers"),
        pytest.param(
            rule_on("github", "tools: [a]", "reviewers: [sra]", effect="approve"),
            "unknown reviewer 'sra'",
            id="reviewer",
        ),
        pytest.param(
            rule_on("github", "tools: [a]", "reviewers: [desk]", "quorum: 3", effect="approve"),
            "quorum 3 can never be reached: 2",
            id="quorum out of reach",
        ),
        pytest.param(
            rule_on("github", "methods: [initialize]", "reviewers: [sre]", effect="approve"),
            "cannot wait for an approval",
            id="approval of a handshake",
        ),
        pytest.param(rule_on("github", "tools: [get_secret_x]"), "'extra' can never allow", id="dead, literal"),
        pytest.param(rule_on("github", "tools: ['list_secrets*']"), "'no-secrets-api' denies all", id="dead, glob"),
    ],
)
def test_a_rule_that_cannot_have_its_effect_is_refused(draft, rule, what):
    found = draft.faults(draft.edited("masks:\n", rule + "masks:\n"))
    assert any(what in said for _, said, _ in found), found


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule_on("packages", "http: ['CONNECT /']"), id="a tunnel itself"),
        pytest.param(rule_on("prices", "http: ['GET /v2/**']", "when: http.path != '/v2/x'"), id="path condition"),
        pytest.param(rule_on("github", "tools: ['get_secret', get_b]"), id="half dead is alive"),
        pytest.param(rule_on("github", "tools: ['*']"), id="wider than its deny"),
        pytest.param(rule_on("github", "resources: ['repo://**']", "when: caller.name == 'x'"), id="caller condition"),
        pytest.param(rule_on("github", "tools: [get_secret]", "mode: shadow"), id="a shadow is never dead"),
        pytest.param(
            rule_on("github", "tools: [a]", "reviewers: [desk, web]", "quorum: 3", effect="approve"),
            id="quorum in reach",
        ),
        pytest.param(rule_on("warehouse", "methods: ['tasks/*']"), id="methods"),
    ],
)
def test_a_rule_that_can_have_its_effect_is_taken(draft, rule):
    assert draft.load(draft.edited("masks:\n", rule + "masks:\n")).rules[-1].id == "extra"


def test_a_group_that_only_tokens_give_is_known_where_an_issuer_has_a_groups_claim(draft):
    text = draft.edited("who: [group:ci]", "who: [group:auditors]")
    assert draft.load(text).rules[0].who == ("group:auditors",)
    found = draft.faults(draft.edited("    groups: realm_access.roles\n", "", text))
    assert any("unknown group 'auditors'" in said for _, said, _ in found)


def test_http_patterns_are_read_as_method_and_path(draft):
    rule = rule_on("prices", "http: ['GET /v2/items/*', '* /v2/open/**']")
    policy = draft.load(draft.edited("masks:\n", rule + "masks:\n"))
    assert policy.rules[-1].http == (HttpPattern("GET", "/v2/items/*"), HttpPattern("*", "/v2/open/**"))


@pytest.mark.parametrize(
    ("text", "count", "seconds"), [("30/min", 30, 60), ("1/s", 1, 1), ("1000000/d", 1_000_000, 86_400)]
)
def test_a_limit_is_a_number_in_a_time(draft, text, count, seconds):
    policy = draft.load(draft.edited("effect: allow", f"effect: allow\n    limit: {text}"))
    limit = policy.rules[0].limit
    assert (limit.count, limit.per.total_seconds(), str(limit)) == (count, seconds, text)
    assert dict(policy.limits) == {"ci-reads": limit}


@pytest.mark.parametrize("style", ["error", "tool_error", "hide"])
def test_a_deny_says_how_it_is_answered(draft, style):
    text = draft.edited("effect: deny", f"effect: deny\n    deny_style: {style}")
    (denying,) = [rule for rule in draft.load(text).rules if rule.effect == "deny"]
    assert denying.deny_style == style


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("effect: allow", "effect: allow\n    deny_style: hide", "'deny_style' on a rule with effect allow"),
        ("effect: deny", "effect: deny\n    deny_style: silent", "deny_style cannot be 'silent'"),
    ],
)
def test_a_style_is_for_denying_rules_and_one_that_is_known(draft, old, new, what):
    assert [found for _, found, _ in draft.faults(draft.edited(old, new))] == [what]


def test_a_style_is_for_calls_of_tools(draft):
    rule = "  - {id: off, who: [any], server: github, resources: ['file:///**'], effect: deny, deny_style: hide}\n"
    found = draft.faults(draft.edited("rules:\n", f"rules:\n{rule}"))
    assert [what for _, what, _ in found] == ["'deny_style' is for calls of tools"]


def test_a_deny_has_no_limit(draft):
    found = draft.faults(draft.edited("effect: deny", "effect: deny\n    limit: 1/s"))
    assert [what for _, what, _ in found] == ["'limit' on a rule with effect deny"]


@pytest.mark.parametrize(
    ("when", "at"),
    [
        pytest.param("when: args.n == 1 && server < 5", "p.yaml:43:33", id="plain"),
        pytest.param('when: "args.n == 1 && server < 5"', "p.yaml:43:34", id="quoted"),
        pytest.param("when: ' server < 5'", "p.yaml:43:20", id="after a space"),
        pytest.param("when: 'server == ''a'' && server < 5'", "p.yaml:43:11", id="quotes in quotes"),
        pytest.param("when: |\n      args.n == 1 &&\n      server < 5", "p.yaml:43:11", id="lines"),
    ],
)
def test_a_condition_is_wrong_at_its_own_place_in_the_file(draft, when, at):
    [(where, what, _)] = draft.faults(
        draft.edited("tools: [merge_pull_request]\n", f"tools: [merge_pull_request]\n    {when}\n").replace(
            '    when: args.owner + "/" + args.repo == caller.claims.repository\n', ""
        )
    )
    assert "'<' does not go with" in what
    assert where == at


def test_everything_that_is_wrong_with_a_condition_is_told_at_once(draft):
    when = "caller.claim.x == 1 && server > 3 && lower(args.a) == 'x'"
    found = draft.faults(draft.edited('args.owner + "/" + args.repo == caller.claims.repository', when))
    assert [what.partition(",")[0] for _, what, _ in found] == [
        "when: unknown name 'caller.claim'",
        "when: not a CEL expression: '>' does not go with (string",
        "when: unknown name 'lower'",
    ]
    assert len({where for where, _, _ in found}) == 3


def test_one_equals_sign_is_told_as_what_it_is(draft):
    [(where, what, _)] = draft.faults(draft.edited("args.owner +", "args.owner = 'a' && args.owner +"))
    assert what == "when: not a CEL expression: one '=' compares nothing, write '=='"
    assert where.endswith(":22")
