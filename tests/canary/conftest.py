"""Two echoing servers and the real gateway before them, with mitmweb."""

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import pytest
from driver import Driver
from forms import Watch
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.test import taddons
from stage import Stage

from coatcheck.exchange import Exchanges
from coatcheck.proxy import read_answer
from coatcheck.proxy.read_body import ReadBody
from coatcheck.proxy.wire import WireGate
from coatcheck.vault.scrub import ScrubberCache

PATCHED = (
    (HttpLayer, "event_to_child"),
    (HttpLayer, "get_connection"),
    (Http1Client, "read_headers"),
    (Http1Client, "read_body"),
    (Http1Server, "read_body"),
    (Http1Server, "wait"),
)
"""What the gate and the readers put their own in the place of."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything running: issuer, servers, mitmweb as the gateway. What it leaves behind is searched at its end."""
    with Stage(tmp_path_factory.mktemp("canary")) as stage:
        yield stage
        stage.gateway.stop()
        watch = Watch(*stage.values.values())
        assert {where: found for where, data in stage.kept() if (found := watch.sightings(data))} == {}


@pytest.fixture(scope="module")
def options() -> Iterator[Options]:
    with taddons.context(Proxyserver()) as context:
        yield context.options


@pytest.fixture(scope="module")
def exchanges() -> Iterator[Exchanges]:
    """The exchanges of a gate that stands in mitmproxy's layers while these tests run, with the readers before it."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in PATCHED:
            patch.setattr(owner, name, getattr(owner, name))
        made: Exchanges = WeakKeyDictionary()
        ReadBody(lambda refusal: None).install()
        read_answer.install()
        WireGate(made, ScrubberCache()).install()
        yield made


@pytest.fixture
def driver(exchanges: Exchanges, options: Options) -> Callable[..., Driver]:
    """Makes a client of an MCP server, or of a plain HTTP API, whose secret is `value`."""

    def make(value: bytes, *, is_mcp: bool = True) -> Driver:
        return Driver(exchanges, options, value, is_mcp=is_mcp)

    return make
