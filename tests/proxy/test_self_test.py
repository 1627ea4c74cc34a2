"""The self-test passes with the gate as it is, and fails with any of its laws broken."""

from collections.abc import Iterator

import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer
from mitmproxy.proxy.layers.http._base import HttpEvent

from coatcheck.errors import CoatcheckError
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.proxy.self_test import self_test
from coatcheck.proxy.wire import WireGate
from coatcheck.vault.scrub import ScrubberCache

_plain_event_to_child = HttpLayer.event_to_child
_plain_get_connection = HttpLayer.get_connection


def claims(exchanges, gate: WireGate | None, options) -> str:
    """What the self-test says with this gate; nothing where it holds."""
    if gate is not None:
        gate.install()
    try:
        self_test(exchanges, options)
    except CoatcheckError as error:
        (problem,) = error.problems
        assert problem.where == "self-test"
        assert "pinned version" in (problem.hint or "")
        return problem.what
    return ""


class SeesNothing:
    """A scrubber, and a cache of it, that takes nothing out."""

    def get(self, _credentials: object) -> "SeesNothing":
        return self

    def whole(self, data: bytes, _found: object) -> bytes:
        return data

    def stream(self, _found: object) -> "SeesNothing":
        return self

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class NoScrub(WireGate):
    """Lets answers in as they come."""

    def __init__(self, exchanges: Exchanges, _scrubbers: object) -> None:
        super().__init__(exchanges, SeesNothing())


class NoSwap(WireGate):
    """Sends placeholders."""

    def _depart(self, flow: HTTPFlow, event: HttpEvent) -> HttpEvent | None:
        exchange = self._exchanges.get(flow)
        if exchange is not None:
            exchange.swap = None
        return super()._depart(flow, event)


class SwapInTheFlow(WireGate):
    """Puts the secret into the flow's own request."""

    def _depart(self, flow: HTTPFlow, event: HttpEvent) -> HttpEvent | None:
        departed = super()._depart(flow, event)
        if departed is not None:
            flow.request.headers = departed.request.headers
        return departed


class NoCheck(WireGate):
    """Lets every request pass, released or not."""

    def _get_connection(self, layer: HttpLayer, event: GetHttpConnection, *, reuse: bool) -> Iterator[commands.Command]:
        return _plain_get_connection(layer, event, reuse=reuse)

    def _outbound(self, layer: HttpLayer, child: Layer, event: events.Event) -> Iterator[commands.Command]:
        return _plain_event_to_child(layer, child, event)


class NoDigest(WireGate):
    """Asks for a release, and not for what it was given."""

    def released(self, flow: HTTPFlow) -> Exchange | None:
        exchange = self._exchanges.get(flow)
        return exchange if exchange is not None and exchange.release is not None else None


@pytest.fixture
def options(wire):
    return wire().layer.context.options


def test_the_gate_as_it_is_holds(exchanges, options) -> None:
    assert claims(exchanges, WireGate(exchanges, ScrubberCache()), options) == ""


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        pytest.param(NoScrub, "an echoed secret must not reach the client", id="no scrub"),
        pytest.param(NoSwap, "a released request must leave with its secret", id="no swap"),
        pytest.param(SwapInTheFlow, "a secret must never stand in a flow", id="the secret in the flow"),
        pytest.param(NoCheck, "a request without a release must not leave", id="no check"),
        pytest.param(NoDigest, "release", id="no digest"),
    ],
)
def test_a_gate_that_breaks_a_law_does_not_start(exchanges, options, broken, claim) -> None:
    said = claims(exchanges, broken(exchanges, ScrubberCache()), options)
    assert said.startswith("the wire gate does not hold: ")
    assert claim in said


def test_without_any_gate_it_does_not_start(exchanges, options, monkeypatch) -> None:
    monkeypatch.setattr(HttpLayer, "event_to_child", _plain_event_to_child)
    monkeypatch.setattr(HttpLayer, "get_connection", _plain_get_connection)
    said = claims(exchanges, None, options)
    assert "a request without a release must not leave" in said
    assert "an echoed secret must not reach the client" in said


def test_it_leaves_nothing_behind(exchanges, options, gate) -> None:
    import gc

    self_test(exchanges, options)
    gc.collect()
    assert not exchanges


def test_what_it_says_holds_no_canary(exchanges, options, monkeypatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _size: "c0ffee" * 5)
    said = claims(exchanges, NoScrub(exchanges, ScrubberCache()), options)
    assert said
    assert "c0ffee" not in said
