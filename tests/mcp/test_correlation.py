"""Tests of mcp/correlation.py: what belongs to one caller does not exist for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.mcp.correlation import (
    MAX_ASKED,
    MAX_EVENTS,
    MAX_OPEN,
    MAX_SESSIONS,
    AskedOfClient,
    Conversation,
    Correlation,
    Opened,
    Peers,
)

MINE = Peers("shop-ci", "https://idp", "repo:1", "shop")
SAMPLING = AskedOfClient("sampling/createMessage")

OTHERS = {
    "another identity": MINE._replace(caller="other-ci"),
    "another issuer": MINE._replace(issuer="https://other"),
    "another subject": MINE._replace(subject="repo:2"),
    "another server": MINE._replace(server="warehouse"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_session_is_there_for_its_caller_on_its_server_alone(other) -> None:
    known = Correlation()
    mine = known.begin(MINE, "s-1")
    assert known.find(other, "s-1") is None
    known.end(other, "s-1")
    assert known.find(MINE, "s-1") is mine


def test_a_session_that_was_never_given_does_not_exist() -> None:
    assert Correlation().find(MINE, "s-1") is None


def test_a_session_that_ended_does_not_exist() -> None:
    known = Correlation()
    known.begin(MINE, "s-1")
    known.end(MINE, "s-1")
    known.end(MINE, "s-1")
    assert known.find(MINE, "s-1") is None


def test_a_session_id_given_to_two_callers_is_the_firsts() -> None:
    known = Correlation()
    mine = known.begin(MINE, "s-1")
    assert known.begin(OTHERS["another identity"], "s-1") is None
    assert known.begin(MINE, "s-1") is mine
    assert known.begin(OTHERS["another server"], "s-1") not in (None, mine)


def test_the_oldest_session_of_the_same_caller_makes_room_and_no_others() -> None:
    known = Correlation()
    theirs = known.begin(OTHERS["another identity"], "theirs")
    for number in range(MAX_SESSIONS + 1):
        known.begin(MINE, f"s-{number}")
    assert known.find(MINE, "s-0") is None
    assert known.find(MINE, "s-1") is not None
    assert known.find(OTHERS["another identity"], "theirs") is theirs


def test_a_session_in_use_is_not_the_oldest() -> None:
    known = Correlation()
    for number in range(MAX_SESSIONS):
        known.begin(MINE, f"s-{number}")
    known.find(MINE, "s-0")
    known.begin(MINE, "new")
    assert known.find(MINE, "s-0") is not None
    assert known.find(MINE, "s-1") is None


def test_without_session_ids_a_caller_has_one_conversation_of_its_own() -> None:
    known = Correlation()
    assert known.find(MINE, None) is known.find(MINE, None)
    assert known.find(MINE, None) is not known.find(OTHERS["another identity"], None)


def test_what_was_asked_is_answered_once() -> None:
    said = Conversation()
    assert said.ask(1, SAMPLING)
    assert not said.ask(1, AskedOfClient("roots/list"))
    assert said.take_answer("1") is None
    assert said.take_answer(1) == SAMPLING
    assert said.take_answer(1) is None


def test_events_are_known_by_their_exact_id() -> None:
    said = Conversation()
    said.relay_event("7")
    assert said.resume("7") == ()
    assert {said.resume(one) for one in ("", "07", "7 ", "8")} == {None}


def opened(request_id, method, name=None) -> Opened:
    return Opened(request_id, method, name, "x-1")


def test_a_resumed_stream_answers_what_its_event_answered() -> None:
    said = Conversation()
    said.relay_event("7", (opened(1, "tools/list"),))
    said.relay_event("8", (opened(1, "tools/call", "refund"),))
    assert [said.resume(one)[0].method for one in ("7", "8")] == ["tools/list", "tools/call"]


def test_an_id_of_two_kinds_of_request_tells_nothing() -> None:
    said = Conversation()
    said.open_request(opened(1, "tools/list"))
    said.open_request(opened("1", "tools/list"))
    assert said.open["1"].method == "tools/list"
    for again in (opened(1, "tools/call", "refund"), opened(1, "tools/list")):
        said.open_request(again)
        assert said.open["1"] is None


@given(st.lists(st.tuples(st.sampled_from(["ask", "open", "event"]), st.integers(0, 600)), max_size=900))
def test_memory_is_bounded_whatever_is_said(steps) -> None:
    said = Conversation()
    for what, number in steps:
        match what:
            case "ask":
                said.ask(number, SAMPLING)
            case "open":
                said.open_request(opened(number, "tools/call"))
            case _:
                said.relay_event(str(number))
    assert len(said.asked) <= MAX_ASKED
    assert len(said.open) <= MAX_OPEN
    assert len(said.events) <= MAX_EVENTS
