import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.mcp.call import Json
from coatcheck.sessions.body import MAX_BODY
from coatcheck.sessions.diff import MAX_DIFFERENCES, Answer, Opaque, answer, compare, differences, recorded_answer

JSON = [("Content-Type", "application/json")]
SSE = [("content-type", "text/event-stream; charset=utf-8")]


def said(message: Json, answer: Json = None, **fields: object) -> dict[str, object]:
    return {"message": message, "answer": answer, **fields}


def told(message: Json, status: int = 200) -> Answer:
    return answer(status, JSON, json.dumps(message).encode())


def result(value: Mapping[str, Json], request_id: int = 1) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "result": dict(value)}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_an_answer_equals_itself(value: Json):
    assert differences(told(value), told(value)) == ()


@given(values, values)
def test_answers_are_equal_if_and_only_if_their_json_is(one: Json, other: Json):
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (differences(told(result({"x": one})), told(result({"x": other}))) == ()) is is_same
    assert bool(differences(told(one), told(other))) is bool(differences(told(other), told(one)))


@given(values, st.integers(), st.integers(), values)
def test_the_id_and_meta_are_not_compared(value: Json, one: int, other: int, meta: Json):
    was = result({"x": value}, one)
    now = result({"x": value, "_meta": meta}, other)
    assert differences(told(was), told(now)) == ()


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        pytest.param(result({"at": "9:30"}), result({"at": "9:31"}), ('$.result.at: "9:30" is now "9:31"',), id="time"),
        pytest.param({"id": 1}, {"id": 2}, ("$.id: 1 is now 2",), id="an id that is data"),
        pytest.param(result({"t": [1]}), result({"t": [1, 2]}), ("$.result.t: 1 items are now 2",), id="one more"),
        pytest.param(result({"a": 1}), result({}), ("$.result.a: gone, was 1",), id="gone"),
        pytest.param(result({}), result({"a": 1}), ("$.result.a: new, 1",), id="new"),
        pytest.param(result({"a": 1}), result({"a": True}), ("$.result.a: 1 is now true",), id="a number and a truth"),
        pytest.param(result({"a": 1}), result({"a": 1.0}), (), id="one number in two spellings"),
        pytest.param(result({"nextCursor": "x"}), result({"nextCursor": "y"}), (), id="another cursor"),
        pytest.param(
            result({"nextCursor": "x"}), result({}), ('$.result.nextCursor: gone, was "(opaque)"',), id="no cursor"
        ),
    ],
)  # fmt: skip
def test_a_difference_says_where_and_what(was: Json, now: Json, found: tuple[str, ...]):
    assert differences(told(was), told(now)) == found


def test_the_status_is_compared():
    assert differences(told(result({})), told(result({}), 500)) == ("status: 200 is now 500",)


def test_differences_are_bounded():
    was, now = ({"x": list(range(start, start + 10_000))} for start in (0, 1))
    found = differences(told(result(was)), told(result(now)))
    assert len(found) == MAX_DIFFERENCES + 1
    assert max(map(len, differences(told("a" * 10_000), told("b" * 10_000)))) < 200


def stream(*messages: Json) -> bytes:
    return b"".join(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n" for message in messages)


def test_a_stream_is_compared_by_its_final_result():
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    streamed = answer(200, SSE, stream(progress, result({"a": 1}), progress))
    assert differences(told(result({"a": 1})), streamed) == ()
    assert differences(told(result({"a": 2})), streamed) != ()


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        pytest.param(JSON, b"", None, id="empty"),
        pytest.param(SSE, b"", None, id="empty stream"),
        pytest.param(SSE, b": ping\n\n", None, id="comments only"),
        pytest.param(SSE, b"data: \xff\n\n", Opaque, id="a stream that is not UTF-8"),
        pytest.param(SSE, b"data: x", None, id="a stream that broke off"),
        pytest.param(JSON, b"[" * 1000, Opaque, id="deep"),
        pytest.param(JSON, b'{"a":1,"a":2}', Opaque, id="a member twice"),
        pytest.param([], b"\xff\xfe", Opaque, id="binary"),
        pytest.param([], b'"' + b"x" * MAX_BODY + b'"', Opaque, id="too long"),
    ],
)
def test_what_is_no_message_is_known_by_its_digest(headers, body: bytes, message):
    found = answer(200, headers, body)
    assert found.message is None if message is None else isinstance(found.message, message)
    assert differences(found, found) == ()
    assert message is None or differences(found, answer(200, headers, body[:-1])) != ()


@pytest.mark.parametrize(
    ("message", "summary"),
    [
        (result({}), "200 result"),
        (result({"isError": True}), "200 result (tool error)"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 4030, "message": "denied"}}, "200 error 4030 denied"),
        ([result({}), result({})], "200 2 messages"),
        ({"x": 1}, "200 json"),
        (None, "200"),
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_is_summed_up_in_one_line(message: Json, summary: str):
    assert told(message).summary == summary


def test_a_batch_is_compared_by_id_and_not_by_order():
    one, two = result({"a": 1}, 1), result({"b": 2}, 2)
    assert differences(told([one, two]), told([two, one])) == ()
    assert differences(told([one, two]), told([one, one])) != ()


LIST: dict[str, Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def test_two_sessions_are_compared_request_by_request(record):
    call: dict[str, Json] = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "lookup"}}
    a = record(said(LIST, result({"tools": []})), said(LIST, result({"tools": [1]})), said(call, result({})))
    b = record(said(LIST, result({"tools": []})), said(LIST, result({"tools": [2]})))
    assert [(c.title, c.a, c.b, c.differences) for c in compare(a, b)] == [
        ("tools/list", 1, 1, ()),
        ("tools/list", 2, 2, ("$.result.tools[0]: 1 is now 2",)),
        ("tools/call lookup", 3, None, ("only in the first",)),
    ]
    assert [c.differences for c in compare(b, a)][2] == ("only in the second",)
    assert all(c.differences == () for c in compare(a, a))


def test_another_decision_and_another_question_are_differences(record):
    a = record(said(LIST, result({})))
    b = record(said(LIST | {"params": {"x": 1}}, result({}), decision="approve"))
    (compared,) = compare(a, b)
    assert compared.differences == ("decision: allow is now approve", 'request $.params: new, {"x": 1}')


def test_a_recorded_stream_is_compared_by_its_final_result(record):
    session = record(said(LIST, events=[json.dumps({"method": "x"}), json.dumps(result({"a": 1}))]))
    assert differences(recorded_answer(session.exchange(1)), told(result({"a": 1}, 9))) == ()


def test_no_answer_is_told_apart_from_an_empty_one(record):
    session = record(said(LIST, has_answer=False, outcome="client-left"), said(LIST, None, status=202))
    assert [recorded_answer(e).summary for e in session.exchanges()] == ["no answer", "202"]
