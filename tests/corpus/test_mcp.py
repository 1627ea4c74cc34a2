"""Messages to an MCP endpoint: what two readers could take for two things, and what names what no rule names."""

import json

import pytest
from ground import denied
from raw import call
from server import response, saying

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

NEWER = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": NEWER, "io.modelcontextprotocol/clientCapabilities": {}}


def message(method: str = "tools/call", params: object = None, **members: object) -> bytes:
    """A request as JSON; `params` name an allowed tool unless given."""
    params = {"name": "get_order", "arguments": {}} if params is None else params
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | members).encode()


def newer(name: str = "get_order") -> bytes:
    return message(params={"name": name, "arguments": {}, "_meta": META})


def sent(ground, body: bytes, *more: str, version: str | None = "2025-11-25", without=()):
    with ground.tunnel() as client:
        return client.outcome(ground.post(body, more=more, version=version, without=without))


# -- headers that mirror the body ----------------------------------------------------------------------------------

MIRRORED = {
    "another tool": ("Mcp-Method: tools/call", "Mcp-Name: get_secret"),
    "another case": ("Mcp-Method: tools/call", "Mcp-Name: GET_ORDER"),
    "a sentinel in capitals": ("Mcp-Method: tools/call", "Mcp-Name: =?BASE64?Z2V0X29yZGVy?="),
    "broken base64": ("Mcp-Method: tools/call", "Mcp-Name: =?base64?Z2V0X29yZGV?="),
    "base64 of no UTF-8": ("Mcp-Method: tools/call", "Mcp-Name: =?base64?/w==?="),
    "a sentinel in a sentinel": ("Mcp-Method: tools/call", "Mcp-Name: =?base64?PT9iYXNlNjQ/WjJWMFgyOXlaR1Z5Pz0=?="),
    "another method": ("Mcp-Method: tools/list", "Mcp-Name: get_order"),
    "no method": ("Mcp-Name: get_order",),
    "no name": ("Mcp-Method: tools/call",),
}


@pytest.mark.attack("MCP-01", "MCP-02", "MCP-07", "MCP-08")
@pytest.mark.parametrize("lines", MIRRORED.values(), ids=MIRRORED)
def test_a_header_that_does_not_mirror_the_body_is_refused(ground, lines) -> None:
    with ground.watch():
        reply = sent(ground, newer(), *lines, version=NEWER)
        denied(reply, 400, "header-mismatch")
        assert reply.json["error"]["code"] == -32020


@pytest.mark.attack("MCP-01")
def test_a_header_that_mirrors_another_argument_than_the_bodys_is_refused(ground) -> None:
    body = message(params={"name": "get_order", "arguments": {"region": "eu"}, "_meta": META})
    lines = ("Mcp-Method: tools/call", "Mcp-Name: get_order")
    with ground.watch(refusals=2, arrive=1):
        denied(sent(ground, body, *lines, "Mcp-Param-Region: us", version=NEWER), 400, "header-mismatch")
        twice = ("Mcp-Param-Region: eu", "mcp-param-region: us")
        denied(sent(ground, body, *lines, *twice, version=NEWER), 400, "duplicate-header")
        assert sent(ground, body, *lines, "Mcp-Param-Region: eu", "Mcp-Param-X: y", version=NEWER).status == 200


@pytest.mark.attack("MCP-08")
@pytest.mark.parametrize("name", ["get_order", "  get_order \t", "=?base64?Z2V0X29yZGVy?="])
def test_one_that_does_is_served(ground, name) -> None:
    with ground.watch(refusals=0, arrive=1):
        assert sent(ground, newer(), "Mcp-Method: tools/call", f"Mcp-Name:{name}", version=NEWER).status == 200


@pytest.mark.attack("MCP-04")
@pytest.mark.parametrize("version", [None, "2025-11-25"])
@pytest.mark.parametrize("line", ["Mcp-Name: get_secret", "Mcp-Method: tools/list"])
def test_the_body_decides_under_versions_that_mirror_nothing(ground, version, line) -> None:
    with ground.watch(refusals=2):
        denied(sent(ground, message(), line, version=version), 400, "header-mismatch")
        body = message(params={"name": "delete_order", "arguments": {}})
        denied(sent(ground, body, "Mcp-Name: delete_order", version=version), 200, "policy-denied")


@pytest.mark.attack("MCP-04")
def test_a_newer_body_under_an_older_header_is_refused(ground) -> None:
    with ground.watch():
        denied(sent(ground, newer(), "Mcp-Method: tools/call"), 400, "header-mismatch")


@pytest.mark.attack("MCP-05")
@pytest.mark.parametrize("name", ["Mcp-Name", "MCP-NAME", "Mcp_Name"])
def test_a_mirrored_header_twice_is_refused(ground, name) -> None:
    lines = ("Mcp-Method: tools/call", "Mcp-Name: get_order", f"{name}: get_secret")
    with ground.watch():
        denied(sent(ground, newer(), *lines, version=NEWER), 400, "duplicate-header")


# -- media types --------------------------------------------------------------------------------------------------

TYPES = {
    "jsonx": "application/jsonx",
    "json-rpc": "application/json-rpc",
    "utf-16": "application/json; charset=utf-16",
    "latin1": "application/json; charset=latin1",
    "multipart": "multipart/form-data; boundary=x",
    "text": "text/plain",
    "a charset twice": "application/json; charset=utf-8; charset=utf-16",
    "a charset that is nearly it": "application/json; charset=utf8",
    "a charset within a text": 'application/json; profile="charset=utf-8"',
    "a charset in the extended form": "application/json; charset*=utf-8''utf-16",
    "a parameter": "application/json; version=1",
    "two types in one": "application/json, text/plain",
    "lines": "application/jsonl",
    "problem": "application/problem+json",
    "anything": "*/*",
    "a form": "application/x-www-form-urlencoded",
}
READ_TYPES = [
    "Application/JSON", "application/json;charset=utf-8", 'application/json; charset="UTF-8"',
    "application/json ; Charset=UTF-8",
]  # fmt: skip


@pytest.mark.attack("MCP-37")
@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_only_json_in_utf8_is_read(ground, kind) -> None:
    with ground.watch():
        reply = sent(ground, message(), f"Content-Type: {kind}", without=("Content-Type",))
        denied(reply, 415, "unsupported-media-type")


@pytest.mark.attack("MCP-37")
@pytest.mark.parametrize("kind", READ_TYPES)
def test_json_in_utf8_is_read_however_that_is_said(ground, kind) -> None:
    with ground.watch(refusals=0, arrive=1):
        assert sent(ground, message(), f"Content-Type: {kind}", without=("Content-Type",)).status == 200


@pytest.mark.attack("MCP-37")
def test_no_type_and_two_types_are_refused(ground) -> None:
    with ground.watch(refusals=2):
        denied(sent(ground, message(), without=("Content-Type",)), 415, "unsupported-media-type")
        denied(sent(ground, message(), "Content-Type: application/json"), 400, "duplicate-header")


@pytest.mark.attack("MCP-38")
def test_what_the_client_takes_is_the_servers_to_judge_and_the_call_still_ours(ground) -> None:
    with ground.watch(refusals=1, arrive=1):
        assert sent(ground, message(), "Accept: application/json", without=("Accept",)).status == 200
        body = call("delete_order", {})
        denied(sent(ground, body, "Accept: application/json", without=("Accept",)), 200, "policy-denied")


# -- names ---------------------------------------------------------------------------------------------------------

NAMES = {
    "cyrillic": "g\u0435t_order",
    "full width": "\uff47et_order",
    "zero width": "get_\u200border",
    "decomposed": "get_o\u0308rder",
    "a line end in a glob": "get_x\ndelete",
    "right to left in a glob": "get_\u202eredro",
    "a line end behind": "watch\n",
    "a space behind": "watch ",
    "another case": "WATCH",
    "a long s": "\u017fearch",
    "a slash": "get_a/b",
    "a star": "get_*",
    "brackets": "get_[a]",
    "another digit": "get_\u0661",
    "a tag": "get_\U000e0041x",
    "a mark": "get_\ufeff",
    "NUL behind": "watch\0",
    "a space before": " watch",
    "200 letters": "get_" + "x" * 196,
    "markup": "get_<b>",
    "percent": "get_%6f",
}
READ_NAMES = ["watch", "get_a.b-c_D9", "get_" + "x" * 124]


@pytest.mark.attack("MCP-31", "MCP-32")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_only_looks_like_an_allowed_one_is_denied(ground, name) -> None:
    with ground.watch():
        denied(sent(ground, message(params={"name": name, "arguments": {}})), 200, "policy-denied")


@pytest.mark.attack("MCP-31", "MCP-32")
@pytest.mark.parametrize("name", READ_NAMES)
def test_a_name_that_a_rule_spells_is_served(ground, name) -> None:
    with ground.watch(refusals=0, arrive=1):
        assert sent(ground, message(params={"name": name, "arguments": {}})).status == 200


@pytest.mark.attack("MCP-31")
@pytest.mark.parametrize("name", ["", "get_" + "x" * 300])
def test_a_name_that_is_none_is_refused(ground, name) -> None:
    with ground.watch():
        denied(sent(ground, message(params={"name": name, "arguments": {}})), 400, "bad-params")


URIS = [
    "FILE:///srv/a",
    "file://localhost/srv/a",
    "%66ile:///srv/a",
    "file:///srv/../etc/passwd",
    "file:///srv/%2e%2e/x",
    "file:///srv/a#",
    "file:///srv/a?",
    "file:///srv//a",
    "file:/srv/a",
    "file:///srv/./a",
    "file:///srv/..%2fetc",
    "file:///srv/..;/x",
    "file:///srv/a\\..\\x",
    "file:///srv/%252e%252e/x",
    "file:///srv/%61",
    "file:///srv/a%00",
    "file:///srv/a\0",
    "file:///srv/a\n",
    "file:///srv/\uff0e\uff0e/x",
    "file:///srv/\u202e",
    "file://user@/srv/a",
    "file:///SRV/a",
    "http://169.254.169.254/",
]


@pytest.mark.attack("MCP-35")
@pytest.mark.parametrize("uri", URIS)
def test_another_spelling_of_a_resource_is_denied(ground, uri) -> None:
    with ground.watch(refusals=1, arrive=1):
        denied(sent(ground, message("resources/read", {"uri": uri})), 200, "policy-denied")
        assert sent(ground, message("resources/read", {"uri": "file:///srv/a"})).status == 200


@pytest.mark.attack("MCP-43")
def test_what_a_list_says_permits_nothing(ground) -> None:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("get_order", "delete_order")]
    listed = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools, "nextCursor": "2"}}).encode()
    with ground.watch(refusals=1, arrive=1):
        with ground.api.answering(saying(response(listed))):
            seen = sent(ground, message("tools/list", {"cursor": "1"})).json["result"]
        assert ([tool["name"] for tool in seen["tools"]], seen["nextCursor"]) == (["get_order"], "2")
        denied(sent(ground, call("delete_order", {})), 200, "policy-denied")


NOT_ASKED = {
    "a fraction": b'"id":1.0,"result":{%s}',
    "null": b'"id":null,"result":{%s}',
    "true": b'"id":true,"result":{%s}',
    "none": b'"result":{%s}',
    "another": b'"id":2,"result":{%s}',
    "a list": b'"id":[1],"result":{%s}',
    "a number with a blank": b'"id":"1 ","result":{%s}',
    "an error beside it": b'"id":1,"error":{"code":1,"message":"x"},"result":{%s}',
    "an error of another": b'"id":2,"error":{"code":1,"message":"x","data":{%s}}',
}


@pytest.mark.attack("MCP-43")
@pytest.mark.parametrize("members", NOT_ASKED.values(), ids=NOT_ASKED)
@pytest.mark.parametrize("form", [b"{%s}", b'[{"jsonrpc":"2.0","id":1,"result":{}},{%s}]'], ids=["alone", "in a list"])
def test_a_list_with_an_id_that_was_not_asked_is_withheld(ground, members, form) -> None:
    tools = b'"tools":[{"name":"delete_order","inputSchema":{"type":"object"}}]'
    with ground.api.answering(saying(response(form % (b'"jsonrpc":"2.0",' + members % tools)))):
        reply = sent(ground, message("tools/list", {}))
    denied(reply, 502, "server-failed")
    assert reply.json["id"] == 1
    assert b"delete_order" not in reply.body


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b'{"jsonrpc":"2.0","id":"1","result":{"tools":[]}}'),
        ("200 OK", b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}'),
        ("400 Bad", b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}'),
        ("403 No", b'{"error":"insufficient_scope"}'),
    ],
)
def test_an_error_that_could_not_know_the_id_arrives_and_so_does_an_id_as_clients_compare_it(
    ground, status, body
) -> None:
    with ground.api.answering(saying(response(body, status=status))):
        reply = sent(ground, message("tools/list", {}))
    assert reply.status == int(status[:3])
    assert reply.json == json.loads(body)


@pytest.mark.attack("MCP-47")
@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", ""])
def test_an_answer_of_another_type_is_withheld(ground, kind) -> None:
    with ground.watch(refusals=1, arrive=1), ground.api.answering(saying(response(b"<h1>hello</h1>", kind=kind))):
        denied(sent(ground, message()), 502, "server-failed")
