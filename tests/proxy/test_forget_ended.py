"""What mitmweb keeps is bounded, and nothing that is under way is taken from view."""

import pytest
from mitmproxy.addons.view import View
from mitmproxy.http import HTTPFlow
from mitmproxy.test import tflow

from coatcheck.proxy import forget_ended
from coatcheck.proxy.forget_ended import ForgetEnded


def shown(*bodies: int, live: bool = False) -> list[HTTPFlow]:
    flows = []
    for at, size in enumerate(bodies):
        flow = tflow.tflow(resp=True)
        flow.live = live
        flow.request.timestamp_start = float(at)
        flow.request.content = b""
        flow.response.content = b"a" * size
        flows.append(flow)
    return flows


@pytest.fixture
def view() -> View:
    return View()


@pytest.mark.parametrize("most", [0, 1, 250, 300, 301])
async def test_the_newest_ended_flows_stay(view: View, most: int) -> None:
    flows = shown(*[1] * 300)
    view.add(flows)
    await ForgetEnded(view, most).look()
    assert list(view) == view.resolve("@all") == flows[max(0, 300 - most) :]


async def test_what_is_under_way_stays_and_lives(view: View) -> None:
    open_ones = shown(1, 1, live=True)
    open_ones[0].intercept()
    ended = shown(1, 1)
    view.add([*open_ones, *ended])
    await ForgetEnded(view, 0).look()
    assert view.resolve("@all") == open_ones
    assert all(flow.killable and flow.error is None for flow in open_ones)
    open_ones[0].live = False
    await ForgetEnded(view, 0).look()
    assert view.resolve("@all") == open_ones[1:]


def test_bodies_are_bounded_together_but_the_newest_call_is_shown(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget_ended, "MOST_BYTES", 100)
    flows = shown(10, 60, 40, 60)
    assert ForgetEnded(view, 9).surplus(flows) == flows[:2]
    assert ForgetEnded(view, 9).surplus(shown(10, 60, 40, 40)[1:3]) == []
    last = shown(1, 500)
    assert ForgetEnded(view, 9).surplus(last) == last[:1]
