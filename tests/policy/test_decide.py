from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.decide import decide, knows, may_see
from coatcheck.policy.decision import Allow, Deny, Hold
from coatcheck.policy.model import HttpPattern, Policy, Rate, Rule, RuleId, Server

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHOP = Server("shop", "https://shop.example/mcp", "https", "shop.example", 443, "/mcp")
OTHER = Server("other", "https://other.example/mcp", "https", "other.example", 443, "/mcp")
CI = Caller("shop-ci", "github", "s", "t", NOW + timedelta(minutes=5), frozenset({"ci"}), {"repository": "acme/shop"})
ETL = Caller("etl", "cluster", "s", "t", NOW + timedelta(minutes=5))


def rule(rule_id, effect="allow", who=("any",), **what):
    extra = {"reviewers": ("sre",)} if effect == "approve" else {}
    return Rule(RuleId(rule_id), who, what.pop("server", "shop"), effect, f"p.yaml:{rule_id}:1", **extra | what)


def policy(*rules):
    return Policy("https://gateway.example", "0" * 64, (), servers={"shop": SHOP, "other": OTHER}, rules=rules)


def tool(name, **arguments):
    return Call("mcp", "tools/call", name, arguments, {"name": name, "arguments": arguments}, 1)


def read(uri, method="resources/read"):
    return Call("mcp", method, uri, {}, {"uri": uri}, 1)


def decided(rules, call, caller=CI, server=SHOP):
    return decide(policy(*rules), caller, server, [call], now=NOW)


def test_what_no_rule_permits_is_denied_with_a_sentence_that_names_it():
    allowed = rule("reads", tools=("get_*",))
    assert decided([allowed], tool("get_order", order="A-1")) == Allow(("reads",))
    denied = decided([allowed], tool("delete_order", order="secret-order"))
    assert denied == Deny("no-rule", "no rule lets shop-ci call delete_order on shop")


@pytest.mark.parametrize(
    ("styles", "told"),
    [(["error"], "error"), (["tool_error", "error"], "tool_error"), (["hide", "tool_error"], "hide")],
)
def test_of_several_denying_rules_the_style_that_says_least_counts(styles, told):
    denying = [rule(f"no-{n}", "deny", tools=("drop",), deny_style=style) for n, style in enumerate(styles)]
    assert decided([rule("all", tools=("*",)), *denying], tool("drop")).style == told
    assert decided([rule("all", tools=("*",)), *denying], tool("get")) == Allow(("all",))


def test_without_rules_everything_is_denied():
    for call in (tool("get"), read("file:///x"), Call("mcp", "ping"), Call("http", "GET", "/")):
        assert isinstance(decided([], call), Deny)


def test_no_calls_at_all_are_denied():
    assert isinstance(decide(policy(rule("all", tools=("*",))), CI, SHOP, [], now=NOW), Deny)


@pytest.mark.parametrize(
    ("who", "is_let_in"),
    [
        (("any",), True),
        (("shop-ci",), True),
        (("group:ci",), True),
        (("etl", "group:ci"), True),
        (("etl",), False),
        (("ci",), False),
        (("group:shop-ci",), False),
        (("group:etl",), False),
    ],
    ids=str,
)
def test_a_rule_is_for_whom_it_names(who, is_let_in):
    assert isinstance(decided([rule("r", who=who, tools=("*",))], tool("get")), Allow if is_let_in else Deny)


def test_a_rule_on_another_server_does_nothing_here():
    rules = [rule("r", tools=("*",), server="other")]
    assert isinstance(decided(rules, tool("get")), Deny)
    assert isinstance(decided(rules, tool("get"), server=OTHER), Allow)


def test_the_strictest_matching_rule_wins_whatever_the_order():
    allow, approve, deny = (rule(effect, effect, tools=("*",)) for effect in ("allow", "approve", "deny"))
    for rules in ([allow, approve, deny], [deny, approve, allow], [approve, deny, allow]):
        assert isinstance(decided(rules, tool("x")), Deny)
    for rules in ([allow, approve], [approve, allow]):
        assert isinstance(decided(rules, tool("x")), Hold)
    assert decided([allow], tool("x")) == Allow(("allow",))


def test_a_deny_speaks_with_its_own_message_or_names_itself():
    assert decided([rule("no", "deny", tools=("x",), message="Ask first.")], tool("x")) == Deny(
        "rule", "Ask first.", ("no",)
    )
    unspoken = decided([rule("no", "deny", tools=("x",))], tool("x"))
    assert unspoken == Deny("rule", "rule no denies shop-ci to call x on shop", ("no",))


def test_several_approvals_are_asked_by_the_most_demanding_and_all_are_listed():
    quick = rule("b-quick", "approve", tools=("*",), expires=timedelta(minutes=5), message="quick")
    slow = rule("c-slow", "approve", tools=("*",), expires=timedelta(minutes=30))
    two = rule("a-two", "approve", tools=("*",), quorum=2, expires=timedelta(hours=1), message="two")
    held = decided([slow, quick], tool("x"))
    assert held == Hold(("b-quick", "c-slow"), ("sre",), 1, timedelta(minutes=5), "quick")
    held = decided([slow, two, quick, rule("allow", tools=("*",))], tool("x"))
    assert held == Hold(("a-two", "b-quick", "c-slow"), ("sre",), 2, timedelta(hours=1), "two")


def test_those_decide_whom_all_rules_that_ask_name():
    quick = rule("quick", "approve", tools=("*",), reviewers=("desk", "dba"), expires=timedelta(minutes=5))
    drops = rule("drops", "approve", tools=("drop",), reviewers=("dba", "sre"))
    wipes = rule("wipes", "approve", tools=("wipe",), reviewers=("sre",))
    asked = [decided([quick, drops, wipes], tool(name)).reviewers for name in ("get", "drop", "wipe")]
    assert asked == [("desk", "dba"), ("dba",), ("desk", "dba")]


def test_a_shadow_rule_does_nothing():
    shadow = rule("shadow", "deny", tools=("*",), shadow=True)
    assert decided([shadow, rule("reads", tools=("*",))], tool("x")) == Allow(("reads",))
    assert isinstance(decided([rule("shadow", tools=("*",), shadow=True)], tool("x")), Deny)


def test_a_batch_takes_the_strictest_of_its_calls():
    rules = policy(
        rule("reads", tools=("get",)),
        rule("merges", "approve", tools=("merge", "ship")),
        rule("ships", "approve", tools=("ship",), quorum=2),
    )

    def batch(*names):
        return decide(rules, CI, SHOP, [tool(name) for name in names], now=NOW)

    assert batch("get", "get") == Allow(("reads",))
    assert batch("get", "merge") == Hold(("merges",), ("sre",), 1, timedelta(minutes=15))
    assert batch("merge", "ship", "get") == Hold(("merges", "ships"), ("sre",), 2, timedelta(minutes=15))
    assert batch("get", "delete", "merge").reason == "no-rule"


def test_a_batch_is_approved_only_by_who_may_approve_each_of_its_calls():
    rules = policy(
        rule("restarts", "approve", tools=("restart",), reviewers=("desk", "sre"), expires=timedelta(minutes=1)),
        rule("drops", "approve", tools=("drop",), reviewers=("dba", "sre")),
        rule("wipes", "approve", tools=("wipe",), reviewers=("dba",)),
    )

    def batch(*names):
        return decide(rules, CI, SHOP, [tool(name) for name in names], now=NOW)

    assert batch("restart").reviewers == ("desk", "sre")
    assert batch("drop", "restart") == Hold(("drops", "restarts"), ("sre",), 1, timedelta(minutes=1))
    assert batch("drop", "wipe").reviewers == ("dba",)
    assert (batch("restart", "wipe").reason, batch("restart", "wipe").rules) == (
        "no-common-reviewer",
        ("restarts", "wipes"),
    )


def test_every_rule_that_permits_a_call_counts_it_once_for_each_call():
    rules = [rule("reads", tools=("get_*",)), rule("all", tools=("*",)), rule("asks", "approve", tools=("pay",))]
    assert decided(rules, tool("pay")).counted == ("all", "asks")  # an approval is no way around the limit of `all`
    assert decided(rules, tool("get_order")).counted == ("all", "reads")
    batch = decide(policy(*rules), CI, SHOP, [tool("pay"), tool("get_order"), tool("get_order")], now=NOW)
    assert isinstance(batch, Hold)
    assert sorted(batch.counted) == ["all", "all", "all", "asks", "reads", "reads"]
    assert decided([*rules, rule("not", tools=("pay",), shadow=True)], tool("pay")).counted == ("all", "asks")


def test_a_condition_narrows_its_rule():
    own = compile_condition('args.owner + "/" + args.repo == caller.claims.repository')
    rules = [rule("merges", tools=("merge",), when=own)]
    assert decided(rules, tool("merge", owner="acme", repo="shop")) == Allow(("merges",))
    assert decided(rules, tool("merge", owner="acme", repo="bank")).reason == "no-rule"


@pytest.mark.parametrize("effect", ["allow", "approve", "deny"])
def test_a_condition_that_cannot_be_checked_denies_whatever_its_effect(effect):
    broken = rule("broken", effect, tools=("merge",), when=compile_condition("args.amount < 5"))
    fine = rule("fine", tools=("*",))
    denied = decided([fine, broken], tool("merge", amount="secret"))
    assert (denied.reason, denied.rules) == ("condition-error", ("broken",))
    assert "broken" in denied.message
    assert "secret" not in denied.message
    assert isinstance(decided([fine, broken], tool("other", amount="secret")), Allow)


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "server/discover",
        "logging/setLevel",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
        "GET",
        "DELETE",
    ],
)
def test_the_handshake_and_lists_are_for_callers_with_some_rule_on_the_server(method):
    rules = [rule("reads", who=("shop-ci",), tools=("get",)), rule("no", "deny", who=("etl",), tools=("x",))]
    call = Call("mcp", method)
    assert decided(rules, call) == Allow()
    assert decided(rules, call, caller=ETL).reason == "no-rule"
    assert decided(rules, call, server=OTHER).reason == "no-rule"
    assert isinstance(decided([replace(rules[0], shadow=True)], call), Deny)


def test_a_deny_may_name_even_the_handshake_and_an_approval_never_holds_it():
    reads = rule("reads", tools=("get",))
    assert isinstance(decided([reads, rule("no", "deny", methods=("tools/list",))], Call("mcp", "tools/list")), Deny)
    assert decided([reads, rule("ask", "approve", methods=("*",))], Call("mcp", "initialize")) == Allow()


def test_the_transports_own_get_is_not_an_http_get():
    assert isinstance(decided([rule("reads", tools=("get",))], Call("http", "GET", "/mcp")), Deny)
    assert isinstance(decided([rule("reads", tools=("get",))], Call("mcp", "POST")), Deny)
    assert isinstance(decided([rule("reads", tools=("get",))], Call("mcp", "GET", id=1)), Deny)
    assert isinstance(decided([rule("reads", tools=("get",))], Call("mcp", "DELETE", params={"a": 1})), Deny)


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "resources/unsubscribe"])
def test_resources_are_matched_by_uri(method):
    rules = [rule("docs", resources=("file:///docs/**",))]
    assert isinstance(decided(rules, read("file:///docs/a", method)), Allow)
    assert isinstance(decided(rules, read("file:///etc/a", method)), Deny)
    assert isinstance(decided(rules, read("file:///docs/../etc/a", method)), Deny)


def test_prompts_are_matched_by_name_and_no_aspect_stands_for_another():
    rules = [rule("prompts", prompts=("review",))]
    assert isinstance(decided(rules, Call("mcp", "prompts/get", "review")), Allow)
    assert isinstance(decided(rules, tool("review")), Deny)
    assert isinstance(decided(rules, read("review")), Deny)


def test_a_completion_is_matched_by_what_it_refers_to():
    rules = [rule("r", prompts=("review",), resources=("file:///docs/**",))]

    def complete(ref):
        return decided(rules, Call("mcp", "completion/complete", None, {}, {"ref": ref, "argument": {}}, 1))

    assert isinstance(complete({"type": "ref/prompt", "name": "review"}), Allow)
    assert isinstance(complete({"type": "ref/resource", "uri": "file:///docs/{path}"}), Allow)
    assert isinstance(complete({"type": "ref/prompt", "name": "other"}), Deny)
    assert isinstance(complete({"type": "ref/resource", "uri": "file:///etc/{path}"}), Deny)
    for odd in (None, "review", {"type": "ref/tool", "name": "review"}, {"type": ["ref/prompt"]}, {"name": "review"}):
        assert complete(odd).reason == "unknown-method"


def test_other_methods_are_permitted_by_name_only():
    rules = [rule("tasks", methods=("tasks/*",)), rule("all-tools", tools=("*",))]
    assert isinstance(decided(rules, Call("mcp", "tasks/get")), Allow)
    assert decided(rules, Call("mcp", "sampling/createMessage")).reason == "unknown-method"
    assert decided(rules, Call("mcp", "Tasks/get")).reason == "unknown-method"


def test_permitting_methods_never_permits_tools_but_denying_them_does_deny():
    assert isinstance(decided([rule("m", methods=("*",))], tool("get")), Deny)
    assert isinstance(decided([rule("m", methods=("*",))], read("file:///x")), Deny)
    tools = rule("t", tools=("*",))
    assert isinstance(decided([tools, rule("m", "deny", methods=("tools/*",))], tool("get")), Deny)
    assert isinstance(decided([tools, rule("m", "deny", methods=("tasks/*",))], tool("get")), Allow)


def test_plain_http_is_matched_by_method_and_path():
    rules = [
        rule("reads", http=(HttpPattern("GET", "/repos/**"),)),
        rule("no", "deny", http=(HttpPattern("*", "/repos/secret/**"),)),
    ]
    assert isinstance(decided(rules, Call("http", "GET", "/repos/shop")), Allow)
    denied = decided(rules, Call("http", "POST", "/repos/shop"))
    assert denied.message == "no rule lets shop-ci POST /repos/shop on shop"
    assert isinstance(decided(rules, Call("http", "GET", "/repos/secret%2Fkey")), Deny)
    assert isinstance(decided(rules, Call("http", "GET", "/repos/x/../../admin")), Deny)
    assert isinstance(decided(rules, tool("GET /repos/shop")), Deny)


@pytest.mark.parametrize("name", ["", "get\n", "get\u202e", "\uff47et", "g" * 300, "get x"])
def test_odd_names_are_denied_under_a_wildcard_and_shown_escaped(name):
    denied = decided([rule("all", tools=("*",))], tool(name))
    assert denied.reason == "no-rule"
    assert denied.message.isprintable()
    assert len(denied.message) < 400


def test_lists_show_what_could_be_allowed_or_approved():
    when = compile_condition("args.n < 5")
    rules = policy(
        rule("reads", who=("shop-ci",), tools=("get_*",), prompts=("p",)),
        rule("merges", "approve", who=("shop-ci",), tools=("merge",), when=when),
        rule("never", "deny", tools=("get_secret",)),
        rule("sometimes", "deny", tools=("get_order",), when=when),
        rule("docs", resources=("file:///docs/**",)),
        rule("private", "deny", resources=("file:///docs/private/**",)),
    )

    def sees(kind, name, caller=CI):
        return may_see(rules, caller, SHOP, kind, name, now=NOW)

    assert [name for name in ("get_x", "merge", "get_order", "get_secret", "drop") if sees("tools", name)] == [
        "get_x",
        "merge",
        "get_order",
    ]
    assert not sees("tools", "get_x", ETL)
    assert sees("prompts", "p")
    assert not sees("prompts", "q")
    assert sees("resources", "file:///docs/a")
    assert not sees("resources", "file:///docs/private/a")
    assert sees("resources", "file:///docs/{name}")
    assert sees("resources", "file:///{+path}")
    assert not sees("resources", "file:///docs/private/{name}")
    assert not sees("resources", "file:///etc/{name}")


def test_a_caller_is_known_where_a_rule_permits_it_something():
    rules = policy(
        rule("a", who=("group:ci",), tools=("x",)),
        rule("b", "deny", who=("etl",), tools=("x",)),
        rule("c", "approve", who=("etl",), tools=("x",), server="other"),
    )
    assert knows(rules, CI, SHOP)
    assert not knows(rules, CI, OTHER)
    assert not knows(rules, ETL, SHOP)
    assert knows(rules, ETL, OTHER)


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ({"http": (HttpPattern("DELETE", "/items/*"),)}, Call("http", "DELETE", "/items/1")),
        ({"http": (HttpPattern("DELETE", "/items/*"),)}, Call("http", "DELETE", "/items/1/")),
        ({"http": (HttpPattern("DELETE", "/items/*"),)}, Call("http", "DELETE", "/items;v=1/1")),
        ({"http": (HttpPattern("DELETE", "/items/*"),)}, Call("http", "DELETE", "/items/a%2Fb")),
        ({"http": (HttpPattern("GET", "/dump"),)}, Call("http", "HEAD", "/dump")),
        ({"resources": ("db://prod/*",)}, read("db://prod/a%2Fb")),
        ({"methods": ("tools/*",)}, tool("get")),
    ],
    ids=lambda value: value.name if isinstance(value, Call) else "",
)
def test_an_approval_is_asked_for_however_a_call_is_spelt_that_another_rule_allows(what, call):
    asks = rule("asks", "approve", **what)
    everything = {"tools": ("*",), "resources": ("db://**",), "http": (HttpPattern("*", "/**"),)}
    allows = rule("allows", **everything, limit=Rate(1, timedelta(minutes=1)))
    assert decided([allows], call) == Allow(("allows",), ("allows",))
    held = decided([allows, asks], call)
    assert isinstance(held, Hold)
    assert (held.rules, set(held.counted)) == (("asks",), {"asks", "allows"})


def test_what_is_approved_is_permitted_only_as_it_is_spelt():
    asks = rule("asks", "approve", http=(HttpPattern("DELETE", "/items/*"),), methods=("tools/*",))
    assert isinstance(decided([asks], Call("http", "DELETE", "/items/1")), Hold)
    for call in (Call("http", "DELETE", "/items/1/"), tool("get")):
        assert decided([asks], call).reason == "no-rule"
