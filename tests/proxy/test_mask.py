"""What a caller gets of a whole answer, and of one event: masked, and otherwise as the server said it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.mcp.correlation import Conversation
from coatcheck.mcp.inspect import Inspected
from coatcheck.pins.books import Books
from coatcheck.proxy.mask import Mask
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.relay import Relay

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = """
servers:
  shop: {url: "https://shop.example/mcp"}
  open: {url: "https://open.example/mcp"}
rules:
  - {id: reads, who: [job], server: shop, tools: ["get_*"], effect: allow}
  - {id: opens, who: [job], server: open, tools: ["get_*"], effect: allow}
masks:
  - {id: people, server: shop, detect: [email], fields: ["$..ssn"]}
"""
TEXT = "ask bob@example.com about é"
RESULT = {"content": [{"type": "text", "text": TEXT}], "structuredContent": {"ssn": "078051120", "kept": 7}}
MESSAGE = {"jsonrpc": "2.0", "id": 1, "result": RESULT}


@pytest.fixture(scope="module")
def policy(load_shop):
    return load_shop(POLICY)


def answered(
    policy,
    body,
    *,
    server="shop",
    is_mcp=True,
    kind="application/json",
    status=200,
    is_session=False,
    method="tools/call",
):
    """The body that leaves for one of this type from a server, and the exchange."""
    flow = tflow.tflow(resp=True)
    flow.live = True
    flow.response.status_code = status
    flow.response.headers["content-type"] = kind
    exchange = Exchange(ExchangeId("x-1"), policy, 0.0)
    exchange.target, exchange.server = Target("https", f"{server}.example", 443), policy.servers[server]
    exchange.is_mcp, exchange.sent = is_mcp, True
    exchange.headers = {"mcp-protocol-version": "2025-11-25"}
    exchange.caller = Caller("job", "ci", "repo:1", "token-1", NOW + timedelta(minutes=5))
    exchange.conversation = Conversation() if is_session else None
    exchange.inspected = Inspected((Call("mcp", method, "get_order", id=1),), b"", "request", None, (1,))
    exchange.request_id = 1
    stage = Mask({flow: exchange}, Maskers(bytes(32)), lambda: NOW, Relay(lambda: NOW), Books())
    stage.responseheaders(flow)
    if exchange.streaming:
        return b"".join(out for piece in (body, b"") for out in flow.response.stream(piece)), exchange
    flow.response.raw_content = body
    assert stage.response(flow) is None
    return flow.response.raw_content, exchange


@pytest.mark.parametrize("is_mcp", [True, False], ids=["MCP", "plain HTTP"])
@pytest.mark.parametrize("kind", ["application/json", "application/problem+json"])
def test_a_whole_answer_is_masked_where_the_policy_says_so(policy, is_mcp, kind):
    written = json.dumps(MESSAGE, ensure_ascii=False).encode()
    body, exchange = answered(policy, written, is_mcp=is_mcp, kind=kind)
    seen = json.loads(body)
    assert b"bob@" not in body
    assert b"078051120" not in body
    assert "about é" in body.decode()
    assert (seen["id"], seen["result"]["structuredContent"]["kept"]) == (1, 7)
    assert exchange.masked
    open_body, unmasked = answered(policy, written, server="open", is_mcp=is_mcp, kind=kind)
    assert open_body == written
    assert not unmasked.masked


@pytest.mark.parametrize("method", ["resources/read", "server/discover", "tools/list", "tools/call"])
def test_what_is_decided_by_caller_is_kept_by_no_cache(policy, method):
    result = {"contents": [], "tools": [], "ttlMs": 5000, "cacheScope": "public"}
    written = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    body, _ = answered(policy, written, server="open", method=method)
    private = {"ttlMs": 0, "cacheScope": "private"}
    assert json.loads(body)["result"] == (result | private if method != "tools/call" else result)
    plain = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"contents": [], "tools": []}}).encode()
    assert json.loads(answered(policy, plain, server="open", method=method)[0]) == json.loads(plain)


@pytest.mark.parametrize("is_mcp", [True, False], ids=["MCP", "plain HTTP"])
def test_data_may_have_names_and_numbers_that_no_request_may(policy, is_mcp):
    data = b'{"README":1,"readme":2,"at":0.12345678901234567890%b}'
    whole = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":' + data + b"}}"
    assert answered(policy, whole % b"", is_mcp=is_mcp)[0] == whole % b""
    seen = json.loads(answered(policy, whole % b',"ssn":"078051120"', is_mcp=is_mcp)[0])["result"]["structuredContent"]
    assert seen == {"README": 1, "readme": 2, "at": 0.12345678901234567890, "ssn": "[redacted]"}


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("is_mcp", [True, False], ids=["MCP", "plain HTTP"])
def test_a_text_that_was_cut_off_in_a_character_passes_and_is_masked(policy, is_mcp, kind):
    """As JavaScript cuts text, by UTF-16 (`"…😀".slice(0, -1)`)."""
    whole = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%bcut \\ud83d"}]}}'
    frame = b"data: %b\n\n" if kind == "text/event-stream" else b"%b"
    assert answered(policy, frame % (whole % b""), is_mcp=is_mcp, kind=kind)[0] == frame % (whole % b"")
    masked, _ = answered(policy, frame % (whole % b"bob@example.com "), is_mcp=is_mcp, kind=kind)
    assert masked.decode() == (frame % (whole % b"[redacted] ")).decode().replace("\\ud83d", "\ufffd")


def test_a_byte_order_mark_before_an_answer_hides_nothing_in_it(policy):
    """As .NET writes files, and servers give them."""
    assert answered(policy, b'\xef\xbb\xbf{"kept":1}', is_mcp=False)[0] == b'\xef\xbb\xbf{"kept":1}'
    assert answered(policy, b'\xef\xbb\xbf{"ssn":"123"}', is_mcp=False)[0] == b'{"ssn":"[redacted]"}'


def test_a_tool_may_have_arguments_that_differ_in_case(policy):
    tool = {"name": "get_order", "inputSchema": {"type": "object", "properties": {"a": {}, "A": {}}}}
    written = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool]}}).encode()
    assert json.loads(answered(policy, written, method="tools/list")[0])["result"]["tools"] == [tool]


def test_no_names_may_look_alike_where_the_protocol_has_its_own(policy):
    for result in (b'{"content":[],"Content":[]}', b'{"content":[{"type":"text","text":"a","Text":"b"}]}'):
        with pytest.raises(Refusal, match="server-failed"):
            answered(policy, b'{"jsonrpc":"2.0","id":1,"result":%b}' % result)


def test_an_error_of_the_server_is_masked_too(policy):
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": TEXT, "data": {"ssn": "078051120"}}}
    body, _ = answered(policy, json.dumps(error).encode(), status=400)
    assert json.loads(body)["error"]["code"] == -32000
    assert b"bob@" not in body
    assert b"078051120" not in body
    assert answered(policy, json.dumps(error).encode(), server="open", status=400)[0] == json.dumps(error).encode()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ok":true}', b'[{"jsonrpc":"2.0","method":"x"}]'])
def test_an_answer_that_does_not_answer_is_refused(policy, body):
    with pytest.raises(Refusal) as caught:
        answered(policy, body, server="open")
    assert (caught.value.reason, caught.value.status) == ("server-failed", 502)
    assert answered(policy, b'{"jsonrpc":"2.0","id":1,"result":{}}', server="open")[0]


@pytest.mark.parametrize(("status", "body"), [(401, b""), (404, b'{"error":"gone"}'), (302, b"")])
def test_an_error_of_http_needs_no_answer_in_it(policy, status, body):
    assert answered(policy, body, server="open", status=status)[0] == body


def test_an_array_of_very_many_messages_is_refused(policy):
    last = b'{"jsonrpc":"2.0","id":1,"result":{}}]'
    assert answered(policy, b"[" + b"{}," * 499 + last, server="open")[0].endswith(last)
    with pytest.raises(Refusal, match="more than 500 messages"):
        answered(policy, b"[" + b"{}," * 500 + last, server="open")


@pytest.mark.parametrize("said", [b"hello", b"<p>", b"2026-01-01"])
def test_an_event_of_another_name_needs_to_be_no_message(policy, said):
    last = b"data: " + json.dumps(MESSAGE).encode() + b"\n\n"
    body, exchange = answered(policy, b"event: ping\ndata: " + said + b"\n\n" + last, kind="text/event-stream")
    assert b"event: ping\ndata: " + said in body
    assert not exchange.answered_error
    masked, _ = answered(policy, b"event: ping\ndata: bob@example.com\n\n" + last, kind="text/event-stream")
    assert b"bob@" not in masked
    _, exchange = answered(policy, b"event: message\ndata: " + said + b"\n\n" + last, kind="text/event-stream")
    assert exchange.answered_error


PING = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'


@pytest.mark.parametrize(
    "piece", [b"", b": ping\n\n", PING, b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n', b"retry: 5\n\n"]
)
def test_a_stream_that_ends_without_its_answer_ends_with_an_error_for_it(policy, piece):
    body, exchange = answered(policy, piece, server="open", kind="text/event-stream")
    last = json.loads(body.rpartition(b"data: ")[2])
    assert (last["id"], last["error"]["data"]["reason"], exchange.answered_error) == (1, "server-failed", True)


@pytest.mark.parametrize("piece", [b"data: " + json.dumps(MESSAGE).encode() + b"\n\n", b"id: 7\ndata:\n\n"])
def test_a_stream_that_has_its_answer_or_can_be_resumed_just_ends(policy, piece):
    body, exchange = answered(policy, piece, server="open", kind="text/event-stream", is_session=True)
    assert b"server-failed" not in body
    assert not exchange.answered_error


def test_an_event_of_a_stream_is_masked(policy):
    stream = b"data: " + json.dumps(MESSAGE).encode() + b"\n\n"
    body, exchange = answered(policy, stream, kind="text/event-stream")
    assert b"bob@" not in body
    assert b"078051120" not in body
    assert b'"kept":7' in body
    assert exchange.masked
    assert b"bob@example.com" in answered(policy, stream, server="open", kind="text/event-stream")[0]
