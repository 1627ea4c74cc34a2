from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coatcheck.mcp.call import Call
from coatcheck.policy.decide import decide
from coatcheck.policy.explain import as_caller
from coatcheck.policy.terms import Terms, terms_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GET = Call("mcp", "tools/call", "get_issue")
SECRET = Call("mcp", "tools/call", "get_secret")


def terms(policy, call, **server):
    of = replace(policy.servers["github"], **server)
    decision = decide(policy, as_caller(policy, "shop-ci"), of, [call], now=NOW)
    return terms_of(policy, of, call, decision)


def test_a_tool_that_may_be_called_is_pinned(draft):
    policy = draft.load()
    assert terms(policy, GET) == Terms(pins="hold")
    assert terms(policy, GET, pin_reviewers=("sre",)) == Terms(pins="hold", pin_reviewers=("sre",))
    assert terms(policy, GET, pins="deny", pin_reviewers=("sre",)) == Terms(pins="deny")


def test_what_is_denied_and_what_is_no_tool_has_no_pin(draft):
    policy = draft.load()
    assert terms(policy, SECRET) == terms(policy, Call("mcp", "tools/list")) == Terms()


@pytest.mark.parametrize("pins", ["warn", "hold", "deny"])
def test_each_mode_of_pins_is_told_in_words(pins):
    (line,) = Terms(pins=pins, pin_reviewers=("sre",) if pins == "hold" else ()).in_words()
    assert line.startswith(f"pins: {pins}: if its definition changes, it is ")
    assert ("called all the same" in line) == (pins == "warn")
    assert line.endswith("sre approve it") == (pins == "hold")
