"""What git sends compressed is read as it is, and nothing else of it is kept."""

import gzip

import pytest

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId
from coatcheck.http.headers import MAX_BODY_BYTES
from coatcheck.policy.model import Policy
from coatcheck.proxy.answer import answer
from coatcheck.proxy.decode_body import DecodeBody
from coatcheck.proxy.inspect import LARGE

WANTS = b"".join(b"0032want %040x\n" % number for number in range(30)) + b"0000"
NOISE = b"".join(b"%040x" % (number**9) for number in range(LARGE // 4))


@pytest.fixture
def exchange(flow, exchanges) -> Exchange:
    exchange = Exchange(ExchangeId("x"), Policy("https://gateway.example", "p" * 64, ()), 0.0)
    exchange.headers = {"content-encoding": "gzip"}
    flow.request.headers["content-encoding"] = "gzip"
    exchanges[flow] = exchange
    return exchange


async def run(exchanges, flow, body: bytes) -> bytes | None:
    flow.request.data.content = body
    if (waiting := DecodeBody(exchanges).request(flow)) is not None:
        await waiting
    return flow.request.raw_content


@pytest.mark.parametrize("body", [WANTS, NOISE], ids=["small", "in a thread"])
async def test_it_goes_on_decoded_and_says_so(exchanges, exchange, flow, body) -> None:
    assert await run(exchanges, flow, gzip.compress(body)) == body
    assert "content-encoding" not in flow.request.headers
    assert "content-encoding" not in exchange.headers


BAD = {
    "two members": gzip.compress(WANTS) * 2,
    "garbage behind it": gzip.compress(WANTS) + b"x",
    "cut": gzip.compress(WANTS)[:-9],
    "not compressed": WANTS,
    "empty": b"",
    "a bomb": gzip.compress(bytes(MAX_BODY_BYTES + 1)),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_what_cannot_be_decoded_whole_is_refused_and_not_kept(exchanges, exchange, flow, body) -> None:
    with pytest.raises(Refusal) as refused:
        await run(exchanges, flow, body)
    assert (refused.value.reason, refused.value.status) == ("encoded-body", 415)
    assert flow.request.raw_content == b""


async def test_no_mcp_server_is_sent_one(exchanges, exchange, flow) -> None:
    exchange.is_mcp = True
    with pytest.raises(Refusal, match="encoded-body"):
        await run(exchanges, flow, gzip.compress(WANTS))


async def test_what_was_refused_before_keeps_its_reason(exchanges, exchange, flow) -> None:
    flow.response = answer(Refusal("bad-path", "no"))
    assert await run(exchanges, flow, gzip.compress(WANTS)) == WANTS
    exchange.headers["content-encoding"] = "gzip"
    assert await run(exchanges, flow, WANTS) == b""


async def test_any_other_body_is_left_as_it_is(exchanges, exchange, flow) -> None:
    exchange.headers.clear()
    assert await run(exchanges, flow, gzip.compress(WANTS)) == gzip.compress(WANTS)
