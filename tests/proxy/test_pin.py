"""Calls of tools that are not what was pinned."""

from dataclasses import replace

import pytest

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.mcp.pins import Pin as Pinned
from coatcheck.mcp.pins import define
from coatcheck.pins.books import Books
from coatcheck.policy.model import Server
from coatcheck.proxy.pin import Pin

SHOP = Server("shop", "https://shop.test/mcp", "https", "shop.test", 443, "/mcp")


def named(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


CHANGED = Pinned("shop", "drop", define(named("drop")), define(named("drop", title="x")), "A1B2C3D4E5")
FINE = Pinned("shop", "get", define(named("get")))


@pytest.fixture
def ask(exchanges, exchange_of, flow):
    stage = Pin(exchanges, Books([CHANGED, FINE, replace(FINE, tool="list"), replace(FINE, tool="LIST")]))

    def ask(*tools, method="tools/call", kind="mcp", server=SHOP):
        exchange = exchange_of(flow)
        exchange.server = server
        calls = tuple(Call(kind, method, tool) for tool in tools)
        exchange.inspected = Inspected(calls, b"", "request", None, (1,))
        stage.request(flow)

    return ask


@pytest.mark.parametrize("tool", ["drop", "DROP", "dr\u043ep", "drop\u200b"])
def test_a_changed_tool_is_not_called_by_any_name_like_its_own(ask, tool):
    with pytest.raises(Refusal) as caught:
        ask(tool)
    assert (caught.value.reason, caught.value.status, caught.value.code) == ("tool-changed", 200, 4030)
    ask("get")


def test_the_refusal_names_the_approval_that_is_asked_for(ask):
    with pytest.raises(Refusal, match="drop of shop is not what it was when it was pinned") as caught:
        ask("drop")
    assert caught.value.data()["approval"] == "A1B2C3D4E5"


@pytest.mark.parametrize("tool", ["list", "LIST", "List"])
def test_no_look_alike_is_called(ask, tool):
    with pytest.raises(Refusal) as caught:
        ask(tool)
    assert caught.value.reason == "tool-look-alike"


def test_one_changed_tool_of_a_batch_refuses_all(ask):
    with pytest.raises(Refusal):
        ask("get", "drop")
    ask("get", "get")


def test_what_was_never_listed_and_what_is_no_tool_is_left_to_the_policy(ask):
    ask("unheard_of")
    ask("drop", method="prompts/get")
    ask("drop", method="GET", kind="http")
    ask("drop", server=replace(SHOP, name="other"))


def test_a_header_that_mirrors_an_argument_is_compared_with_what_the_listed_schema_says(exchanges, exchange_of, flow):
    schema = {"properties": {"zone": {"x-mcp-header": "Region"}}}
    stage = Pin(exchanges, Books([replace(FINE, pinned=define(named("get", inputSchema=schema)))]))
    exchange = exchange_of(flow)
    exchange.server = SHOP
    exchange.inspected = Inspected((Call("mcp", "tools/call", "get", {"zone": "eu"}),), b"", "request", None, (1,))
    exchange.headers = {"mcp-param-region": "eu"}
    stage.request(flow)
    exchange.headers = {"mcp-param-region": "us"}
    with pytest.raises(Refusal) as caught:
        stage.request(flow)
    assert caught.value.reason == "header-mismatch"


def test_a_server_whose_changes_are_only_told_is_called(ask):
    ask("drop", server=replace(SHOP, pins="warn"))
    with pytest.raises(Refusal):
        ask("list", server=replace(SHOP, pins="warn"))
    with pytest.raises(Refusal):
        ask("drop", server=replace(SHOP, pins="deny"))
