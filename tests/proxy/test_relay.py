"""Tests of proxy/relay.py: what a server says on its own, and whose conversation it is."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange
from coatcheck.mcp.tasks import TaskOrigin
from coatcheck.proxy.relay import Relay

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = """
servers:
  shop: {url: "https://shop.example/mcp"}
rules:
  - {id: tools, who: [any], server: shop, tools: ["*"], effect: allow}
  - {id: reads, who: [any], server: shop, resources: ["file:///srv/*"], effect: allow}
  - {id: asks, who: [job], server: shop, methods: [elicitation/create], effect: allow}
  - {id: no-folders, who: [job], server: shop, methods: [roots/list], effect: deny, message: Folders stay here.}
"""
OLDER = {"mcp-protocol-version": "2025-11-25"}
NEWER = {"mcp-protocol-version": "2026-07-28"}
ELICIT = {"jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": {"message": "Sure?"}}
SAMPLE = {"jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage", "params": {"messages": []}}


class Talk:
    """One relay, and requests through it."""

    def __init__(self, policy, make) -> None:
        self.policy, self._make = policy, make
        self.relay = Relay(lambda: NOW)

    def exchange(self, headers=None, **who) -> Exchange:
        made = self._make(self.policy, now=NOW, **who)
        made.headers = {"content-type": "application/json", **(OLDER if headers is None else headers)}
        return made

    def post(self, message, headers=None, **who) -> Exchange:
        """A POST that was read."""
        made = self.exchange(headers, **who)
        self.relay.enter(made, http.Headers(), "POST")
        made.inspected = self.relay.read_post(made, json.dumps(message).encode())
        return made

    def call(self, headers=None, request_id=1, method="tools/call", **who) -> Exchange:
        params = {"name": "refund"} if method == "tools/call" else {}
        return self.post({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}, headers, **who)

    def session(self, session_id="s-1", **who) -> dict[str, str]:
        """The headers of a session that was begun."""
        begun = self.call({}, method="initialize", **who)
        self.relay.answered(begun, "POST", answer({"mcp-session-id": session_id}), is_stream=False)
        return OLDER | {"mcp-session-id": session_id}

    def get(self, headers, **who) -> Exchange:
        made = self.exchange(headers, **who)
        self.relay.enter(made, http.Headers(), "GET")
        return made


def answer(headers=None, status=200) -> http.Response:
    return http.Response.make(status, b"", {"content-type": "application/json", **(headers or {})})


@pytest.fixture
def talk(load_shop, shop_exchange) -> Talk:
    return Talk(load_shop(POLICY), shop_exchange)


def reason(function, *arguments, **more) -> tuple[str, int]:
    with pytest.raises(Refusal) as refused:
        function(*arguments, **more)
    return refused.value.reason, refused.value.status


# -- sessions and events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [
        pytest.param({"caller": "other", "subject": "repo:2"}, id="another identity"),
        pytest.param({"subject": "repo:2"}, id="another subject of the same identity"),
    ],
)
def test_a_session_of_another_caller_does_not_exist(talk, who) -> None:
    headers = talk.session()
    assert reason(talk.call, headers, **who) == ("unknown-session", 404)
    assert reason(talk.get, headers, **who) == ("unknown-session", 404)
    assert talk.call(headers).conversation is not None


def test_a_session_nobody_was_given_does_not_exist(talk) -> None:
    assert reason(talk.call, OLDER | {"mcp-session-id": "guessed"}) == ("unknown-session", 404)


@pytest.mark.parametrize(("method", "status"), [("DELETE", 200), ("DELETE", 204), ("POST", 404)])
def test_a_session_ends_with_its_deletion_or_when_the_server_does_not_know_it(talk, method, status) -> None:
    headers = talk.session()
    talk.relay.answered(talk.get(headers), method, answer(status=status), is_stream=False)
    assert reason(talk.call, headers) == ("unknown-session", 404)


def test_a_deletion_that_the_server_refused_ends_nothing(talk) -> None:
    headers = talk.session()
    talk.relay.answered(talk.get(headers), "DELETE", answer(status=405), is_stream=False)
    assert talk.call(headers).conversation is not None


def test_a_session_id_given_to_two_callers_is_the_servers_fault(talk) -> None:
    talk.session()
    assert reason(talk.session, caller="other", subject="repo:2") == ("server-failed", 502)


@pytest.mark.parametrize("session_id", ["", "a b", "ä", "x" * 513])
def test_a_session_id_that_is_none_is_the_servers_fault(talk, session_id) -> None:
    assert reason(talk.session, session_id) == ("server-failed", 502)


def test_a_version_without_sessions_neither_sends_nor_gets_one(talk) -> None:
    made = talk.exchange(NEWER | {"mcp-session-id": "s-1"})
    sent = http.Headers(mcp_session_id="s-1", last_event_id="7")
    talk.relay.enter(made, sent, "POST")
    got = answer({"mcp-session-id": "s-2"})
    talk.relay.answered(made, "POST", got, is_stream=False)
    assert "mcp-session-id" not in sent
    assert "last-event-id" not in sent
    assert "mcp-session-id" not in got.headers


def test_only_an_event_that_was_relayed_in_the_session_can_be_resumed_after(talk) -> None:
    headers, others = talk.session(), talk.session("s-2")
    made = talk.get(headers)
    made.conversation.relay_event("ev-7")
    assert talk.get(headers | {"last-event-id": "ev-7"}).conversation is made.conversation
    assert reason(talk.get, headers | {"last-event-id": "ev-8"}) == ("unknown-event", 404)
    assert reason(talk.get, others | {"last-event-id": "ev-7"}) == ("unknown-event", 404)


# -- what a server asks --------------------------------------------------------------------------------------------


def test_what_a_rule_allows_is_asked_and_its_answer_taken_once(talk) -> None:
    headers = talk.session()
    assert talk.relay.streamed(talk.call(headers), ELICIT) is ELICIT
    reply = {"jsonrpc": "2.0", "id": 0, "result": {"action": "accept"}}
    (call,) = talk.post(reply, headers).calls
    assert (call.method, call.params["result"]) == ("elicitation/create", {"action": "accept"})
    assert reason(talk.post, reply, headers) == ("response-not-accepted", 400)


def test_what_no_rule_allows_pings_the_client_and_tells_the_server(talk) -> None:
    headers = talk.session()
    assert talk.relay.streamed(talk.call(headers), SAMPLE) == {"jsonrpc": "2.0", "id": 0, "method": "ping"}
    made = talk.post({"jsonrpc": "2.0", "id": 0, "result": {}}, headers)
    assert json.loads(made.inspected.body)["error"]["data"]["reason"] == "policy-denied"


def test_a_clients_answer_in_place_of_a_denied_request_names_what_was_denied(talk) -> None:
    headers = talk.session()
    talk.relay.streamed(talk.call(headers), SAMPLE)
    talk.relay.streamed(talk.call(headers), SAMPLE | {"id": 1, "method": "ann@shop.example"})
    for request_id, name in ((0, "sampling/createMessage"), (1, None)):
        (call,) = talk.post({"jsonrpc": "2.0", "id": request_id, "result": {}}, headers).calls
        assert (call.method, call.name) == ("ping", name)


def test_a_denied_request_is_told_by_its_method_where_that_is_one_of_mcp(talk) -> None:
    told: list[str] = []
    talk.relay.on_denied = lambda _exchange, _refusal, method: told.append(method)
    talk.relay.streamed(talk.call(), SAMPLE)
    talk.relay.streamed(talk.call(), SAMPLE | {"id": 1, "method": "ann@shop.example"})
    talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required({"method": "roots/list"}))
    talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required({"method": 5}))
    assert told == ["sampling/createMessage", "unknown", "roots/list", "unknown"]


def test_a_rule_for_one_caller_lets_the_server_ask_no_other(talk) -> None:
    headers = talk.session("s-2", caller="other", subject="repo:2")
    passed = talk.relay.streamed(talk.call(headers, caller="other", subject="repo:2"), ELICIT)
    assert passed["method"] == "ping"


@pytest.mark.parametrize(
    ("answer_id", "headers"),
    [
        pytest.param("0", "s-1", id="another type of id"),
        pytest.param(1, "s-1", id="another id"),
        pytest.param(0, "s-2", id="another session"),
        pytest.param(0, None, id="no session"),
    ],
)
def test_an_answer_counts_in_the_session_and_with_the_id_it_was_asked_in(talk, answer_id, headers) -> None:
    sessions = {"s-1": talk.session(), "s-2": talk.session("s-2"), None: OLDER}
    talk.relay.streamed(talk.call(sessions["s-1"]), ELICIT)
    reply = {"jsonrpc": "2.0", "id": answer_id, "result": {}}
    assert reason(talk.post, reply, sessions[headers]) == ("response-not-accepted", 400)
    assert talk.post(reply | {"id": 0}, sessions["s-1"]).calls


def test_another_caller_cannot_answer(talk) -> None:
    talk.relay.streamed(talk.call(), ELICIT)
    reply = {"jsonrpc": "2.0", "id": 0, "result": {}}
    assert reason(talk.post, reply, caller="other", subject="repo:2") == ("response-not-accepted", 400)
    assert talk.post(reply).calls


DROPPED = {
    "an id twice": ELICIT,
    "an id that is none": ELICIT | {"id": None},
    "a fraction as id": ELICIT | {"id": 1.5},
    "an unknown member": ELICIT | {"id": 5, "extra": 1},
    "request and result": ELICIT | {"id": 5, "result": {}},
    "a method that is no string": ELICIT | {"id": 5, "method": 1},
    "result and error": {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
    "an answer to what nobody asked": {"jsonrpc": "2.0", "id": 99, "result": {"tools": []}},
    "a string": "x",
}


@pytest.mark.parametrize("message", DROPPED.values(), ids=DROPPED)
def test_what_is_no_plain_message_of_this_conversation_is_dropped(talk, message) -> None:
    made = talk.call()
    assert talk.relay.streamed(made, ELICIT) is ELICIT
    assert talk.relay.streamed(made, message) is None


def test_what_only_clients_send_is_not_asked_of_one(talk) -> None:
    assert talk.relay.streamed(talk.call(), ELICIT | {"method": "tools/call"})["method"] == "ping"


def test_a_ping_of_the_server_is_passed_on(talk) -> None:
    ping = {"jsonrpc": "2.0", "id": "p", "method": "ping"}
    assert talk.relay.streamed(talk.call(), ping) is ping
    assert [call.method for call in talk.post({"jsonrpc": "2.0", "id": "p", "result": {}}).calls] == ["ping"]


def test_a_server_asks_nothing_on_a_stream_of_a_version_without_that(talk) -> None:
    made = talk.exchange(NEWER)
    talk.relay.enter(made, http.Headers(), "POST")
    assert talk.relay.streamed(made, ELICIT) is None


@pytest.mark.parametrize("message_id", [1, "1"])
def test_notifications_and_the_answer_are_passed_on(talk, message_id) -> None:
    made = talk.call()
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
        {"jsonrpc": "2.0", "id": message_id, "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "x"}},
        {},
    ):
        assert talk.relay.streamed(made, message) is message


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "Result": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {"Tools": []}},
        {"jsonrpc": "2.0", "id": 1, "result": {"InputRequests": {}}},
        {"jsonrpc": "2.0", "Method": "sampling/createMessage", "id": 5},
    ],
)
def test_an_answer_with_a_member_that_some_client_takes_for_another_does_not_pass(talk, message) -> None:
    made = talk.call(method="tools/list")
    assert reason(talk.relay.streamed, made, message) == ("server-failed", 502)
    assert not talk.relay.is_answer(made, message, 200)
    assert talk.relay.is_answer(made, {"Error": "an answer of something in between"}, 403)


def test_what_answers_the_call_of_a_list_is_a_response_or_an_error_of_http(talk) -> None:
    bare = {"tools": [{"name": "hidden"}]}
    assert not talk.relay.is_answer(talk.call(method="tools/list"), bare, 200)
    assert talk.relay.is_answer(talk.call(method="tools/list"), bare, 403)
    assert talk.relay.is_answer(talk.call(), bare, 200)


def test_a_notification_tells_of_no_resource_that_the_caller_cannot_read(talk) -> None:
    made = talk.call()

    def told(uri: str) -> object:
        message = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
        return talk.relay.streamed(made, message)

    assert told("file:///etc/passwd") is None
    assert told("file:///srv/a") is not None


def test_only_what_can_be_named_by_a_rule_makes_a_task(talk) -> None:
    made = talk.call(method="tools/list")
    talk.relay.read_answer(made, "tools/list", {"jsonrpc": "2.0", "id": 1, "result": {"task": {"taskId": "t-9"}}})
    asked = {"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": {"taskId": "t-9"}}
    assert reason(talk.post, asked) == ("unknown-task", 200)


def test_an_answer_comes_on_another_stream_of_the_same_session(talk) -> None:
    headers, others = talk.session(), talk.session("s-2")
    listing = talk.call(headers, method="tools/list", request_id=5)
    talk.relay.answered(listing, "POST", answer({"content-type": "text/event-stream"}), is_stream=True)
    message = {"jsonrpc": "2.0", "id": 5, "result": {"tools": []}}
    resumed = talk.get(headers)
    assert talk.relay.streamed(resumed, message) is message
    assert talk.relay.method_of(resumed, message) == "tools/list"
    assert talk.relay.streamed(talk.get(others), message) is None


def test_a_batch_keeps_what_may_pass(talk) -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
    assert talk.relay.streamed(talk.call(), [progress, {"jsonrpc": "2.0", "id": 9, "result": {}}]) == [progress]
    assert talk.relay.streamed(talk.call(), [{"jsonrpc": "2.0", "id": 9, "result": {}}]) is None


# -- multi-round-trip ----------------------------------------------------------------------------------------------


def modern(method="tools/call", **params) -> tuple[dict, dict]:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "refund", "_meta": meta, **params}}
    return message, NEWER | {"mcp-method": method, "mcp-name": message["params"]["name"]}


def input_required(*asks, state=None) -> dict:
    result = {"resultType": "input_required", "inputRequests": {str(n): ask for n, ask in enumerate(asks)}}
    return {"jsonrpc": "2.0", "id": 1, "result": result | ({} if state is None else {"requestState": state})}


def test_input_that_a_rule_allows_is_asked_for(talk) -> None:
    made = talk.post(*modern())
    message = input_required({"method": "elicitation/create", "params": {}})
    assert talk.relay.read_answer(made, "tools/call", message) is message


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param([{"method": "sampling/createMessage", "params": {}}], id="another"),
        pytest.param([{"method": "elicitation/create"}, {"method": "roots/list"}], id="one of two"),
        pytest.param([{"method": 1}], id="no method"),
        pytest.param(["x"], id="no request"),
    ],
)
def test_input_that_no_rule_allows_is_a_denial_with_the_same_id(talk, asks) -> None:
    told = talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required(*asks, state="sealed"))
    assert (told["id"], told["error"]["code"], told["error"]["data"]["reason"]) == (1, 4030, "policy-denied")
    assert "sealed" not in json.dumps(told)


def test_such_a_denial_names_what_was_asked_and_the_rule_with_its_words(talk) -> None:
    """But no method that MCP does not have: that is a server's own text."""
    asks = ("roots/list", "sampling/createMessage", "ann@shop.example")
    answers = [input_required({"method": method}) for method in asks]
    ruled, unruled, unknown = (talk.relay.read_answer(talk.post(*modern()), "tools/call", one) for one in answers)
    assert ruled["error"]["data"]["rule"] == "no-folders"
    assert ruled["error"]["message"] == "the server asked for roots/list: Folders stay here."
    assert unruled["error"]["data"]["rule"] is None
    assert "sampling/createMessage" in unruled["error"]["message"]
    assert "ann@" not in json.dumps(unknown)


def test_input_that_is_asked_for_in_another_form_is_not_passed_on(talk) -> None:
    made = talk.post(*modern())
    result = {"resultType": "input_required", "inputRequests": [{"method": "elicitation/create", "params": {}}]}
    seen = talk.relay.read_answer(made, "tools/call", {"jsonrpc": "2.0", "id": 1, "result": result})
    assert seen["error"]["code"] == 4030


def test_a_state_comes_back_from_the_caller_and_for_the_call_it_was_given_for(talk) -> None:
    talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required(state="sealed"))
    assert talk.post(*modern(requestState="sealed")).calls
    for made in (modern(requestState="other"), modern(requestState="sealed", name="delete")):
        assert reason(talk.post, *made) == ("unknown-state", 400)
    assert reason(talk.post, *modern(requestState="sealed"), caller="other", subject="repo:2") == ("unknown-state", 400)


ACCEPT, DECLINE = {"action": "accept", "content": {"ok": True}}, {"action": "decline"}
CREATED = {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}


@pytest.mark.parametrize("state", [None, "sealed"])
def test_an_answer_that_came_with_a_retry_is_a_call_of_what_was_asked(talk, state) -> None:
    asked = input_required({"method": "elicitation/create", "params": {}}, state=state)
    talk.relay.read_answer(talk.post(*modern()), "tools/call", asked)
    more = {} if state is None else {"requestState": state}
    retried = talk.post(*modern(inputResponses={"0": ACCEPT}, **more))
    assert [call.method for call in retried.calls] == ["tools/call", "elicitation/create"]
    assert retried.calls[1].params == {"result": ACCEPT}
    assert [one.id for one in retried.calls] == [1, None]
    again = talk.post(*modern(inputResponses={"0": DECLINE}, **more))  # its answer was lost
    assert len(again.calls) == 2


def test_an_answer_that_nobody_asked_for_does_not_leave(talk) -> None:
    def left(made) -> object:
        return json.loads(made.inspected.body)["params"]["inputResponses"]

    ask = {"method": "elicitation/create", "params": {}}
    assert left(talk.post(*modern(inputResponses={"0": ACCEPT}))) == {}
    talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required(ask, state="sealed"))
    both = {"0": ACCEPT, "extra": ACCEPT}
    made = talk.post(*modern(inputResponses=both, requestState="sealed"))
    assert left(made) == {"0": ACCEPT}
    assert (made.calls[0].params["inputResponses"], len(made.calls)) == ({"0": ACCEPT}, 2)
    assert made.inspected.value == json.loads(made.inspected.body)
    assert left(talk.post(*modern(inputResponses=both))) == {}  # asked with a state, and it did not come back
    assert left(talk.post(*modern(inputResponses=both, name="delete"))) == {}
    assert left(talk.post(*modern(inputResponses=both), caller="other", subject="repo:2")) == {}


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(CREATED, id="sampling for elicitation"),
        pytest.param({"roots": []}, id="roots for elicitation"),
        pytest.param(ACCEPT | {"model": "m"}, id="both"),
        pytest.param({}, id="neither"),
        pytest.param("accept", id="no object"),
        pytest.param(None, id="null"),
    ],
)
def test_an_answer_of_another_kind_than_was_asked_for_is_refused(talk, response) -> None:
    ask = {"method": "elicitation/create", "params": {}}
    talk.relay.read_answer(talk.post(*modern()), "tools/call", input_required(ask))
    assert reason(talk.post, *modern(inputResponses={"0": response})) == ("response-not-accepted", 400)
    assert len(talk.post(*modern(inputResponses={"0": ACCEPT})).calls) == 2


@pytest.mark.parametrize("responses", [None, [], "x"])
def test_answers_that_are_no_object_are_refused(talk, responses) -> None:
    assert reason(talk.post, *modern(inputResponses=responses)) == ("response-not-accepted", 400)


@pytest.mark.parametrize("told", ["tasks/get", "notification"])
def test_an_answer_to_what_a_task_asked_is_a_call_too(talk, told) -> None:
    begin_task(talk, "2026-07-28")
    asks = {"a": {"method": "elicitation/create", "params": {}}}
    state = {"taskId": "t-1", "status": "input_required", "inputRequests": asks}
    if told == "notification":
        talk.relay.streamed(talk.post(*modern()), {"jsonrpc": "2.0", "method": "notifications/tasks", "params": state})
    else:
        answered = {"jsonrpc": "2.0", "id": 1, "result": state}
        talk.relay.read_answer(talk.post(*about("2026-07-28", "tasks/get")), "tasks/get", answered)
    message, headers = about("2026-07-28", "tasks/update")
    message["params"]["inputResponses"] = {"a": ACCEPT, "b": ACCEPT}
    made = talk.post(message, headers)
    assert [call.method for call in made.calls] == ["tasks/update", "elicitation/create"]
    assert json.loads(made.inspected.body)["params"]["inputResponses"] == {"a": ACCEPT}


# -- tasks ---------------------------------------------------------------------------------------------------------


def older(method, **params) -> tuple[dict, dict]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, OLDER


def newer(method, task_id) -> tuple[dict, dict]:
    message, headers = modern(method, taskId=task_id)
    del message["params"]["name"]
    return message, headers | {"mcp-name": task_id}


TASKS = {
    "2025-11-25": (older("tools/call", name="refund", task={}), {"task": {"taskId": "t-1", "status": "working"}}),
    "2026-07-28": (modern(), {"resultType": "task", "taskId": "t-1", "status": "working"}),
}
OTHER = {"caller": "other", "subject": "repo:2"}


def begin_task(talk, version) -> Exchange:
    made, result = TASKS[version]
    begun = talk.post(*made)
    message = {"jsonrpc": "2.0", "id": 1, "result": result}
    assert talk.relay.read_answer(begun, "tools/call", message) == message
    return begun


def about(version, method, task_id="t-1") -> tuple[dict, dict]:
    return newer(method, task_id) if version == "2026-07-28" else older(method, taskId=task_id)


@pytest.mark.parametrize("version", TASKS)
def test_a_task_belongs_to_who_called_its_tool_and_tells_which_call_made_it(talk, version) -> None:
    begun = begin_task(talk, version)
    asked = talk.post(*about(version, "tasks/get"))
    assert asked.made_task == TaskOrigin(begun.id, "tools/call", "refund")
    for method in ("tasks/get", "tasks/cancel"):
        assert reason(talk.post, *about(version, method), **OTHER) == ("unknown-task", 200)
        assert reason(talk.post, *about(version, method, "t-2")) == ("unknown-task", 200)


def test_a_task_that_a_resumed_stream_told_of_belongs_to_the_call_of_that_stream(talk) -> None:
    headers = talk.session()
    call = talk.call(headers)
    talk.relay.answered(call, "POST", answer(), is_stream=True)
    call.conversation.relay_event("ev-1", call.opened)
    talk.relay.answered(talk.call(headers, method="tools/list"), "POST", answer(), is_stream=True)
    resumed = talk.get(headers | {"last-event-id": "ev-1"})
    message = {"jsonrpc": "2.0", "id": 1, "result": {"task": {"taskId": "t-1"}}}
    assert talk.relay.streamed(resumed, message) is message
    talk.relay.read_answer(resumed, talk.relay.method_of(resumed, message), message)
    asked = talk.post({"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": {"taskId": "t-1"}}, headers)
    assert (asked.made_task.method, asked.made_task.name) == ("tools/call", "refund")


def test_a_list_on_a_resumed_stream_is_a_list_whatever_was_asked_with_its_id_since(talk) -> None:
    """Its answer, read as that of the later call, would show what the caller may not see."""
    headers = talk.session()
    listing = talk.call(headers, method="tools/list")
    talk.relay.answered(listing, "POST", answer(), is_stream=True)
    listing.conversation.relay_event("ev-1", listing.opened)
    talk.relay.answered(talk.call(headers), "POST", answer(), is_stream=True)
    message = {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}
    assert talk.relay.method_of(talk.get(headers | {"last-event-id": "ev-1"}), message) == "tools/list"
    assert talk.relay.streamed(talk.get(headers), message) is None


def test_the_answer_of_a_tool_that_is_not_allowed_any_more_is_denied_and_its_task_can_be_cancelled(talk) -> None:
    begin_task(talk, "2025-11-25")
    talk.policy = replace(talk.policy, rules=tuple(rule for rule in talk.policy.rules if rule.id != "tools"))
    for method in ("tasks/get", "tasks/result"):
        assert reason(talk.post, *about("2025-11-25", method)) == ("policy-denied", 200)
    assert talk.post(*about("2025-11-25", "tasks/cancel")).calls


def test_a_list_of_tasks_holds_the_callers_own(talk) -> None:
    begin_task(talk, "2025-11-25")
    listed = {"jsonrpc": "2.0", "id": 1, "result": {"tasks": [{"taskId": "t-1"}, {"taskId": "t-2"}], "nextCursor": "c"}}
    for who, kept in (({}, [{"taskId": "t-1"}]), (OTHER, [])):
        asked = talk.post(*older("tasks/list"), **who)
        shown = talk.relay.read_answer(asked, "tasks/list", listed)
        assert shown["result"] == {"tasks": kept, "nextCursor": "c"}


def test_a_task_of_another_caller_is_not_told_of_and_nothing_is_asked_in_its_name(talk) -> None:
    begin_task(talk, "2025-11-25")
    told = {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": "t-1", "status": "working"}}
    related = {"io.modelcontextprotocol/related-task": {"taskId": "t-1"}}
    ask = ELICIT | {"params": {"message": "?", "_meta": related}}
    mine, theirs = talk.call(), talk.call(**OTHER)
    assert talk.relay.streamed(mine, told) is told
    assert talk.relay.streamed(mine, ask) is ask
    assert talk.relay.streamed(theirs, told) is None
    assert talk.relay.streamed(theirs, ask)["method"] == "ping"


@pytest.mark.parametrize(("method", "passes"), [("elicitation/create", True), ("sampling/createMessage", False)])
def test_input_that_a_task_wants_is_decided_wherever_it_is_told(talk, method, passes) -> None:
    begin_task(talk, "2026-07-28")
    state = {"taskId": "t-1", "status": "input_required", "inputRequests": {"a": {"method": method, "params": {}}}}
    got = talk.relay.read_answer(
        talk.post(*about("2026-07-28", "tasks/get")), "tasks/get", {"jsonrpc": "2.0", "id": 1, "result": state}
    )
    assert ("result" in got) is passes
    told = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": state}
    assert (talk.relay.streamed(talk.post(*modern()), told) is told) is passes


def test_the_versions_a_server_names_are_named_for_it(talk) -> None:
    discovered = {"jsonrpc": "2.0", "id": 1, "result": {"supportedVersions": ["2026-07-28", "2099-01-01", 5]}}
    talk.relay.read_answer(talk.post(*modern()), "server/discover", discovered)
    with pytest.raises(Refusal) as refused:
        talk.post({}, {"mcp-protocol-version": "2099-01-01"})
    assert refused.value.data()["supported"] == ["2026-07-28"]


@pytest.mark.parametrize(("observes", "passes"), [(True, True), (False, False)], ids=["observed", "enforced"])
def test_what_no_rule_lets_a_server_ask_is_asked_all_the_same_and_told(talk, observes, passes) -> None:
    told: list[str] = []
    talk.relay.on_denied = lambda _exchange, refusal, method: told.append(f"{refusal.reason} {method}")
    stream = talk.get(talk.session())
    stream.observes = observes
    message = talk.relay.streamed(stream, SAMPLE | {"id": 7})
    assert (message["method"] == "sampling/createMessage") is passes
    assert told == ["policy-denied sampling/createMessage"]
    assert talk.relay.streamed(stream, ELICIT | {"id": 8})["method"] == "elicitation/create"
    assert told == ["policy-denied sampling/createMessage"]


@pytest.mark.parametrize(("observes", "kept"), [(True, True), (False, False)], ids=["observed", "enforced"])
def test_a_client_keeps_what_it_can_be_asked(talk, observes, kept) -> None:
    begin = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}},
        "clientInfo": {"name": "c", "version": "1"},
    }
    made = talk.exchange({})
    made.observes = observes
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}).encode()
    assert (b"sampling" in talk.relay.read_post(made, body).body) is kept
