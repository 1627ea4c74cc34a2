"""The laws of streams as callers see them: lists filtered, changed tools hidden, values masked, however bytes came."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.mcp.pins import Pin, define
from coatcheck.pins.books import Books
from coatcheck.proxy.mask import Mask
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.relay import Relay

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = """
servers:
  shop: {url: "https://shop.example/mcp"}
rules:
  - {id: reads, who: [job], server: shop, tools: ["get_*"], effect: allow, limit: 30/min}
  - {id: no-drops, who: [job], server: shop, tools: ["get_drop*"], effect: deny, deny_style: hide}
masks:
  - {id: people, server: shop, detect: [email], fields: ["$..ssn"]}
"""


@pytest.fixture(scope="module")
def policy(load_shop):
    return load_shop(POLICY)


def tool(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def seen_by_the_caller(policy, pieces):
    """What leaves for the pieces of a stream that answers a `tools/list` and a `tools/call`."""
    flow = tflow.tflow(resp=True)
    flow.live = True
    flow.response.status_code = 200
    flow.response.headers["content-type"] = "text/event-stream"
    exchange = Exchange(ExchangeId("x-1"), policy, 0.0)
    exchange.target, exchange.server = Target("https", "shop.example", 443), policy.servers["shop"]
    exchange.is_mcp = exchange.sent = True
    exchange.headers = {"mcp-protocol-version": "2025-11-25"}
    exchange.caller = Caller("job", "ci", "repo:1", "token-1", NOW + timedelta(minutes=5))
    calls = (Call("mcp", "tools/list", id=1), Call("mcp", "tools/call", "get_order", id="2"))
    exchange.inspected = Inspected(calls, b"", "request", None, (1, "2"))
    changed = Pin("shop", "get_price", define(tool("get_price", title="Before")))
    stage = Mask({flow: exchange}, Maskers(bytes(32)), lambda: NOW, Relay(lambda: NOW), Books([changed]))
    stage.responseheaders(flow)
    wire = [*filter(None, pieces), b""]  # an empty piece is the end
    return b"".join(out for piece in wire for out in flow.response.stream(piece)), exchange


def event(message, end=b"\n"):
    return b"data: " + json.dumps(message, ensure_ascii=False).encode() + end * 2


LISTED = event(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"tools": [tool(name) for name in ("get_order", "get_price", "get_drops", "drop", "GET_ORDER2")]},
    }
)
ANSWERED = event({"jsonrpc": "2.0", "id": "2", "result": {"content": [], "structuredContent": {"ssn": "078051120"}}})
EVENTS = st.sampled_from(
    [
        LISTED,
        ANSWERED,
        event(
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "ask bob@example.com, é"}}, b"\r\n"
        ),
        event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "ask bob@example.com"}}, b"\r"),
        b": ping\n\n",
        b"id: 7\ndata:\n\n",
        b"data: {\n",
        b"data: not JSON\n\n",
        b"data: \xff\n\n",
        event({"jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage", "params": {"messages": []}}),
    ]
)


@given(st.lists(EVENTS, max_size=5).map(b"".join), st.lists(st.integers(0, 1000), max_size=12))
@example(LISTED + ANSWERED, [])
def test_what_a_caller_sees_of_a_stream_depends_on_the_bytes_not_on_how_they_were_split(policy, stream, cuts):
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    whole, _ = seen_by_the_caller(policy, [stream])
    assert seen_by_the_caller(policy, [stream[a:b] for a, b in itertools.pairwise(places)])[0] == whole
    assert seen_by_the_caller(policy, [stream[at : at + 1] for at in range(len(stream))])[0] == whole
    for hidden in (b"get_price", b"get_drops", b'"drop"', b"bob@", b"078051120", b"sampling/"):
        assert hidden not in whole


def test_what_is_allowed_unchanged_and_not_masked_is_seen(policy):
    whole, exchange = seen_by_the_caller(policy, [LISTED + ANSWERED])
    assert b'"get_order"' in whole
    assert b'"structuredContent":{"ssn":' in whole
    assert exchange.fault is None
    assert exchange.masked
