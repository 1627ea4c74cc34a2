from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coatcheck.policy import rate as rate_module
from coatcheck.policy.model import Rate, RuleId
from coatcheck.policy.rate import Claimed, RateLimits

TWO = Rate(2, timedelta(seconds=10))


def claim(caller="shop-ci", server="github", rule="r", rate=TWO):
    return Claimed(caller, server, RuleId(rule), rate)


def test_as_much_as_the_limit_says_passes_and_flows_back_in_its_time():
    limits = RateLimits()
    assert limits.take(dict.fromkeys([claim()], 1), now=0) is None
    assert limits.take(dict.fromkeys([claim()], 1), now=0) is None
    assert limits.take(dict.fromkeys([claim()], 1), now=0) == (claim(), 5.0)
    assert limits.take(dict.fromkeys([claim()], 1), now=4.9)[1] == pytest.approx(0.1)
    assert limits.take(dict.fromkeys([claim()], 1), now=5) is None
    assert limits.take(dict.fromkeys([claim()], 1), now=5) is not None
    assert limits.take(dict.fromkeys([claim()], 2), now=1_000) is None


@pytest.mark.parametrize("other", [claim(caller="etl"), claim(server="api"), claim(rule="s")])
def test_callers_servers_and_rules_are_counted_apart(other):
    limits = RateLimits()
    assert limits.take(dict.fromkeys([claim()], 2), now=0) is None
    assert limits.take(dict.fromkeys([claim()], 1), now=0) is not None
    assert limits.take(dict.fromkeys([other], 2), now=0) is None


def test_a_request_takes_from_all_its_limits_or_from_none():
    limits = RateLimits()
    wide = claim(rule="wide", rate=Rate(3, timedelta(seconds=10)))
    assert limits.take(dict.fromkeys([claim()], 2), now=0) is None
    assert limits.take(dict.fromkeys([claim(), wide], 1), now=0)[0] == claim()
    assert limits.take(dict.fromkeys([wide], 3), now=0) is None


def test_more_than_the_limit_at_once_never_fits():
    assert RateLimits().take(dict.fromkeys([claim()], 3), now=0) == (claim(), float("inf"))


def test_a_request_under_no_limit_passes():
    assert RateLimits().take({}, now=0) is None


STEPS = st.lists(st.tuples(st.floats(-1, 30), st.integers(1, 3)), max_size=40)


@given(STEPS, st.integers(1, 5), st.integers(1, 60))
@example([(0.0, 2), (-1.0, 1), (12.0, 1), (30.0, 1)], 1, 42)
def test_within_any_time_no_more_passes_than_the_count_and_what_flows_back(steps, count, seconds):
    limits, rate, now = RateLimits(), Rate(count, timedelta(seconds=seconds)), 0.0
    latest = float("-inf")
    taken = []
    for step, number in steps:
        now += step
        if limits.take(dict.fromkeys([claim(rate=rate)], number), now=now) is None:
            latest = max(latest, now)
            taken.append((latest, number))
    for first, (start, _) in enumerate(taken):
        total = 0
        for at, number in taken[first:]:
            total += number
            assert total <= count + (at - start) * count / seconds + 1e-6


@given(STEPS, st.integers(1, 5))
def test_a_look_says_what_taking_would_say_and_takes_nothing(steps, count):
    looked_at, plain, rate, now = RateLimits(), RateLimits(), Rate(count, timedelta(seconds=10)), 0.0
    for step, number in steps:
        now += step
        said = looked_at.look(dict.fromkeys([claim(rate=rate)], number), now=now)
        assert (
            said
            == looked_at.take(dict.fromkeys([claim(rate=rate)], number), now=now)
            == plain.take(dict.fromkeys([claim(rate=rate)], number), now=now)
        )


def test_buckets_that_are_full_again_are_let_go_and_no_others(monkeypatch):
    monkeypatch.setattr(rate_module, "MAX_BUCKETS", 3)
    limits = RateLimits()
    for caller in ("a", "b", "c"):
        assert limits.take(dict.fromkeys([claim(caller)], 2), now=0) is None
    assert limits.take(dict.fromkeys([claim("d")], 1), now=1) is None
    assert len(limits) == 4
    assert limits.take(dict.fromkeys([claim("a")], 1), now=1) is not None
    assert limits.take(dict.fromkeys([claim("e")], 1), now=100) is None
    assert len(limits) == 1
    assert limits.take(dict.fromkeys([claim("e")], 2), now=100) is not None
