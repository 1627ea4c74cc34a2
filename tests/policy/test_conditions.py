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


def holds(source, call=REFUND):
    return compile_condition(source).holds(variables(CI, SHOP, call, NOW))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('args.owner + "/" + args.repo == caller.claims.repository', True),
        ('args.owner == "evil"', False),
        ("args.amount <= 50", True),
        ("args.n == 3.0", True),
        ("1 == 1.0", True),
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
        pytest.param("args.", "1:6: no viable alternative", id="unfinished"),
        pytest.param("args.owner = 'x'", "not a CEL expression", id="one equals sign"),
        pytest.param("arg.owner == 'x'", "unknown variable 'arg', did you mean 'args'", id="misspelt variable"),
        pytest.param("env.HOME == 'x'", "unknown variable 'env'", id="no environment"),
        pytest.param("caller.claim.x == 1", "unknown member of caller 'claim', did you mean 'claims'", id="member"),
        pytest.param("call.id == 1", "unknown member of call", id="no id"),
        pytest.param("args.a.startswith('x')", "unknown function 'startswith', did you mean", id="misspelt function"),
        pytest.param("lower(args.a) == 'x'", "unknown function", id="unknown function"),
        pytest.param("matches(args.a, 'x')", "called on a value", id="function form"),
        pytest.param("args.a.matches(args.b)", "written as a string", id="a caller's regular expression"),
        pytest.param("args.a.matches('(')", "not a regular expression", id="bad regular expression"),
        pytest.param(r"args.a.matches('((a{99}){99}){9}')", "more than 1,000", id="regular expression that explodes"),
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
