"""Tests of proxy/legacy_sse.py: which server a message is for. What goes over the wire is tried in tests/e2e."""

import pytest

from coatcheck.exchange import Exchange
from coatcheck.http.target import Target
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.legacy_sse import LegacyStream, LegacyStreams
from coatcheck.proxy.legacy_sse import server_of_endpoint

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
