"""A deny rule, added to any policy, never allows more: for every kind of call, in lists, and for every caller."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.decide import decide, knows, may_ask, may_see
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.model import HttpPattern, Identity, Policy, Rate, Rule, RuleId, Server
from coatcheck.policy.who import who_may

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVERS = {
    name: Server(name, f"https://{name}.example/", "https", f"{name}.example", 443, "/") for name in ("shop", "api")
}
IDENTITIES = {
    "shop-ci": Identity("shop-ci", "github", {"a": "b"}, frozenset({"ci"})),
    "etl": Identity("etl", "github", {"a": "c"}),
}
CALLERS = st.builds(
    Caller,
    name=st.sampled_from(["shop-ci", "etl", "stranger"]),
    issuer=st.just("github"),
    subject=st.just("s"),
    token_id=st.just("t"),
    expires_at=st.just(NOW),
    groups=st.frozensets(st.sampled_from(["ci", "ops"])),
    claims=st.dictionaries(st.sampled_from(["repository", "n"]), st.sampled_from(["acme/shop", 1, None])),
)
STRICTNESS = {Allow: 0, Hold: 1, Deny: 2}
STYLES = ["error", "tool_error", "hide"]

WORDS = st.sampled_from(["get", "get_order", "delete", "a/b", "x\n", "GET_ORDER", "é", "", "g" * 300]) | st.text(
    max_size=6
)
NAME_PATTERNS = st.sampled_from(["*", "*", "*", "get*", "*_order", "get", "a/b", "*e*", "x*", "tools/*", "**"])
URIS = st.sampled_from(
    [
        "file:///a",
        "file:///a/b",
        "file:///a%2Fb",
        "file:///a/../b",
        "FILE:///a",
        "file://localhost/a",
        "x:y",
        "",
        "file:///a?q",
    ]
)
URI_PATTERNS = st.sampled_from(
    ["**", "**", "**", "file:///**", "file:///a", "file:///*", "file:///a/*", "*:y", "file:///a%2Fb"]
)
PATHS = st.sampled_from(["/", "/v1/a", "/v1/a/", "/v1/%61", "/v1//a", "/v1/a;b", "/v1/../a", "/v1/a/b", "", "/V1/a"])
HTTP_PATTERNS = st.builds(
    HttpPattern,
    st.sampled_from(["*", "GET", "POST", "HEAD", "CONNECT"]),
    st.sampled_from(["/**", "/v1/*", "/v1/a", "/", "/v1/**", "/*/a"]),
)
METHODS = st.sampled_from(
    [
        "tasks/get",
        "tools/list",
        "initialize",
        "ping",
        "GET",
        "sampling/createMessage",
        "notifications/progress",
        "nonsense",
    ]
)
SOURCES = [
    "args.n < 5",
    "args.flag",
    'caller.claims.repository == "acme/shop"',
    '"ci" in caller.groups',
    "now > timestamp('2026-01-01T00:00:00Z')",
    'call.method == "tools/call"',
    "size(args) == 0",
]
CONDITIONS = st.sampled_from([None] * 8 + [*map(compile_condition, SOURCES)])


def some(patterns):
    return st.lists(patterns, max_size=3).map(tuple)


NARROW = st.builds(
    Rule,
    id=st.integers(0, 999).map(lambda n: RuleId(f"r{n}")),
    who=st.lists(
        st.sampled_from(["any", "any", "any", "shop-ci", "etl", "group:ci", "group:ops"]), min_size=1, max_size=2
    ).map(tuple),
    server=st.sampled_from(["shop", "shop", "shop", "api"]),
    effect=st.sampled_from(["allow", "allow", "approve", "deny"]),
    where=st.just("p.yaml:1:1"),
    tools=some(NAME_PATTERNS),
    resources=some(URI_PATTERNS),
    prompts=some(NAME_PATTERNS),
    methods=some(NAME_PATTERNS | METHODS),
    http=some(HTTP_PATTERNS),
    when=CONDITIONS,
    reviewers=st.just(("sre",)),
    quorum=st.integers(1, 2),
    expires=st.sampled_from([timedelta(minutes=5), timedelta(minutes=15)]),
    shadow=st.sampled_from([False, False, False, True]),
    limit=st.sampled_from([None, None, Rate(30, timedelta(minutes=1))]),
    deny_style=st.sampled_from(["error", "tool_error", "hide"]),
)
WIDE = NARROW.map(
    lambda rule: replace(
        rule,
        tools=("*",),
        resources=("**",),
        prompts=("*",),
        methods=("*",),
        http=(HttpPattern("*", "/**"),),
        when=None,
    )
)
RULES = NARROW | WIDE


def tool_call(name, arguments):
    return Call("mcp", "tools/call", name, arguments, {"name": name, "arguments": arguments}, 1)


def completion(kind, key, name):
    return Call("mcp", "completion/complete", params={"ref": {"type": kind, key: name}}, id=1)


ARGUMENTS = st.dictionaries(st.sampled_from(["n", "flag"]), st.integers(0, 9) | st.booleans() | st.just("x"))
CALLS = st.one_of(
    st.builds(tool_call, WORDS, ARGUMENTS),
    st.builds(lambda name, arguments: Call("mcp", "prompts/get", name, arguments, {"name": name}, 1), WORDS, ARGUMENTS),
    st.builds(
        lambda word, uri: Call("mcp", f"resources/{word}", uri, params={"uri": uri}, id=1),
        st.sampled_from(["read", "subscribe", "unsubscribe"]),
        URIS,
    ),
    st.builds(completion, st.just("ref/prompt"), st.just("name"), WORDS),
    st.builds(completion, st.just("ref/resource"), st.just("uri"), URIS),
    st.builds(lambda method: Call("mcp", method), METHODS | WORDS),
    st.builds(
        lambda method, path: Call("http", method, path),
        st.sampled_from(["GET", "HEAD", "POST", "CONNECT", "get"]),
        PATHS,
    ),
)


def policy(rules):
    return Policy("https://g.example", "0" * 64, (), identities=IDENTITIES, servers=SERVERS, rules=tuple(rules))


@st.composite
def with_a_deny(draw):
    """A policy, and the same with one more deny somewhere among its rules."""
    rules = draw(st.lists(RULES, max_size=8, unique_by=lambda made: made.id))
    model = draw(st.sampled_from(rules) if rules and draw(st.booleans()) else RULES)
    added = replace(model, id=RuleId(draw(st.sampled_from(["a", "r5a", "z"]))), effect="deny")
    at = draw(st.integers(0, len(rules)))
    return policy(rules), policy([*rules[:at], added, *rules[at:]])


@given(with_a_deny(), CALLERS, st.sampled_from(["shop", "shop", "api"]), st.lists(CALLS, max_size=2))
@settings(max_examples=500, deadline=None)
def test_no_request_is_decided_less_strictly(policies, caller, server, calls):
    before, after = (decide(one, caller, SERVERS[server], calls, now=NOW) for one in policies)
    assert STRICTNESS[type(after)] >= STRICTNESS[type(before)]


@given(with_a_deny(), CALLERS, st.sampled_from(["tools", "prompts"]), WORDS, URIS)
@settings(max_examples=300, deadline=None)
def test_no_list_shows_more(policies, caller, kind, name, uri):
    for what, named in ((kind, name), ("resources", uri), ("resources", uri + "{id}")):
        before, after = (may_see(one, caller, SERVERS["shop"], what, named, now=NOW) for one in policies)
        assert before or not after
    before, after = (knows(one, caller, SERVERS["shop"]) for one in policies)
    assert before == after


@given(with_a_deny(), CALLERS, METHODS | WORDS)
@settings(max_examples=300)
def test_no_server_may_ask_more_of_its_clients(policies, caller, method):
    before, after = (may_ask(one, caller, SERVERS["shop"], method) for one in policies)
    assert before or not after


@given(with_a_deny(), CALLERS, CALLS)
@settings(max_examples=300)
def test_no_denied_call_is_told_more_of(policies, caller, call):
    """A deny that hides a tool stays one that hides it, whatever other deny is added."""
    before, after = (decide(one, caller, SERVERS["shop"], [call], now=NOW) for one in policies)
    if isinstance(before, Deny) and before.reason == "rule":
        assert isinstance(after, Deny)
        assert after.reason == "rule"
        assert STYLES.index(after.style) >= STYLES.index(before.style)
        assert set(after.rules) >= set(before.rules)


@given(with_a_deny(), CALLERS, CALLS)
@settings(max_examples=300)
def test_no_limit_is_lifted(policies, caller, call):
    before, after = (decide(one, caller, SERVERS["shop"], [call], now=NOW) for one in policies)
    if not isinstance(after, Deny):
        limits = [
            {rule: one.limits[rule] for rule in made.rules if rule in one.limits}
            for one, made in zip(policies, (before, after), strict=True)
        ]
        assert limits[0] == limits[1]


@given(with_a_deny(), CALLS)
@settings(max_examples=300, deadline=None)
def test_nobody_more_may_make_a_call(policies, call):
    before, after = ({one.caller for one in who_may(made, SERVERS["shop"], call, now=NOW)} for made in policies)
    assert after <= before


@given(with_a_deny(), CALLERS, CALLS)
@settings(max_examples=300, deadline=None)
def test_what_is_not_denied_either_way_has_the_same_rules_and_reviewers(policies, caller, call):
    before, after = (decide(one, caller, SERVERS["shop"], [call], now=NOW) for one in policies)
    if not isinstance(after, Deny):
        assert after == before


@given(NARROW, WIDE, CALLERS, CALLS)
@settings(max_examples=300, deadline=None)
def test_nothing_that_a_deny_would_stop_goes_unapproved_where_it_approves_instead(one, wide, caller, call):
    """However it is spelt: `/items/1/` for `/items/1`, a tool by `methods: ["tools/*"]`."""
    all_of_it = replace(wide, id=RuleId("all"), who=("any",), server="shop", effect="allow", shadow=False)
    stopped, asked = (
        decide(policy([all_of_it, replace(one, effect=effect)]), caller, SERVERS["shop"], [call], now=NOW)
        for effect in ("deny", "approve")
    )
    is_handshake = isinstance(asked, Allow) and not asked.rules  # which waits for nobody
    assert isinstance(asked, Allow) is (isinstance(stopped, Allow) or is_handshake)
