"""Decode bodies: what git sends compressed goes on as everything here reads it, and as its server is sent it.

Law: a compressed body is decoded whole before anything looks into it; one that cannot be is refused, and kept nowhere.
git compresses what it wants and has, once that is more than 1 KiB (a clone of some twenty branches), and cannot be told
not to (gitprotocol-http; `remote-curl.c`). Everybody else can: their compressed bodies are refused at the head.
"""

import asyncio
from collections.abc import Awaitable

from mitmproxy import http

from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.decode import UndecodableBody, decode
from coatcheck.http.headers import MAX_BODY_BYTES, encoded_body
from coatcheck.proxy.inspect import LARGE

_ENCODING = "content-encoding"


class DecodeBody:
    """Before the body is looked at for the first time."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Raises `Refusal` (415) where the request is not refused already; a large body in a thread."""
        exchange = self._exchanges.get(flow)
        if exchange is None or _ENCODING not in exchange.headers:
            return None
        encoding = exchange.headers.pop(_ENCODING).strip().lower()
        if encoding == "identity":
            return None
        body = flow.request.raw_content or b""
        flow.request.headers.pop(_ENCODING, None)
        flow.request.data.content = b""
        if len(body) > LARGE:
            return self._decode_large(flow, exchange, encoding, body)
        _put(flow, exchange, _decoded(encoding, body))
        return None

    @staticmethod
    async def _decode_large(flow: http.HTTPFlow, exchange: Exchange, encoding: str, body: bytes) -> None:
        _put(flow, exchange, await asyncio.to_thread(_decoded, encoding, body))


def _put(flow: http.HTTPFlow, exchange: Exchange, decoded: bytes | None) -> None:
    if decoded is not None and not exchange.is_mcp:
        flow.request.data.content = decoded
    elif not flow.response:
        raise encoded_body()


def _decoded(encoding: str, body: bytes) -> bytes | None:
    try:
        return decode(body, encoding, limit=MAX_BODY_BYTES)
    except UndecodableBody:
        return None
