import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy.conditions import ConditionError, compile_condition, variables
from coatcheck.policy.model import Server

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHOP = Server("shop", "https://shop.example/mcp", "https", "shop.example", 443, "/mcp")
CI = Caller(
    "shop-ci",
    "github",
    "repo:acme/shop",
    "t",
    NOW + timedelta(minutes=5),
    frozenset({"ci", "eu"}),
    {"repository": "acme/shop", "run_id": "7", "nested": {"roles": ["reader"]}},
)
REFUND = Call("mcp", "tools/call", "refund", {"owner": "acme", "repo": "shop", "amount": 12.5, "n": 3, "urgent": True})


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def holds(source, call=REFUND):
    return compile_condition(source).holds(variables(CI, SHOP, call, NOW))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('args.owner + "/" + args.repo == caller.claims.repository', True),
        ('args.owner == "evil"', False),
        ("args.amount <= 50", True),
        ("args.n == 3.0", True),
        ("dyn(1) == 1.0", True),
        ("args.urgent == 1", False),
        ('"ci" in caller.groups', True),
        ('caller.name == "shop-ci" && server == "shop"', True),
        ('call.method == "tools/call" && call.name == "refund"', True),
        ("has(args.missing) && args.missing == 1", False),
        ('args.repo.startsWith("sh") && args.repo.matches("^[a-z]+$")', True),
        ('now < timestamp("2027-01-01T00:00:00Z") && now.getHours() == 12', True),
        ('caller.claims.nested.roles.exists(role, role == "reader")', True),
        ("type(args.n) == int", True),
    ],
)
def test_a_condition_sees_the_caller_the_call_the_arguments_and_the_time(source, expected):
    assert holds(source) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("size(args.repo) == 4", True, id="a text's size"),
        pytest.param('size("\u00ff\u03c0") == 2', True, id="size in code points, not bytes"),
        pytest.param("dyn(1) == 1u && dyn(1) == 1.0", True, id="numbers across types"),
        pytest.param("{1: 1.0, 2u: 3u} == {1u: 1, 2: 3.0}", True, id="maps across number types"),
        pytest.param("args.n == dyn('x')", False, id="other types are not equal"),
        pytest.param("args.missing == 1 || args.n == 3", True, id="true or an error is true"),
        pytest.param("args.n == 3 || args.missing == 1", True, id="in either order"),
        pytest.param("args.missing == 1 && args.n == 4", False, id="false and an error is false"),
        pytest.param("[1, 2, 3].all(n, 6 / (2 - n) == 6)", False, id="one false is enough for all"),
        pytest.param("duration('1000000s') == duration('277h46m40s')", True, id="durations"),
        pytest.param("now.getHours('Asia/Kathmandu') == 17", True, id="time zones"),
        pytest.param("now.getDayOfWeek() == 2", True, id="Sunday is 0"),
        pytest.param("'a\\u0062' == 'ab'", True, id="escapes"),
        pytest.param("r'a\\b' == 'a\\\\b'", True, id="raw text"),
        pytest.param("args.amount > 12 && args.amount < 13.0", True, id="fractions and whole numbers"),
    ],
)
def test_values_are_what_the_cel_specification_says(source, expected):
    assert holds(source) is expected


@pytest.mark.parametrize(
    "source",
    [
        "-(-9223372036854775808) < args.n",
        "9223372036854775807 + args.n > 0",
        "string(b'\\xff') != args.owner",
        "timestamp('9999-12-31T23:59:59Z') + duration('1h') > now",
        "duration('200000000000s') + duration('200000000000s') > duration('1s')",
        "args.missing == 1 || args.n == 4",
        "[1, 2][args.n] == 1",
    ],
)
def test_what_has_no_value_in_the_cel_specification_is_an_error(source):
    with pytest.raises(ConditionError):
        holds(source)


def test_a_plain_http_call_has_http_and_others_do_not():
    source = 'http.method == "GET" && http.path.startsWith("/v1/")'
    assert holds(source, Call("http", "GET", "/v1/items"))
    with pytest.raises(ConditionError):
        holds(source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        pytest.param("args.missing == 1", "not there", id="missing argument"),
        pytest.param("caller.claims.actor == 'x'", "not there", id="missing claim"),
        pytest.param("args.owner < 5", "another type", id="text and number"),
        pytest.param("args.n + args.owner == 'x'", "another type", id="no coercion"),
        pytest.param("args.owner", "neither true nor false", id="text"),
        pytest.param("args.n", "neither true nor false", id="number"),
        pytest.param("args.n / 0 == 1", "cannot be evaluated", id="division by zero"),
        pytest.param("9223372036854775807 + args.n > 0", "cannot be evaluated", id="overflow"),
        pytest.param("args.n.owner == 1", "another type", id="member of a number"),
        pytest.param("int(args.owner) == 1", "another type|cannot be evaluated", id="not a number"),
    ],
)
def test_what_cannot_be_decided_is_an_error_and_never_false(source, why):
    with pytest.raises(ConditionError, match=why):
        holds(source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        pytest.param("", "not a CEL expression", id="empty"),
        pytest.param("args.", "not a CEL expression: ", id="unfinished"),
        pytest.param("args.owner = 'x'", "not a CEL expression", id="one equals sign"),
        pytest.param("arg.owner == 'x'", "unknown name 'arg', did you mean 'args'", id="misspelt variable"),
        pytest.param("env.HOME == 'x'", "unknown name 'env'", id="no environment"),
        pytest.param("caller.claim.x == 1", "unknown name 'caller.claim', did you mean 'caller.claims'", id="member"),
        pytest.param("call.id == 1", "unknown name 'call.id'", id="no id"),
        pytest.param(
            "args.a.startswith('x')", "unknown name 'startswith', did you mean 'startsWith'", id="misspelt function"
        ),
        pytest.param("lower(args.a) == 'x'", "unknown name 'lower'", id="unknown function"),
        pytest.param("matches(args.a, 'x')", "called on a value", id="function form"),
        pytest.param("args.a.matches(args.b)", "written as a string", id="a caller's regular expression"),
        pytest.param(
            "args.a.matches('(')", "regular expression that cannot be used: a bracket", id="bad regular expression"
        ),
        pytest.param(r"args.a.matches('((a{99}){99}){9}')", "over 1,000 steps", id="regular expression that explodes"),
        pytest.param("server < 5", "'<' does not go with", id="types that never go together"),
        pytest.param('1 == "a"', "'==' does not go with", id="literals of two types"),
        pytest.param("call.name == 5", "'==' does not go with", id="a name and a number"),
        pytest.param("caller.groups.exists(g, g == 1)", "'==' does not go with", id="a group and a number"),
        pytest.param("now > 5", "'>' does not go with", id="time and number"),
        pytest.param("server.name == 'x'", "cannot be the operand", id="a member of a text"),
        pytest.param("caller == 'x'", "name caller.claims or caller.groups or caller.name", id="no member"),
        pytest.param("server", "it gives a string, neither true nor false", id="a text"),
        pytest.param("size(args)", "it gives a int, neither", id="a number"),
        pytest.param("caller.groups", "neither true nor false", id="a list"),
        pytest.param("timestamp('2027-13-01T00:00:00Z') > now", "not a timestamp", id="a time that is none"),
        pytest.param("now - duration('1x') > now", "not a duration", id="a duration that is none"),
        pytest.param("now.getHours('Mars/Olympus') == 1", "not a time zone", id="a zone that is none"),
        pytest.param("now.getHours(args.zone) == 1", "takes one time zone, written", id="a caller's zone"),
        pytest.param(".args.a == 1", "does not start with a dot", id="leading dot"),
        pytest.param("google.protobuf.Int64Value{value: 1} == 1", "messages are not for", id="a message"),
        pytest.param("args.a.matches('x{900}y{900}')", "over 1,000 steps", id="repetitions in a row"),
        pytest.param("args.a.matches('\\\\x28a{99}){99}')", "cannot be used", id="brackets behind an escape"),
        pytest.param("args.a.matches('\\\\pL{9}')", "over 1,000 steps", id="many classes of letters"),
        pytest.param("args.a.matches(r'\\Qa{9\\E')", "not for conditions", id="quoted text"),
        pytest.param("args.a.map(x, x + 1) == [2]", "not for conditions", id="map"),
        pytest.param("args.a.filter(x, x > 1).size() == 1", "not for conditions", id="filter"),
        pytest.param("args.a.all(args, true)", "cannot be bound again", id="rebinding"),
        pytest.param("args.a == '" + "a" * 2000 + "'", "longer than 2,000", id="too long"),
        pytest.param("(" * 900 + "true" + ")" * 900, "not a CEL expression", id="too deep"),
    ],
)
def test_what_could_only_fail_is_refused_when_compiled(source, why):
    with pytest.raises(ValueError, match=why):
        compile_condition(source)


def test_no_value_of_an_argument_or_claim_is_in_a_message():
    call = Call("mcp", "tools/call", "refund", {"token": "s3cr3t-value", "n": 9_000_000_000_000_000})
    for source in ("args.token < 5", "args[args.token] == 1", "args.n * args.n > 0", "int(args.token) > 0"):
        with pytest.raises(ConditionError) as caught:
            holds(source, call)
        assert "s3cr3t" not in str(caught.value)
        assert "9000" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"a": "x" * 70_000}, id="long text"),
        pytest.param({"a": "\u20ac" * 22_000}, id="long text in bytes"),
        pytest.param({"a": [0] * 9_000}, id="many values"),
        pytest.param({str(n): n for n in range(9_000)}, id="many names"),
        pytest.param({"a": ["x" * 100] * 700}, id="many texts"),
        pytest.param({"a": 2**53}, id="a number servers disagree on"),
        pytest.param({"a": [{"b": -(2**60)}]}, id="a nested number"),
        pytest.param({"a": "\ud800"}, id="half a character"),
        pytest.param({"\udfff": 1}, id="half a character in a name"),
        pytest.param({"a": nested(200)}, id="many levels"),
        pytest.param({"a": nested(20_000)}, id="levels that would crash the library"),
    ],
)
def test_arguments_past_the_bounds_are_an_error_whatever_the_condition(arguments):
    with pytest.raises(ConditionError):
        holds("size(args) > 0", Call("mcp", "tools/call", "t", arguments))


def test_a_condition_that_does_not_name_the_arguments_is_not_bounded_by_them():
    call = Call("mcp", "tools/call", "t", {"a": "x" * 1_000_000})
    assert holds('caller.name == "shop-ci"', call)
    with pytest.raises(ConditionError):
        holds('caller.name == "shop-ci" && args.a != ""', call)


def test_arguments_within_the_bounds_are_looked_at():
    arguments = {"a": "x" * 60_000, "b": list(range(1_000)), "c": 2**53 - 1}
    assert holds("args.b.all(n, n >= 0) && args.c > 0", Call("mcp", "tools/call", "t", arguments))


def test_levels_within_the_bounds_are_looked_at():
    assert holds("args == args", Call("mcp", "tools/call", "t", {"a": nested(64)}))


@pytest.mark.parametrize(
    "expression",
    ["[ab]*a[ab]{20}c", "[ab]*a[ab]{900}c", "(.*a.{20}){20}c", ".{999}", "((a|b)*a(a|b){15}){10}c", r"[\pL]*q"],
)
def test_a_regular_expression_that_explodes_looks_at_short_texts_only(expression):
    condition = compile_condition(f"args.a.matches(r'{expression}') || true")
    short, long = (
        variables(CI, SHOP, Call("mcp", "tools/call", "t", {"a": a}), NOW) for a in ("ab" * 20, "ab" * 30_000)
    )
    assert condition.holds(short) is True
    with pytest.raises(ConditionError, match="too long"):
        condition.holds(long)


@pytest.mark.parametrize("expression", ["^[a-z]+$", "^[A-Za-z0-9._%+-]+@[a-z.]+$", "(?i)drop|delete", r"^\d{4}-\d{2}$"])
def test_an_ordinary_regular_expression_looks_at_pages_of_text(expression):
    text = {"a": "ab " * 5_000}
    assert holds(f"args.a.matches(r'{expression}') || true", Call("mcp", "tools/call", "t", text))


@pytest.mark.parametrize(
    "source",
    [
        "args.l.all(x, args.l.all(y, x == y || true))",
        "args.l.all(x, x in args.l)",
        "args.l.all(x, args.l.size() > 0)",
        "args.l.all(x, (args.l + args.l).size() > 0)",
        "args.l.all(x, [args, args, args].size() > 1)",
        "args.l.all(x, args.l == args.l)",
        'args.l.all(x, string(x).matches("^[0-9]*$"))',
        "args.l.all(x, args.l.exists(y, args.l.exists(z, z == y)))",
    ],
)
@pytest.mark.parametrize(
    "values",
    [[0] * 8_000, ["x" * 5] * 5_000, [{"a": 1}] * 2_000, [[1] * 80] * 80, list(range(200))],
    ids=["numbers", "texts", "mappings", "lists", "few"],
)
def test_no_arguments_make_a_condition_run_long(source, values):
    condition = compile_condition(source)
    given_variables = variables(CI, SHOP, Call("mcp", "tools/call", "t", {"l": values}), NOW)
    start = time.process_time()
    with contextlib.suppress(ConditionError):
        condition.holds(given_variables)
    assert time.process_time() - start < 0.25


@pytest.mark.parametrize(
    "source",
    [
        "args.items.all(item, item.price <= args.limit)",
        'args.items.all(item, item.tags.all(tag, tag in ["a", "b"]))',
        "args.items.exists_one(item, item.price == 3)",
    ],
)
def test_an_ordinary_list_is_within_the_bounds(source):
    items = [{"price": n, "tags": ["a", "b"]} for n in range(60)]
    assert holds(source, Call("mcp", "tools/call", "t", {"items": items, "limit": 100}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
SOURCES = (
    'args.a == args.b && args.c.startsWith("x")',
    "args.a.all(x, x in args.b)",
    "args.a < args.b || args.c",
    'args.a.b.c == caller.claims["x"]',
    'string(args.a).matches("x+")',
)
CONDITIONS = [compile_condition(source) for source in SOURCES]


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.sampled_from(CONDITIONS))
@settings(max_examples=200)
def test_any_arguments_give_true_false_or_a_condition_error(arguments, condition):
    try:
        result = condition.holds(variables(CI, SHOP, Call("mcp", "tools/call", "t", arguments), NOW))
    except ConditionError:
        return
    assert result is True or result is False
