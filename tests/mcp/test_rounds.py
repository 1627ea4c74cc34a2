"""Tests of mcp/rounds.py: what was asked by an answer is answered by who was asked."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Call
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.inspect import Inspected
from coatcheck.mcp.rounds import MAX_INPUTS, MAX_STATES, Rounds
from coatcheck.mcp.strict_json import dump_json

MINE = Peers("shop-ci", "https://idp", "repo:1", "shop")
OTHERS = {
    "another identity": MINE._replace(caller="other-ci"),
    "another issuer": MINE._replace(issuer="https://other"),
    "another subject": MINE._replace(subject="repo:2"),
    "another server": MINE._replace(server="warehouse"),
}
REFUND = Call("mcp", "tools/call", "refund", id=1)
ELICIT = {"method": "elicitation/create", "params": {}}
ACCEPT = {"action": "accept"}


def retry(call=REFUND, **params) -> Inspected:
    message = {"jsonrpc": "2.0", "id": 2, "method": call.method, "params": params}
    return Inspected((replace(call, params=params),), dump_json(message), "request", None, (2,), message)


def knows(rounds, peers, state, call=REFUND) -> bool:
    try:
        rounds.take(peers, retry(call, requestState=state), has_states=True)
    except Refusal:
        return False
    return True


def answers(rounds, peers, call=REFUND, key="k", **more) -> int:
    return len(rounds.take(peers, retry(call, inputResponses={key: ACCEPT}, **more), has_states=True).calls) - 1


def test_a_state_is_for_the_caller_and_the_call_it_was_given_for() -> None:
    rounds = Rounds()
    rounds.give(MINE, REFUND, {"requestState": "sealed"})
    assert knows(rounds, MINE, "sealed")
    assert not knows(rounds, MINE, "sealed", Call("mcp", "tools/call", "delete"))
    assert not knows(rounds, MINE, "sealed", Call("mcp", "prompts/get", "refund"))
    assert not knows(rounds, MINE, "sealed2")
    assert not any(knows(rounds, other, "sealed") for other in OTHERS.values())


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_one_was_asked_no_other_answers(other) -> None:
    rounds = Rounds()
    rounds.give(MINE, REFUND, {"inputRequests": {"k": ELICIT}})
    assert answers(rounds, other) == 0
    assert answers(rounds, MINE) == 1


WORDS = st.text(max_size=3)


@given(st.lists(st.tuples(st.none() | WORDS, WORDS, WORDS), min_size=2, max_size=2))
def test_an_answer_leaves_for_the_state_the_thing_and_the_key_it_was_asked_by_alone(two) -> None:
    rounds = Rounds()
    (state, name, key), (other_state, other_name, other_key) = two
    given = {} if state is None else {"requestState": state}
    for about in {name, other_name}:  # the other call's state is known too, so that keys alone decide
        rounds.give(MINE, replace(REFUND, name=about), {"requestState": other_state or ""})
    rounds.give(MINE, replace(REFUND, name=name), {"inputRequests": {key: ELICIT}, **given})
    more = {} if other_state is None else {"requestState": other_state}
    got = answers(rounds, MINE, replace(REFUND, name=other_name), other_key, **more)
    assert got == (two[0] == two[1])


def test_memory_is_bounded() -> None:
    rounds = Rounds()
    for number in range(MAX_STATES + 1):
        rounds.give(MINE, REFUND, {"requestState": str(number)})
    assert not knows(rounds, MINE, "0")
    assert knows(rounds, MINE, "1")
    rounds.give(MINE, REFUND, {"inputRequests": {str(n): ELICIT for n in range(MAX_INPUTS + 1)}})
    assert answers(rounds, MINE, key="0") == 0
    assert answers(rounds, MINE, key="1") == 1


def test_an_array_has_no_such_answers() -> None:
    read = replace(retry(inputResponses={}), kind="batch", value=[])
    with pytest.raises(Refusal, match="response-not-accepted"):
        Rounds().take(MINE, read, has_states=False)
