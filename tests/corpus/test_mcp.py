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


# -- bodies --------------------------------------------------------------------------------------------------------

PLAIN = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_order","arguments":{}}}'
BODIES = {
    "a name twice": PLAIN.replace('"name":"get_order"', '"name":"get_order","name":"delete_order"'),
    "a method twice, escaped": PLAIN.replace('"method"', '"method":"ping","m\\u0065thod"'),
    "an argument twice": PLAIN.replace('"arguments":{}', '"arguments":{"a":1,"a":2}'),
    "arguments twins by case": PLAIN.replace('"arguments":{}', '"arguments":{"path":1,"Path":2}'),
    "twins by case": PLAIN.replace('"name":"get_order"', '"name":"get_order","Name":"delete_order"'),
    "twins by a long s": PLAIN.replace('"params":', '"params":{},"param\\u017f":'),
    "twins by a kelvin sign": PLAIN.replace('"arguments":{}', '"arguments":{"token":1,"to\\u212aen":2}'),
    "twins by NUL": PLAIN.replace('"name":"get_order"', '"name":"get_order","name\\u0000":"x"'),
    "null": "null",
    "a number": "1",
    "a string": '"x"',
    "an empty object": "{}",
    "nothing": "",
    "two documents": PLAIN + PLAIN,
    "lines of documents": PLAIN + "\n" + PLAIN,
    "garbage behind": PLAIN + "x",
    "a comma too many": PLAIN.replace('"arguments":{}', '"arguments":{},'),
    "a comment": PLAIN.replace("{", "{/**/", 1),
    "single quotes": PLAIN.replace('"', "'"),
    "half a surrogate": PLAIN.replace('"arguments":{}', '"arguments":{"a":"\\ud800"}'),
    "5,000 digits": PLAIN.replace('"arguments":{}', '"arguments":{"a":%s}' % ("9" * 5000)),
    "depth 65": PLAIN.replace('"arguments":{}', '"arguments":{{"a":{}1{}}}'.format("[" * 65, "]" * 65)),
    "depth 100,000": PLAIN.replace('"arguments":{}', '"arguments":{{"a":{}1{}}}'.format("[" * 100_000, "]" * 100_000)),
    "id null": PLAIN.replace('"id":1', '"id":null'),
    "id 1.5": PLAIN.replace('"id":1', '"id":1.5'),
    "id 1.0": PLAIN.replace('"id":1', '"id":1.0'),
    "id true": PLAIN.replace('"id":1', '"id":true'),
    "id in a list": PLAIN.replace('"id":1', '"id":[1]'),
    "no id": PLAIN.replace('"id":1,', ""),
    "json-rpc 1.0": PLAIN.replace('"2.0"', '"1.0"'),
    "json-rpc as a number": PLAIN.replace('"2.0"', "2.0"),
    "no json-rpc": PLAIN.replace('"jsonrpc":"2.0",', ""),
    "result and method": PLAIN.replace('"id":1', '"id":1,"result":{}'),
    "a result": '{"jsonrpc":"2.0","id":1,"result":{}}',
    "an error": '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}',
}
RAW = {
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-32": PLAIN.encode("utf-32-le"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "no UTF-8": PLAIN.replace("{}", '{"a":"~"}').encode().replace(b"~", b"\xff"),
    "an overlong slash": PLAIN.replace("{}", '{"a":"~"}').encode().replace(b"~", b"\xc0\xaf"),
    "a surrogate in UTF-8": PLAIN.replace("{}", '{"a":"~"}').encode().replace(b"~", b"\xed\xa0\x80"),
}
ALL_BODIES = {name: text.encode() for name, text in BODIES.items()} | RAW


@pytest.mark.attack(
    "MCP-10", "MCP-11", "MCP-13", "MCP-14", "MCP-16", "MCP-17", "MCP-19", "MCP-20", "MCP-22", "MCP-23", "MCP-25",
    "MCP-26", "MCP-28", "MCP-29", "MCP-34",
)  # fmt: skip
@pytest.mark.parametrize("body", ALL_BODIES.values(), ids=ALL_BODIES)
def test_a_body_that_could_be_read_otherwise_is_refused(ground, body) -> None:
    with ground.watch():
        denied(sent(ground, body), 400)


@pytest.mark.attack("MCP-25")
@pytest.mark.parametrize("request_id", [0, 1, "1", ""])
def test_a_number_and_a_string_are_ids_and_come_back_as_they_are(ground, request_id) -> None:
    with ground.watch(refusals=0, arrive=1):
        found = sent(ground, message(id=request_id)).json["id"]
        assert (type(found), found) == (type(request_id), request_id)


TYPES = {
    "jsonx": "application/jsonx",
    "json-rpc": "application/json-rpc",
    "utf-16": "application/json; charset=utf-16",
    "latin1": "application/json; charset=latin1",
    "multipart": "multipart/form-data; boundary=x",
    "text": "text/plain",
}


@pytest.mark.attack("MCP-37")
@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_only_json_in_utf8_is_read(ground, kind) -> None:
    with ground.watch():
        reply = sent(ground, message(), f"Content-Type: {kind}", without=("Content-Type",))
        denied(reply, 415, "unsupported-media-type")


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
}


@pytest.mark.attack("MCP-31", "MCP-32")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_only_looks_like_an_allowed_one_is_denied(ground, name) -> None:
    with ground.watch():
        denied(sent(ground, message(params={"name": name, "arguments": {}})), 200, "policy-denied")


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


@pytest.mark.attack("MCP-47")
@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", ""])
def test_an_answer_of_another_type_is_withheld(ground, kind) -> None:
    with ground.watch(refusals=1, arrive=1), ground.api.answering(saying(response(b"<h1>hello</h1>", kind=kind))):
        denied(sent(ground, message()), 502, "server-failed")
