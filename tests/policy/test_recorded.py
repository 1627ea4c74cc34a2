import pytest

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Call
from coatcheck.policy.recorded import recorded
from coatcheck.sessions.body import MAX_BODY
from coatcheck.sessions.read import open_session


def read(path):
    return list(recorded(open_session(path)))


def test_a_request_is_read_back_as_the_calls_that_were_decided(record, asks):
    made = asks("get_issue", {"n": 1}, rules=("ci-reads",))
    (one,) = read(record(made))
    assert one.calls == tuple(made[0])
    assert (one.caller, one.issuer, one.server, one.decision) == ("shop-ci", "github", "github", "allow")
    assert (one.rules, one.has_arguments, one.title) == (("ci-reads",), True, "tools/call get_issue")


def test_plain_http_and_the_transports_own_requests_are_told_apart(record):
    get = ([Call("http", "GET", "/a")], "GET", b"", "allow", ())
    push = ([Call("mcp", "GET")], "GET", b"", "allow", ())
    first, second = read(record(get, push))
    assert first.calls == (Call("http", "GET", "/a", params={"query": "q=1", "path": "/a"}),)
    assert second.calls == (Call("mcp", "GET"),)


def test_arguments_that_were_cut_are_said_to_be_missing(record, asks):
    calls, method, _, decision, rules = asks("get_issue", {"text": "x"})
    cut, broken, whole = read(
        record(
            (calls, method, b'{"a":"' + b"x" * MAX_BODY + b'"}', decision, rules),
            (calls, method, b"not json", decision, rules),
            asks("get_issue", {}),
        )
    )
    assert [one.has_arguments for one in (cut, broken, whole)] == [False, False, True]
    assert [one.calls[0].arguments for one in (cut, broken, whole)] == [{}, {}, {}]


def test_each_call_of_a_batch_has_its_own_arguments(record):
    body = b'[{"id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1}}},{"id":2,"method":"ping"}]'
    calls = [Call("mcp", "tools/call", "a", id=1), Call("mcp", "ping", id=2)]
    (one,) = read(record((calls, "POST", body, "deny", ())))
    assert [call.arguments for call in one.calls] == [{"n": 1}, {}]
    assert one.title == "tools/call a, ping"


def test_a_request_that_nothing_was_made_of_is_passed_over_and_an_unknown_decision_is_refused(record, asks):
    assert read(record(([], "POST", b"", "deny", ()))) == []
    with pytest.raises(CoatcheckError, match="not a decision: 'maybe'"):
        read(record(asks("a", {}, "maybe")))
