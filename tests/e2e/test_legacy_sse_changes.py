"""HTTP+SSE of 2024-11-05 while nothing is enforced (`--observe`), and while the policy changes under an open stream."""

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import MCPError
from test_legacy_sse import EMAIL, Human, Scene, begin, raw_stream

from coatcheck.journal.read import records

pytestmark = pytest.mark.e2e


@pytest.fixture
def observing(tmp_path: Path) -> Iterator[Scene]:
    yield from begin(tmp_path, options=("--observe",))


@pytest.fixture
def enforcing(tmp_path: Path) -> Iterator[Scene]:
    yield from begin(tmp_path)


def texts(result: types.CallToolResult) -> str:
    return "".join(one.text for one in result.content if isinstance(one, types.TextContent))


@pytest.mark.parametrize("way", ["proxy", "reverse"])
async def test_where_nothing_is_enforced_everything_works_and_is_journaled(observing: Scene, way: str) -> None:
    human = Human()
    async with observing.client(way, "narrow", elicitation_callback=human.elicit) as client:
        assert "delete_order" in {tool.name for tool in (await client.list_tools()).tools}
        assert texts(await client.call_tool("delete_order", {"order": "A-1"})) == "deleted A-1"  # no rule
        assert texts(await client.call_tool("refund_order", {"order": "A-1"})) == "refunded A-1"  # to be approved
        assert texts(await client.call_tool("greet", {})) == "accept: Ann"
        assert EMAIL not in texts(await client.call_tool("read_order", {"order": "A-1"}))  # masks are no decisions
        assert texts(await client.call_tool("whoami", {})).startswith("Bearer ***")  # allowed: with the secret
    assert human.heard == ["Who are you?"]
    assert observing.server.ran() == ["delete_order", "refund_order", "greet", "read_order", "whoami"]
    told = {
        record["calls"][0]["name"]: (record["observed"]["effect"], record["secrets"])
        for record in records(observing.gateway.state / "journal", kind="request")
        if record["calls"][0]["method"] == "tools/call"
    }
    assert told == {
        "delete_order": ("deny", []),
        "refund_order": ("approve", []),
        "greet": ("deny", []),
        "read_order": ("allow", ["old-key"]),
        "whoami": ("allow", ["old-key"]),
    }


async def change(scene: Scene, old: str, new: str) -> None:
    """The policy with this changed, once it is in force."""

    def reloads() -> int:
        found = records(scene.gateway.state / "journal", kind="lifecycle")
        return sum(record["event"] == "policy-loaded" for record in found)

    before, text = reloads(), scene.policy.read_text()
    assert old in text
    draft = scene.policy.with_name("draft.tmp")
    draft.write_text(text.replace(old, new))
    draft.rename(scene.policy)
    with anyio.fail_after(20):
        while reloads() == before:  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.05)


READS = "tools: [read_order, whoami, slow], effect: allow"


async def test_an_open_stream_goes_on_under_a_changed_policy_which_decides_what_comes_next(enforcing: Scene) -> None:
    async with enforcing.client("proxy", "narrow") as client:
        assert not (await client.call_tool("read_order", {"order": "A-1"})).is_error
        with pytest.raises(MCPError):
            await client.call_tool("delete_order", {"order": "A-1"})
        await change(enforcing, READS, "tools: [delete_order, whoami], effect: allow")
        assert texts(await client.call_tool("delete_order", {"order": "A-1"})) == "deleted A-1"
        with pytest.raises(MCPError, match="no rule lets narrow"):
            await client.call_tool("read_order", {"order": "A-2"})
        assert texts(await client.call_tool("whoami", {})).startswith("Bearer ***")
        assert {tool.name for tool in (await client.list_tools()).tools} == {"delete_order", "whoami", "refund_order"}
    assert enforcing.server.ran() == ["read_order", "delete_order", "whoami"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("narrow", "renamed", id="another identity"),
        pytest.param("legacy_sse: true", "legacy_sse: false", id="another transport"),
        pytest.param("effect: allow}", "effect: deny}", id="no rule that permits"),
    ],
)
async def test_a_stream_that_the_changed_policy_would_not_open_ends_and_nothing_goes_to_its_endpoint(
    enforcing: Scene, old: str, new: str
) -> None:
    if new == "effect: deny}":
        await change(enforcing, "    who: [narrow]\n", "    who: [free]\n")
    async with (
        enforcing.http("proxy", "narrow") as mine,
        raw_stream(mine, enforcing.server.url) as (endpoint, events),
    ):
        await change(enforcing, "hold: 20s", "hold: 21s")  # positive control: this changes nothing for it
        asked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        url = enforcing.server.url.removesuffix("/sse") + endpoint
        assert (await mine.post(url, json=asked)).status_code == 202
        assert json.loads(await anext(events)) == {"jsonrpc": "2.0", "id": 1, "result": {}}
        await change(enforcing, old, new)
        with anyio.fail_after(10):
            try:
                async for _ in events:
                    pass
            except httpx2.RemoteProtocolError:  # cut
                pass
        assert (await mine.post(url, json=asked)).status_code in (403, 404)
