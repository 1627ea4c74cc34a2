"""Mask around: what stands beside the body of an answer, and beside the data of an event.

Law: what a mask covers is gone from the reason phrase, every header and every field of an event, but for what frames
the answer and the session's id. An event's id that holds a find is dropped: no other would lead anywhere.
"""

from dataclasses import replace

from mitmproxy import http

from coatcheck.exchange import Exchange
from coatcheck.mcp.sse import Event

_KEPT = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"connection", b"date"}
    | {b"mcp-session-id", b"mcp-protocol-version"}
)


def mask_head(exchange: Exchange, response: http.Response) -> None:
    """The head of an answer as the caller may see it."""
    fields, reason = response.headers.fields, response.data.reason
    masker = exchange.masker
    if not masker or not masker.may_hold(b"\n".join([reason, *(value for _, value in fields)])):
        return
    response.data.reason = _masked(exchange, reason)
    response.headers = http.Headers(
        [(name, value if name.lower() in _KEPT else _masked(exchange, value)) for name, value in fields]
    )


def mask_fields(exchange: Exchange, event: Event) -> Event | None:
    """An event as the caller may see it, but for its data; None where nothing is left of it."""
    beside = [text for text in (event.event, event.id, event.retry, event.comment) if text]
    masker = exchange.masker
    if not masker or not beside or not masker.may_hold("\n".join(beside).encode()):
        return event
    kind = event.event and masker.mask_text(event.event, exchange.masked)
    comment = event.comment and masker.mask_text(event.comment, exchange.masked)
    masked = replace(
        event, event=kind, comment=comment, id=_kept(exchange, event.id), retry=_kept(exchange, event.retry)
    )
    return None if masked == Event() else masked


def _kept(exchange: Exchange, text: str | None) -> str | None:
    assert exchange.masker is not None
    return text if not text or exchange.masker.mask_text(text, exchange.masked) == text else None


def _masked(exchange: Exchange, value: bytes) -> bytes:
    assert exchange.masker is not None
    text = value.decode("utf-8", "surrogateescape")
    masked = exchange.masker.mask_text(text, exchange.masked)
    return value if masked == text else masked.encode("utf-8", "surrogateescape")
