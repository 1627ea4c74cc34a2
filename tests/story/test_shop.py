"""Tests of story/shop.py: the real server, reached by the real client, without a gateway."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError

from story.cast import Cast
from story.shop import EVENT_GAP_SECONDS, EVENTS, card_number, personal_data

ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


@given(st.integers(0, 999))
def test_every_card_number_passes_luhn(n: int):
    digits = [int(digit) for digit in reversed(card_number(n))]
    assert len(digits) == 16
    assert sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def test_no_personal_data_is_shared_between_orders():
    assert len(set(personal_data())) == 3 * EVENTS


@ERAS
async def test_the_credential_opens_the_shop_and_another_does_not(cast: Cast, connect, mode: str):
    before = len(cast.executed())
    async with connect(mode) as client:
        result = await client.call_tool("get_order", {"order_id": "A-1003"})
    assert result.structured_content["email"] == "buyer-03@customers.example"
    with pytest.raises((MCPError, ExceptionGroup), match=r"Server returned an error|unhandled errors"):
        async with connect(mode, credential="coat_shop_key") as client:
            await client.call_tool("get_order", {"order_id": "A-1003"})
    assert cast.executed()[before:] == [
        {"tool": "get_order", "arguments": {"order_id": "A-1003"}, "authorization_ok": True}
    ]


@ERAS
async def test_every_tool_is_offered(connect, mode: str):
    async with connect(mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert names == {
        "get_order",
        "list_orders",
        "export_orders",
        "refund_order",
        "delete_order",
        "whoami",
        "slow",
    }


@ERAS
async def test_an_export_arrives_event_by_event(connect, mode: str):
    arrived: list[tuple[float, str]] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        arrived.append((time.monotonic(), message or ""))

    async with connect(mode) as client:
        result = await client.call_tool("export_orders", {}, progress_callback=progressed)
    assert result.structured_content == {"exported": EVENTS}
    assert len(arrived) == EVENTS
    assert arrived[-1][0] - arrived[0][0] > EVENT_GAP_SECONDS * (EVENTS - 1) * 0.8
    assert "buyer-00@customers.example 4000000042420002" in arrived[0][1]


async def test_an_export_without_a_progress_token_arrives_as_log_messages(connect):
    arrived: list[object] = []

    async def logged(params) -> None:
        arrived.append(params.data)

    async with connect("legacy", logging_callback=logged) as client:
        await client.call_tool("export_orders", {})
    assert len(arrived) == EVENTS


@pytest.mark.parametrize(("encoding", "shown"), [("plain", "Bearer {}"), ("url", "Bearer%20{}")])
async def test_whoami_gives_the_credential_away(cast: Cast, connect, encoding: str, shown: str):
    async with connect("2026-07-28") as client:
        result = await client.call_tool("whoami", {"encoding": encoding})
    assert result.structured_content["authorization"] == shown.format(cast.credential)


async def test_each_call_that_ran_is_logged_once_whatever_came_of_it(cast: Cast, connect):
    before = len(cast.executed())
    async with connect("2026-07-28") as client:
        await client.call_tool("refund_order", {"order_id": "A-1001", "amount": 5})
        await client.call_tool("delete_order", {"order_id": "A-1002"})
        assert (await client.call_tool("get_order", {"order_id": "B-1"})).is_error
        assert (await client.call_tool("get_order", {"order": 1})).is_error
    assert [(call["tool"], call["arguments"]) for call in cast.executed()[before:]] == [
        ("refund_order", {"order_id": "A-1001", "amount": 5}),
        ("delete_order", {"order_id": "A-1002"}),
        ("get_order", {"order_id": "B-1"}),
    ]


async def test_a_slow_call_is_in_the_log_while_it_runs(cast: Cast, connect):
    before = len(cast.executed())
    async with connect("2026-07-28") as client, asyncio.timeout(10):
        call = asyncio.create_task(client.call_tool("slow", {"seconds": 0.3}))
        while len(cast.executed()) == before:
            assert not call.done()
            await asyncio.wait([call], timeout=0.01)
        assert (await call).structured_content["done"] == "waited 0.3 s"
