"""What holds the caller's token goes no further, and out of the flow, whatever else becomes of the request."""

import json

import pytest

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.identity.trace import TokenTrace
from coatcheck.policy.model import Policy
from coatcheck.proxy.answer import answer
from coatcheck.proxy.inspect import LARGE
from coatcheck.proxy.keep_back import KeepBack, keep_back_head

TOKEN = "eyJh.eyJi." + "AbCdEfGh-_1234567890" * 4 + "ABCDEF"
OTHER = "eyJh.eyJi." + "ZyXwVuTs-_0987654321" * 4 + "ABCDEF"


@pytest.fixture
def exchange(flow, exchanges) -> Exchange:
    exchange = Exchange(ExchangeId("x"), Policy("https://gateway.example", "p" * 64, ()), 0.0)
    exchange.traces = (TokenTrace.of(TOKEN),)
    exchanges[flow] = exchange
    return exchange


async def run(exchanges, flow) -> None:
    waiting = KeepBack(exchanges).request(flow)
    if waiting is not None:
        await waiting


def body(token: str, size: int = 0) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"a": token, "b": "x" * size}}).encode()


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_body_with_the_token_is_refused_and_emptied_and_one_with_another_is_not(
    exchanges, exchange, flow, size
) -> None:
    flow.request.content = body(OTHER, size)
    await run(exchanges, flow)
    assert flow.request.content == body(OTHER, size)
    flow.request.content = body(TOKEN, size)
    with pytest.raises(Refusal) as refused:
        await run(exchanges, flow)
    assert (refused.value.status, refused.value.reason) == (401, "token-astray")
    assert flow.request.content == b""
    assert flow.request.headers["content-length"] == "0"


async def test_an_mcp_refusal_can_still_name_the_request(exchanges, exchange, flow) -> None:
    exchange.is_mcp = True
    flow.request.content = body(TOKEN)
    with pytest.raises(Refusal):
        await run(exchanges, flow)
    assert exchange.request_id == 7


async def test_what_was_refused_before_loses_the_token_and_keeps_its_reason(exchanges, exchange, flow) -> None:
    exchange.refusal = Refusal.unauthenticated("token-expired", "x")
    flow.response = answer(exchange.refusal, exchange)
    flow.request.content = body(TOKEN)
    await run(exchanges, flow)
    assert flow.request.content == b""
    assert exchange.refusal.reason == "token-expired"


async def test_a_request_that_showed_no_token_is_not_looked_through(exchanges, exchange, flow) -> None:
    exchange.traces = ()
    flow.request.content = body(TOKEN)
    await run(exchanges, flow)
    assert flow.request.content == body(TOKEN)


def test_a_head_with_the_token_loses_it_in_whatever_form(exchange, flow) -> None:
    hidden = "".join(f"%{ord(c):02x}" for c in TOKEN)
    flow.request.path = f"/x?a={hidden}"
    flow.request.headers["X-A"], flow.request.headers["X-B"] = TOKEN.encode().hex(), OTHER
    exchange.headers = {"x-a": TOKEN.encode().hex(), "x-b": OTHER}
    assert keep_back_head(flow, exchange)
    assert flow.request.path == "/***"
    assert "X-A" not in flow.request.headers
    assert (flow.request.headers["X-B"], exchange.headers) == (OTHER, {"x-b": OTHER})
    assert not keep_back_head(flow, exchange)
