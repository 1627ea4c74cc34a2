"""Stream answers: a server's stream, event by event, as it comes.

Law: nothing follows a failure: the stream ends with an error for each request that it would have answered.
"""

import re
from collections.abc import Callable

from coatcheck.errors import SERVER_FAILED, Refusal
from coatcheck.exchange import Exchange
from coatcheck.masking.strings import TooCostly
from coatcheck.mcp.call import Json, RequestId
from coatcheck.mcp.legacy_sse import EndpointRefused
from coatcheck.mcp.size import check_nested, check_size
from coatcheck.mcp.sse import Event, SseError, SseRewriter
from coatcheck.mcp.strict_json import parse_data
from coatcheck.proxy.answer import last_events
from coatcheck.proxy.inspect import LARGE

MAX_EVENT = 1024 * 1024
"""Bytes of one event: what the official clients take at most."""
EVENT_VALUES = 25_000
"""Values and names of one event: it is cleaned on the event loop, as a stream is passed on without waiting."""
_DATA = frozenset({"structuredContent", "properties", "data"})
"""Members of MCP whose values name what a server likes: results, a schema's properties, what is logged."""
_JSON_BEGINS = re.compile(r"\s*(?:[\"{]|\[\s*(?:[\"\[{\]0-9-]|true|false|null|NaN|Infinity))")
"""How JSON begins in which something may be hidden, in the words of lenient readers too."""


class StreamedAnswer:
    """The stream callable of one response: a failure ends it with an error event, and nothing follows."""

    def __init__(self, exchange: Exchange, rewrite: Callable[[Event], Event | None]) -> None:
        self._exchange = exchange
        self._rewriter = SseRewriter(rewrite, max_event=MAX_EVENT)

    def feed(self, data: bytes) -> list[bytes]:
        """mitmproxy calls this with each chunk, and with b"" at the end. An empty chunk would end the stream."""
        out = self._rewritten(data)
        return [out] if out else []

    def _rewritten(self, data: bytes) -> bytes:
        exchange = self._exchange
        if exchange.refusal is not None or exchange.fault is not None:
            return b""
        try:
            out = self._rewriter.feed(data) if data else self._rewriter.finish()
        except BaseException as error:
            exchange.fault = f"stream: {type(error).__name__}"
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            exchange.answered_error = True
            known = isinstance(error, (SseError, Refusal, TooCostly))
            message = "the server's stream could not be read" if known else "the gateway failed"
            refusal = error if isinstance(error, EndpointRefused) else unreadable("server-failed", message)
            return self._rewriter.before + last_events(refusal, exchange)
        if not data:
            out += self._missing()
        exchange.bytes_sent += len(out)
        return out

    def _missing(self) -> bytes:
        """Errors in place of answers that will not come: a client would wait for them."""
        exchange = self._exchange
        refusal = unreadable("server-failed", "the server ended its stream without an answer")
        if exchange.stream is not None and exchange.endpoint is None:
            return last_events(refusal, exchange)
        if exchange.can_resume or not exchange.unanswered:
            return b""
        exchange.answered_error = True
        return last_events(refusal, exchange)


def to_answer(exchange: Exchange) -> dict[str, RequestId]:
    """The requests that this answer must answer, by their ids as text; a subscription may just end."""
    if exchange.endpoint is not None:
        return {}
    listen = "subscriptions/listen"
    return {str(call.id): call.id for call in exchange.calls if call.id is not None and call.method != listen}


def may_be_json(text: str) -> bool:
    """Whether text that is no strict JSON might still be read by somebody as JSON with something hidden in it."""
    return _JSON_BEGINS.match(text) is not None


def read_answer(data: bytes, *, is_mcp: bool) -> Json:
    """What a server says in JSON. In MCP only data may have members that look alike. Raises `Refusal`."""
    return parse_data(data, twins_below=_DATA if is_mcp else None)


def read_event(data: bytes, *, is_mcp: bool) -> Json:
    """The message of one event, refused where it would hold the event loop: nothing waits for a thread in a stream."""
    if len(data) <= LARGE:
        return read_answer(data, is_mcp=is_mcp)
    check_size(data, most=EVENT_VALUES)
    message = read_answer(data, is_mcp=is_mcp)
    check_nested(message, most=EVENT_VALUES)
    return message


def scrubbed_anew(exchange: Exchange, message: Json) -> Json:
    """A message without the secrets that came into the vault after its stream had begun, and were since put into a POST
    that is answered on it (HTTP+SSE of MCP 2024-11-05). What the stream began with is scrubbed before, as bytes.
    """
    latest = exchange.stream.latest if exchange.stream is not None else None
    if latest is None or latest.scrubber is None or latest.scrubber is exchange.scrubber:
        return message
    return latest.scrubber.json(message, exchange.scrubbed)


def unreadable(reason: str, message: str, *, status: int = 502) -> Refusal:
    """Why an answer does not pass."""
    return Refusal(reason, message, status=status, code=SERVER_FAILED)
