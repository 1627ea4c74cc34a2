import base64
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Refusal,
)
from coatcheck.mcp.correlation import AskedOfClient
from coatcheck.mcp.inspect import UnsupportedVersion, inspect_post, peek_id, settle_answers
from coatcheck.mcp.mirrored import decode_mirrored
from coatcheck.mcp.strict_json import parse_json

VERSION_META = "io.modelcontextprotocol/protocolVersion"
JSON = {"content-type": "application/json"}


def request(method="tools/call", params=None, **members):
    params = {"name": "greet", "arguments": {"who": "you"}} if params is None else params
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | members


def without(message, *members):
    return {name: value for name, value in message.items() if name not in members}


def post(message, headers=None, **more):
    return inspect_post(json.dumps(message).encode(), {**(JSON if headers is None else headers), **more})


def stateless(method="tools/call", params=None, *, version="2026-07-28", name="greet", **members):
    params = {"name": "greet"} if params is None else params
    message = request(method, {**params, "_meta": {VERSION_META: version}}, **members)
    headers = JSON | {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    return message, headers | ({} if name is None else {"mcp-name": name})


def test_a_tool_call_is_read_into_its_name_arguments_and_params():
    seen = post(request(params={"name": "greet", "arguments": {"a": 1}, "task": {}, "_meta": {"progressToken": 5}}))
    (call,) = seen.calls
    assert (call.kind, call.method, call.name, call.id) == ("mcp", "tools/call", "greet", 1)
    assert call.arguments == {"a": 1}
    assert call.params == {"name": "greet", "arguments": {"a": 1}, "task": {}}
    assert (seen.kind, seen.version, seen.ids) == ("request", None, (1,))


def test_what_is_forwarded_is_what_was_evaluated_written_anew():
    body = b'{ "method":"tools/call", "jsonrpc":"2.0","id":"\\u0061", "params":{"name":"gr\\u0065et"} }'
    seen = inspect_post(body, JSON)
    assert seen.body == b'{"method":"tools/call","jsonrpc":"2.0","id":"a","params":{"name":"greet"}}'


def test_a_progress_token_does_not_change_what_a_call_asks_for():
    plain, tracked = request(), request(id=2)
    tracked["params"] = {**tracked["params"], "_meta": {"progressToken": 9}}
    assert post(plain).calls[0].digest == post(tracked).calls[0].digest


NAMED = {
    "tools/call": ({"name": "greet"}, "greet"),
    "prompts/get": ({"name": "hello", "arguments": {"a": "b"}}, "hello"),
    "resources/read": ({"uri": "file:///x"}, "file:///x"),
    "resources/subscribe": ({"uri": "file:///x"}, "file:///x"),
    "resources/unsubscribe": ({"uri": "file:///x"}, "file:///x"),
    "completion/complete": ({"ref": {"type": "ref/prompt", "name": "hello"}, "argument": {}}, "hello"),
    "tasks/get": ({"taskId": "t1"}, "t1"),
    "tasks/cancel": ({"taskId": "t1"}, "t1"),
    "tools/list": ({"cursor": "c"}, None),
    "initialize": ({"protocolVersion": "2025-06-18"}, None),
    "acme/unheard": ({"name": "x"}, None),
}


@pytest.mark.parametrize("method", NAMED)
def test_a_call_is_named_by_the_parameter_that_names_its_thing(method):
    params, name = NAMED[method]
    assert post(request(method, params)).calls[0].name == name


def test_what_a_client_listens_to_is_a_call_of_each_resource():
    params = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["file:///a", "file:///b"]}}
    calls = post(request("subscriptions/listen", params)).calls
    assert [(call.method, call.name) for call in calls] == [
        ("subscriptions/listen", None),
        ("resources/subscribe", "file:///a"),
        ("resources/subscribe", "file:///b"),
    ]


def test_a_method_that_is_not_of_mcp_may_spell_its_parameters_as_it_likes():
    assert post(request("acme/unheard", {"Name": "x", "Arguments": {}})).calls[0].params["Arguments"] == {}


def test_a_resource_completion_is_named_by_its_uri():
    ref = {"type": "ref/resource", "uri": "file:///{path}"}
    assert post(request("completion/complete", {"ref": ref})).calls[0].name == "file:///{path}"


def test_a_text_that_speaks_of_a_prototype_is_read():
    arguments = {"a": '"__proto__":', "b": "__proto__", "prototype": {"constructor": 1}}
    assert post(request(params={"name": "x", "arguments": arguments})).calls[0].arguments == arguments


def test_a_message_without_params_is_read():
    assert post({"jsonrpc": "2.0", "id": "p", "method": "ping"}).ids == ("p",)


def test_a_notification_has_no_id_and_needs_no_answer():
    seen = post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (seen.kind, seen.ids, seen.calls[0].id) == ("notification", (), None)


@pytest.mark.parametrize("request_id", [0, 1, -5, 2**53 - 1, "", "1", "server-discover-probe-1"])
def test_strings_and_whole_numbers_are_ids(request_id):
    assert post(request(id=request_id)).ids == (request_id,)


REFUSED = {
    "null": (None, "not-a-message"),
    "a number": (1, "not-a-message"),
    "a string": ("x", "not-a-message"),
    "an empty object": ({}, "not-a-message"),
    "a prototype in arguments": (
        request(params={"name": "x", "arguments": {"a": [{"__proto__": 1}]}}),
        "reserved-member",
    ),
    "a prototype in params": (request(params={"name": "x", "__proto__": {}}), "reserved-member"),
    "json-rpc 1.0": (request(jsonrpc="1.0"), "not-a-message"),
    "json-rpc as a number": (request(jsonrpc=2.0), "not-a-message"),
    "no json-rpc": (without(request(), "jsonrpc"), "not-a-message"),
    "an unknown member": (request(Method="ping2"), "twin-member"),
    "arguments in capitals": (request(params={"name": "x", "Arguments": {}}), "twin-member"),
    "a kelvin sign in task": (request(params={"name": "x", "tas\u212a": {}}), "twin-member"),
    "answers in capitals": (request(params={"name": "x", "InputResponses": {}}), "twin-member"),
    "a reference's type in capitals": (
        request("completion/complete", {"ref": {"type": "ref/prompt", "name": "x", "Uri": "y"}}),
        "twin-member",
    ),
    "capabilities in capitals": (request("initialize", {"Capabilities": {}}), "twin-member"),
    "a version of _meta in capitals": (
        request(params={"name": "x", "_meta": {VERSION_META.upper(): "1"}}),
        "twin-member",
    ),
    "tasks to listen to, in capitals": (
        request("subscriptions/listen", {"notifications": {"TaskIDs": ["t"]}}),
        "twin-member",
    ),
    "resources to listen to that are no list": (
        request("subscriptions/listen", {"notifications": {"resourceSubscriptions": "file:///x"}}),
        "bad-params",
    ),
    "a resource to listen to that is no URI": (
        request("subscriptions/listen", {"notifications": {"resourceSubscriptions": [1]}}),
        "bad-params",
    ),
    "another unknown member": (request(session="x"), "not-a-message"),
    "both result and error": ({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}, "response-not-accepted"),
    "a result that is no object": ({"jsonrpc": "2.0", "id": 1, "result": []}, "response-not-accepted"),
    "a response without an id": ({"jsonrpc": "2.0", "result": {}}, "response-not-accepted"),
    "a response with id null": ({"jsonrpc": "2.0", "id": None, "error": {}}, "bad-id"),
    "both result and method": (request(result={}), "response-not-accepted"),
    "no method": (without(request(), "method"), "bad-method"),
    "a method with a line end": (request("tools/call\n"), "bad-method"),
    "a method with look-alikes": (request("t\u043eols/call"), "bad-method"),
    "a long method": (request("m" * 129), "bad-method"),
    "an empty method": (request(""), "bad-method"),
    "a null id": (request(id=None), "bad-id"),
    "a boolean id": (request(id=True), "bad-id"),
    "a fraction as id": (request(id=1.5), "bad-id"),
    "a whole float as id": (request(id=1.0), "bad-id"),
    "a list as id": (request(id=[1]), "bad-id"),
    "an id past 2^53": (request(id=2**53), "bad-id"),
    "a request without id": (without(request(), "id"), "bad-id"),
    "a notification with id": (request("notifications/initialized", {}), "bad-id"),
    "params as a list": (request(params=["greet"]), "bad-params"),
    "params null": ({**request(), "params": None}, "bad-params"),
    "meta as a list": (request(params={"name": "greet", "_meta": []}), "bad-params"),
    "no tool name": (request(params={"arguments": {}}), "bad-params"),
    "an empty tool name": (request(params={"name": ""}), "bad-params"),
    "a long tool name": (request(params={"name": "x" * 257}), "bad-params"),
    "a number as tool name": (request(params={"name": 5}), "bad-params"),
    "arguments as a list": (request(params={"name": "x", "arguments": []}), "bad-params"),
    "arguments null": (request(params={"name": "x", "arguments": None}), "bad-params"),
    "a list as uri": (request("resources/read", {"uri": ["file:///x"]}), "bad-params"),
    "no reference": (request("completion/complete", {}), "bad-params"),
    "an unknown kind of reference": (request("completion/complete", {"ref": {"type": "x", "name": "y"}}), "bad-params"),
    "a list as kind of reference": (request("completion/complete", {"ref": {"type": []}}), "bad-params"),
}


@pytest.mark.parametrize(("message", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_message_that_is_not_exactly_a_request_or_notification_is_refused(message, reason):
    with pytest.raises(Refusal) as refused:
        post(message)
    assert (refused.value.reason, refused.value.status, refused.value.code) == (reason, 400, INVALID_REQUEST)


def test_arguments_with_a_member_twice_are_refused():
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","name":"drop"}}'
    with pytest.raises(Refusal, match="duplicate-member"):
        inspect_post(body, JSON)


MEDIA_TYPES = {
    "application/json": True,
    "application/json; charset=utf-8": True,
    "Application/JSON;charset=UTF-8": True,
    'application/json; charset="Utf-8"': True,
    "application/jsonx": False,
    "application/json-rpc": False,
    "application/json; charset=utf-16": False,
    "application/json; charset=latin1": False,
    "application/json; charset=utf-8; charset=utf-16": False,
    "application/json, application/json": False,
    "multipart/form-data": False,
    "text/plain": False,
    "": False,
}


@pytest.mark.parametrize(("media_type", "accepted"), MEDIA_TYPES.items())
def test_only_json_in_utf8_is_read(media_type, accepted):
    if accepted:
        assert post(request(), {"content-type": media_type}).ids == (1,)
        return
    with pytest.raises(Refusal, match="unsupported-media-type") as refused:
        post(request(), {"content-type": media_type})
    assert refused.value.status == 415


@pytest.mark.parametrize("headers", [{}, JSON | {"content-encoding": "gzip"}], ids=["no type", "compressed"])
def test_a_body_of_unknown_form_is_refused(headers):
    with pytest.raises(Refusal) as refused:
        inspect_post(json.dumps(request()).encode(), headers)
    assert refused.value.status == 415


BATCH = JSON | {"mcp-protocol-version": "2025-03-26"}


def test_a_batch_is_read_into_all_its_calls():
    messages = [request(), request("tools/list", {}, id=2), {"jsonrpc": "2.0", "method": "notifications/initialized"}]
    seen = post(messages, BATCH)
    assert [call.method for call in seen.calls] == ["tools/call", "tools/list", "notifications/initialized"]
    assert (seen.kind, seen.ids, seen.version) == ("batch", (1, 2), "2025-03-26")
    assert parse_json(seen.body) == messages


@pytest.mark.parametrize("version", [None, "2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28"])
def test_arrays_are_refused_under_every_version_but_one(version):
    with pytest.raises(Refusal, match="batch-not-accepted"):
        post([request()], JSON if version is None else JSON | {"mcp-protocol-version": version})


@pytest.mark.parametrize(
    ("claimed", "negotiated", "is_taken"),
    [
        (None, {"2025-03-26"}, True),  # its clients send no header, which came with 2025-06-18
        (None, {"2025-11-25"}, False),
        ("2025-06-18", {"2025-03-26"}, False),
        ("2026-07-28", {"2025-03-26"}, False),
    ],
)
def test_without_a_header_the_handshake_decides_about_arrays(claimed, negotiated, is_taken):
    headers = JSON if claimed is None else JSON | {"mcp-protocol-version": claimed}
    body = json.dumps([request()]).encode()
    if is_taken:
        assert inspect_post(body, headers, negotiated=negotiated).kind == "batch"
    else:
        with pytest.raises(Refusal, match="batch-not-accepted"):
            inspect_post(body, headers, negotiated=negotiated)


BAD_BATCHES = {
    "empty": ([], "batch-not-accepted"),
    "too long": ([request(id=number) for number in range(51)], "batch-not-accepted"),
    "with initialize": ([request("initialize", {})], "batch-not-accepted"),
    "with an id twice": ([request(), request()], "bad-id"),
    "with an id twice to clients": ([request(), request(id="1")], "bad-id"),
    "with half a response": ([request(), {"jsonrpc": "2.0", "id": 3, "result": 1}], "response-not-accepted"),
    "with what only servers send": ([request("roots/list", {})], "unknown-method"),
    "with a batch in it": ([[request()]], "not-a-message"),
}


@pytest.mark.parametrize(("messages", "reason"), BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_one_bad_element_refuses_the_whole_batch(messages, reason):
    with pytest.raises(Refusal, match=reason):
        post(messages, BATCH)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_older_version_is_known(version):
    assert post(request(), JSON | {"mcp-protocol-version": version}).version == version


@pytest.mark.parametrize("version", ["2026-07-29", "2025-06-18 ", "", "draft", "x" * 5000])
def test_an_unknown_version_is_refused_with_its_own_code(version):
    with pytest.raises(Refusal, match="unsupported-version") as refused:
        post(request(), JSON | {"mcp-protocol-version": version})
    assert (refused.value.status, refused.value.code) == (400, UNSUPPORTED_VERSION)
    assert "xxxx" not in str(refused.value)


AGREEING = {
    "a tool call": stateless(),
    "a name in base64": stateless(params={"name": "größe"}, name="=?base64?Z3LDtsOfZQ==?="),
    "a name in base64 that needs none": stateless(name="=?base64?Z3JlZXQ=?="),
    "a resource": stateless("resources/read", {"uri": "file:///x"}, name="file:///x"),
    "a prompt": stateless("prompts/get", {"name": "hello"}, name="hello"),
    "a list, which names nothing": stateless("tools/list", {}, name=None),
    "a task, named": stateless("tasks/get", {"taskId": "t"}, name="t"),
    "a task, not named": stateless("tasks/get", {"taskId": "t"}, name=None),
}


@pytest.mark.parametrize(("message", "headers"), AGREEING.values(), ids=AGREEING)
def test_headers_that_mirror_the_body_are_accepted(message, headers):
    assert post(message, headers).version == "2026-07-28"


def test_a_stateless_notification_needs_no_mirrors():
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    headers = JSON | {"mcp-protocol-version": "2026-07-28"}
    assert post(message, headers).kind == "notification"
    with pytest.raises(Refusal, match="header-mismatch"):
        post(message, headers | {"mcp-method": "tools/call"})


def without_header(pair, name):
    return pair[0], without(pair[1], name)


MISMATCHED = {
    "another name": stateless(name="drop"),
    "another case": stateless(name="GREET"),
    "no name": stateless(name=None),
    "an upper-case sentinel": stateless(name="=?BASE64?Z3JlZXQ=?="),
    "broken base64": stateless(name="=?base64?Z3JlZXQ?="),
    "base64 with stray bits": stateless(params={"name": "ab"}, name="=?base64?YWJ=?="),
    "base64 of bad utf-8": stateless(name="=?base64?/w==?="),
    "a sentinel in a sentinel": stateless(name="=?base64?" + base64.b64encode(b"=?base64?Z3JlZXQ=?=").decode() + "?="),
    "raw letters beyond ascii": stateless(params={"name": "größe"}, name="größe"),
    "a literal sentinel not encoded": stateless(params={"name": "=?base64?x?="}, name="=?base64?x?="),
    "a name where nothing is named": stateless("tools/list", {}, name="greet"),
    "another method": (stateless()[0], stateless()[1] | {"mcp-method": "tools/list"}),
    "no method": without_header(stateless(), "mcp-method"),
    "an older version in the header": (stateless()[0], stateless()[1] | {"mcp-protocol-version": "2025-11-25"}),
    "an older version in the header, no mirrors": (stateless()[0], JSON | {"mcp-protocol-version": "2025-11-25"}),
    "no version in the header": without_header(stateless(), "mcp-protocol-version"),
    "an older version in the body": stateless(version="2025-11-25"),
    "a null version in the body": stateless(version=None),
    "another method without a version": (request(), JSON | {"mcp-method": "tools/list"}),
    "another name without a version": (request(), JSON | {"mcp-name": "drop"}),
    "another name under an older version": (
        request(),
        JSON | {"mcp-protocol-version": "2025-11-25", "mcp-method": "tools/call", "mcp-name": "drop"},
    ),
    "a name where nothing is named under an older version": (
        request("tools/list", {}),
        JSON | {"mcp-protocol-version": "2025-11-25", "mcp-name": "greet"},
    ),
}


@pytest.mark.parametrize(("message", "headers"), MISMATCHED.values(), ids=MISMATCHED)
def test_headers_that_do_not_agree_with_the_body_are_refused(message, headers):
    with pytest.raises(Refusal) as refused:
        post(message, headers)
    assert (refused.value.reason, refused.value.status, refused.value.code) == ("header-mismatch", 400, HEADER_MISMATCH)


def test_a_stateless_request_must_carry_its_version_in_the_body():
    _, headers = stateless()
    with pytest.raises(Refusal, match="missing-version") as refused:
        post(request(), headers)
    assert refused.value.code == INVALID_PARAMS


@settings(max_examples=100)
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_name_survives_its_encoded_header(name):
    assert decode_mirrored(f"=?base64?{base64.b64encode(name.encode()).decode()}?=") == name


PEEKED = {
    "a number": (b'{"id":7,"method":"x","junk":1}', 7),
    "a string": (b'{"id":"a"}', "a"),
    "a response": (b'{"jsonrpc":"2.0","id":7,"result":{}}', None),
    "a boolean": (b'{"id":true}', None),
    "an id twice": (b'{"id":1,"id":2}', None),
    "an array": (b'[{"id":1}]', None),
    "not json": (b"id: 1", None),
    "no id": (b"{}", None),
}


@pytest.mark.parametrize(("body", "found"), PEEKED.values(), ids=PEEKED)
def test_the_id_of_a_refused_body_is_found_where_it_is_certain(body, found):
    peeked = peek_id(body)
    assert peeked == found
    assert type(peeked) is type(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0"]),
        "id": json_values,
        "method": st.sampled_from(["tools/call", "resources/read", "completion/complete", "notifications/x", ""]),
        "params": st.dictionaries(st.sampled_from(["name", "uri", "ref", "arguments", "_meta"]), json_values),
        "result": json_values,
    },
)


@settings(max_examples=100)
@given(parts | st.lists(parts, max_size=3), st.dictionaries(st.sampled_from(["mcp-method", "mcp-name"]), st.text()))
def test_any_json_is_read_or_refused_and_reads_the_same_once_forwarded(message, headers):
    with contextlib.suppress(Refusal):
        seen = post(message, BATCH | headers)
        assert inspect_post(seen.body, BATCH | headers) == seen


OLDER = JSON | {"mcp-protocol-version": "2025-11-25"}


@pytest.mark.parametrize("headers", [JSON, OLDER], ids=["no version", "an older one"])
def test_mirrored_headers_that_are_true_are_taken_under_every_version(headers):
    assert post(request(), headers | {"mcp-method": "tools/call", "mcp-name": "greet"}).ids == (1,)


@pytest.mark.parametrize("content", [{"result": {"roots": []}}, {"error": {"code": -1, "message": "no"}}])
def test_a_response_is_an_answer_until_it_is_known_to_what(content):
    seen = post({"jsonrpc": "2.0", "id": 7, **content}, OLDER)
    assert (seen.calls, seen.ids, seen.kind) == ((), (), "notification")
    assert [(answer.id, answer.content) for answer in seen.answers] == [(7, content)]


@pytest.mark.parametrize("header", ["mcp-method", "mcp-name"])
def test_a_response_mirrors_nothing(header):
    with pytest.raises(Refusal, match="response-not-accepted"):
        post({"jsonrpc": "2.0", "id": 7, "result": {}}, OLDER | {header: "roots/list"})


def test_a_response_is_refused_where_the_version_has_none():
    with pytest.raises(Refusal, match="response-not-accepted"):
        post({"jsonrpc": "2.0", "id": 7, "result": {}}, JSON | {"mcp-protocol-version": "2026-07-28"})


def test_an_answer_becomes_a_call_of_what_was_asked():
    seen = post({"jsonrpc": "2.0", "id": 7, "result": {"roots": []}}, OLDER)
    settled = settle_answers(seen, {7: AskedOfClient("roots/list")}.get)
    (call,) = settled.calls
    assert (call.method, dict(call.params), call.id) == ("roots/list", {"result": {"roots": []}}, None)
    assert settled.body == seen.body


def test_an_answer_to_what_nobody_asked_is_refused():
    with pytest.raises(Refusal, match="response-not-accepted"):
        settle_answers(post({"jsonrpc": "2.0", "id": 7, "result": {}}, OLDER), {"7": AskedOfClient("ping")}.get)


def test_an_answer_to_a_ping_in_place_of_a_denied_request_tells_the_server_so():
    seen = post({"jsonrpc": "2.0", "id": 7, "result": {"secret": "x"}}, OLDER)
    settled = settle_answers(seen, {7: AskedOfClient("sampling/createMessage", is_denied=True)}.get)
    sent = json.loads(settled.body)
    assert (sent["id"], sent["error"]["code"], sent["error"]["data"]["reason"]) == (7, 4030, "policy-denied")
    assert b"secret" not in settled.body
    assert [call.method for call in settled.calls] == ["ping"]


def test_answers_in_a_batch_are_settled_beside_its_requests():
    seen = post([request(), {"jsonrpc": "2.0", "id": 7, "result": {}}], BATCH)
    settled = settle_answers(seen, {7: AskedOfClient("roots/list", is_denied=True)}.get)
    assert [call.method for call in settled.calls] == ["tools/call", "ping"]
    assert ["method" in one for one in json.loads(settled.body)] == [True, False]
    assert settled.ids == (1,)


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list"])
def test_what_only_servers_send_is_no_method_for_a_client(method):
    with pytest.raises(Refusal, match="unknown-method") as refused:
        post(request(method, {}), OLDER)
    assert (refused.value.status, refused.value.code) == (404, METHOD_NOT_FOUND)


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/list"])
def test_what_a_version_removed_is_no_method_under_it(method):
    message, headers = stateless(method, {}, name=None)
    with pytest.raises(Refusal, match="unknown-method") as refused:
        post(message, headers)
    assert (refused.value.status, refused.value.code) == (404, METHOD_NOT_FOUND)
    params = {"uri": "file:///x"} if method == "resources/subscribe" else {}
    assert post(request(method, params), OLDER).ids == (1,)


def test_capabilities_that_the_server_may_not_use_are_taken_out():
    declared = {"sampling": {}, "elicitation": {"form": {}}, "experimental": {}}
    body = json.dumps(request("initialize", {"capabilities": declared, "protocolVersion": "2025-11-25"})).encode()
    seen = inspect_post(body, JSON, may_ask=lambda method: method == "elicitation/create")
    kept = {"elicitation": {"form": {}}, "experimental": {}}
    assert json.loads(seen.body)["params"]["capabilities"] == kept
    assert seen.calls[0].params["capabilities"] == kept


def test_the_versions_named_are_the_servers_where_they_are_known():
    with pytest.raises(UnsupportedVersion) as refused:
        inspect_post(b"{}", JSON | {"mcp-protocol-version": "2099-01-01"}, supported=("2026-07-28",))
    assert refused.value.data()["supported"] == ["2026-07-28"]
