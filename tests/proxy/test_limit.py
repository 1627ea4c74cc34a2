"""One caller's requests in flight are limited; what has ended does not count."""

import gc
from dataclasses import replace
from datetime import timedelta

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.identity.caller import Caller
from coatcheck.policy.model import Policy
from coatcheck.proxy.limit import Limit

POLICY = Policy(audience="urn:test", sha256="", files=(), max_in_flight=2, hold=timedelta(seconds=1))


@pytest.fixture
def limit(exchanges) -> Limit:
    return Limit(exchanges)


@pytest.fixture
def asked(exchanges, limit):
    """Starts a request of a caller; returns its flow."""

    def ask(name: str | None = "job", *, policy: Policy = POLICY) -> http.HTTPFlow:
        flow = tflow.tflow()
        exchange = Exchange(ExchangeId("x"), policy, 0.0)
        if name is not None:
            exchange.caller = Caller(name, "ci", "sub", "id", None)
        exchanges[flow] = exchange
        limit.requestheaders(flow)
        return flow

    return ask


def test_as_many_pass_as_the_policy_says_and_no_more(asked) -> None:
    flows = [asked(), asked()]
    with pytest.raises(Refusal) as caught:
        asked()
    refusal = caught.value
    assert (refusal.reason, refusal.status, refusal.code, refusal.retryable) == ("too-many-requests", 429, 4290, True)
    assert "job has 2 requests in flight" in refusal.message
    assert len(flows) == 2


@pytest.mark.parametrize("end", ["response", "error"])
def test_what_has_ended_makes_room(asked, limit, end) -> None:
    flows = [asked(), asked()]
    getattr(limit, end)(flows[0])
    flows.append(asked())  # kept: what nobody holds is not in flight
    with pytest.raises(Refusal):
        asked()
    assert len(flows) == 3


def test_what_ends_twice_makes_room_once(asked, limit) -> None:
    first, second = asked(), asked()
    limit.response(first)
    limit.error(first)
    third = asked()
    with pytest.raises(Refusal):
        asked()
    assert [second, third]


def test_a_refused_request_does_not_count(asked, limit) -> None:
    first, second = asked(), asked()
    for _ in range(3):
        with pytest.raises(Refusal):
            asked()
    limit.response(first)
    assert asked()
    assert second


def test_a_request_that_was_forgotten_does_not_count(asked) -> None:
    flows = [asked(), asked()]
    del flows
    gc.collect()
    assert asked()


def test_each_caller_has_its_own(asked) -> None:
    flows = [asked("job"), asked("job"), asked("other"), asked("other")]
    with pytest.raises(Refusal):
        asked("other")
    assert len(flows) == 4


def test_the_limit_is_that_of_the_policy_the_request_is_under(asked) -> None:
    flows = [asked(), asked(), asked(policy=replace(POLICY, max_in_flight=3))]
    with pytest.raises(Refusal):
        asked(policy=replace(POLICY, max_in_flight=3))
    assert len(flows) == 3


def test_what_has_no_caller_or_is_answered_already_is_left_alone(asked, exchanges, limit) -> None:
    flows = [asked(None), asked(None), asked(None)]
    limit.response(flows[0])
    unknown = tflow.tflow()
    limit.requestheaders(unknown)
    limit.response(unknown)
    answered = tflow.tflow(resp=True)
    exchanges[answered] = exchanges[flows[0]]
    exchanges[answered].caller = Caller("job", "ci", "sub", "id", None)
    limit.requestheaders(answered)
    assert [asked(), asked()]


def test_a_caller_that_changed_while_it_was_held_still_makes_room(asked, exchanges, limit) -> None:
    """After a change of the policy the same token may stand for another identity."""
    first, second = asked("job"), asked("job")
    exchanges[first].caller = Caller("renamed", "ci", "sub", "id", None)
    limit.response(first)
    assert asked("job")
    assert second
