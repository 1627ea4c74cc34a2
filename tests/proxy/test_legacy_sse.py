"""Tests of proxy/legacy_sse.py: which server a message is for. What goes over the wire is tried in tests/e2e."""

import asyncio

import pytest
from mitmproxy.proxy.server import ConnectionIO

from coatcheck.exchange import Exchange
from coatcheck.http.target import Target
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.legacy_sse import LegacyStream, LegacyStreams
from coatcheck.mcp.sse import Event
from coatcheck.proxy.legacy_sse import MOST_WAITING, LegacySse, server_of_endpoint
from coatcheck.proxy.maskers import Maskers

POLICY = """
servers:
  old: {url: "https://shop.example/sse", legacy_sse: true}
  older: {url: "https://shop.example/older", legacy_sse: true}
  new: {url: "https://shop.example/mcp"}
  api: {url: "https://shop.example/api"}
  other: {url: "https://other.example/mcp"}
rules:
  - {id: old, who: [job], server: old, tools: ["*"], effect: allow}
  - {id: older, who: [job], server: older, tools: ["*"], effect: allow}
  - {id: new, who: [job], server: new, tools: ["*"], effect: allow}
  - {id: api, who: [job], server: api, http: ["POST /api/**"], effect: allow}
  - {id: other, who: [job], server: other, tools: ["*"], effect: allow}
"""
ORIGIN = Target("https", "shop.example", 443)


@pytest.fixture(scope="module")
def policy(load_shop):
    return load_shop(POLICY)


def streams(**endpoints: str) -> LegacyStreams[Exchange]:
    """Streams of these servers with these endpoints."""
    made = LegacyStreams[Exchange]()
    for server, endpoint in endpoints.items():
        made.begin(LegacyStream(Peers("job", "ci", "repo:1", server), endpoint, lambda _: None))
    return made


@pytest.mark.parametrize(
    ("target", "path", "server"),
    [
        pytest.param(ORIGIN, "/m?sid=1", "older", id="a known endpoint"),
        pytest.param(ORIGIN, "/m?sid=2", "old", id="one that is gone"),
        pytest.param(ORIGIN, "/sse?sid=3", "old", id="an endpoint at the server's own path"),
        pytest.param(ORIGIN, "/sse", None, id="the server's own path"),
        pytest.param(ORIGIN, "/older/m", "older", id="below the server's path"),
        pytest.param(ORIGIN, "/mcp", None, id="another server's path"),
        pytest.param(ORIGIN, "/api/x", None, id="an API's path"),
        pytest.param(ORIGIN, "/a/../m?sid=1", None, id="dot segments"),
        pytest.param(ORIGIN, "/a//b", None, id="an empty segment"),
        pytest.param(Target("http", "shop.example", 443), "/m?sid=1", None, id="another scheme"),
        pytest.param(Target("https", "other.example", 443), "/m?sid=1", None, id="an origin without such a server"),
        pytest.param(Target("https", "shop.example", 443, via="older"), "/m?sid=1", "older", id="its gateway URL"),
        pytest.param(Target("https", "shop.example", 443, via="old"), "/m?sid=1", "old", id="another's gateway URL"),
        pytest.param(Target("https", "shop.example", 443, via="new"), "/m?sid=1", None, id="that of no such server"),
    ],
)
def test_a_message_is_for_the_server_that_named_its_endpoint(policy, target, path, server) -> None:
    known = streams(older="/m?sid=1", old="/sse?sid=3")
    found = server_of_endpoint(policy, known, target, path)
    assert (found.name if found is not None else None) == server


def test_an_endpoint_that_has_become_another_servers_path_is_an_endpoint_no_more(policy) -> None:
    known = streams(old="/api/m")
    assert server_of_endpoint(policy, known, ORIGIN, "/api/m") is None


class Unread(asyncio.WriteTransport):
    """A socket whose other side has left so many bytes untaken."""

    def __init__(self, left: int) -> None:
        self.left = left

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return True


@pytest.mark.parametrize(("left", "is_cut"), [(MOST_WAITING, False), (MOST_WAITING + 1, True)])
async def test_a_stream_that_its_client_does_not_read_ends_before_more_is_put_on_it(
    exchanges, flow, exchange_of, left, is_cut
) -> None:
    told: list[object] = []

    class Handler:
        def __init__(self) -> None:
            protocol = asyncio.streams.FlowControlMixin(asyncio.get_running_loop())
            writer = asyncio.StreamWriter(Unread(left), protocol, None, asyncio.get_running_loop())
            self.transports = {flow.client_conn: ConnectionIO(writer=writer)}

        async def server_event(self, event: object) -> None:
            told.append(event)

    handler, cut = Handler(), []
    stage = LegacySse(exchanges, streams(), Maskers(bytes(32)), lambda _client: handler, cut.append)
    stage._sender(flow, exchange_of(flow))([Event(data="denied")])
    await asyncio.sleep(0)
    assert (cut == [flow.client_conn], told == []) == (is_cut, is_cut)
