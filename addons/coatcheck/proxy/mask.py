"""Mask: the server's answer as the caller may see it.

Law: masked before written (P5). Answers are parsed, scrubbed of decoded secrets, filtered, masked and serialised anew;
streams event by event, each as it comes. What cannot be read does not pass.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from weakref import ReferenceType, ref

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.headers import without
from coatcheck.http.media_type import is_scannable, is_utf8, media_type
from coatcheck.masking.masker import MAX_PLACES
from coatcheck.masking.strings import TooCostly
from coatcheck.mcp.call import Json
from coatcheck.mcp.legacy_sse import ENDPOINT, legacy_refused
from coatcheck.mcp.lists import CACHED, filter_list, kept_private
from coatcheck.mcp.size import check_size
from coatcheck.mcp.sse import Event
from coatcheck.mcp.strict_json import dump_json
from coatcheck.pins.books import Books
from coatcheck.policy.decide import may_see
from coatcheck.proxy.inspect import LARGE
from coatcheck.proxy.mask_around import mask_fields, mask_head
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.relay import Relay
from coatcheck.proxy.stream_answer import (
    StreamedAnswer,
    may_be_json,
    read_answer,
    read_event,
    scrubbed_anew,
    to_answer,
    unreadable,
)

MAX_MESSAGES = 500
"""Messages in one array: each takes its time."""
EVENT_PLACES = 5_000
"""Places of one event that detectors may have to look at."""
LISTS = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})


type BeginStream = Callable[[ReferenceType[http.HTTPFlow], Exchange, Event], Event]
"""What becomes of an `endpoint` event of a stream: see `LegacySse.begin`."""


def _begin_none(_flow: ReferenceType[http.HTTPFlow], _exchange: Exchange, _event: Event) -> Event:
    raise legacy_refused()


class Mask:
    """First stage on the way back."""

    def __init__(
        self,
        exchanges: Exchanges,
        maskers: Maskers,
        clock: Callable[[], datetime],
        relay: Relay,
        books: Books,
        begin_stream: BeginStream = _begin_none,
    ) -> None:
        self._begin_stream = begin_stream
        self._exchanges = exchanges
        self._relay = relay
        self._books = books
        self._maskers = maskers
        self._clock = clock

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Decides how the body will be read, before any of it has come."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.refusal is not None or not exchange.sent or exchange.server is None:
            return
        assert flow.response is not None
        exchange.masker = self._maskers.get(exchange.policy, exchange.server.name)
        head = {name.lower(): value for name, value in flow.response.headers.fields}
        if sum(name.lower() == b"content-type" for name, _ in flow.response.headers.fields) > 1:
            raise unreadable("server-failed", "the server gave its answer two types")
        if flow.response.status_code == 101:
            raise unreadable("upgrade-refused", "the server switched protocols")
        content_type = head.get(b"content-type", b"")
        exchange.answer_type = media_type(content_type)
        is_stream = exchange.answer_type == "text/event-stream" and flow.response.status_code == 200
        is_read = is_stream or _is_json(exchange.answer_type) or (exchange.masker and not exchange.is_mcp)
        if is_read and not is_utf8(content_type):
            # what is read as UTF-8 here would be read as something else by the caller
            raise unreadable("unscannable-response", "the server's answer is not UTF-8")
        if exchange.scrubber is not None and not is_scannable(content_type):
            raise unreadable("unscannable-response", "the server's answer is in a charset that hides what it says")
        if exchange.is_mcp:
            self._relay.answered(exchange, flow.request.method, flow.response, is_stream=is_stream)
            exchange.unanswered = to_answer(exchange)
        mask_head(exchange, flow.response)
        if is_stream:
            exchange.streaming = True
            flow.response.headers.pop("content-length", None)
            flow.response.headers["transfer-encoding"] = "chunked"
            flow.response.stream = StreamedAnswer(exchange, self._rewriter(exchange, ref(flow))).feed

    def response(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Rewrites a whole body; a large one in a thread, and out of the flow's sight meanwhile."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.refusal is not None or not exchange.sent or exchange.streaming:
            return None
        assert flow.response is not None
        body = flow.response.raw_content or b""
        if not body:
            _check_answered(exchange, flow.response.status_code)
            return None
        if len(body) > LARGE:
            flow.response.data.content = None
            return self._rewrite_large(flow.response, exchange, body)
        clean = self._clean_body(exchange, flow.response.status_code, body)
        if clean is not body:
            _replace_body(flow.response, clean)
        return None

    async def _rewrite_large(self, response: http.Response, exchange: Exchange, body: bytes) -> None:
        clean = await asyncio.to_thread(self._clean_body, exchange, response.status_code, body)
        _replace_body(response, clean)

    def _clean_body(self, exchange: Exchange, status: int, body: bytes) -> bytes:
        try:
            return self._cleaned(exchange, status, body)
        except TooCostly:
            raise unreadable("unmaskable-response", "the server's answer has too much that may be masked") from None

    def _cleaned(self, exchange: Exchange, status: int, body: bytes) -> bytes:
        kind = exchange.answer_type
        if _is_json(kind):
            return self._whole_json(exchange, status, body)
        if exchange.is_mcp:
            what = f"the server answered {status} with something that is not JSON"
            raise unreadable("server-failed", what, status=status if status >= 400 else 502)
        return self._whole_text(exchange, body, kind) if exchange.masker else body

    def _whole_json(self, exchange: Exchange, status: int, body: bytes) -> bytes:
        try:
            check_size(body)
            value = read_answer(body, is_mcp=exchange.is_mcp)
        except Refusal as refusal:
            what = refusal.message if refusal.reason == "too-complex" else "it is not valid JSON"
            raise unreadable("server-failed", f"the server's answer cannot be read: {what}") from None
        if exchange.is_mcp and not all(
            self._relay.is_answer(exchange, one, status) for one in (value if isinstance(value, list) else (value,))
        ):  # clients take 1.0 for 1: a list with that id would not be filtered
            raise unreadable("server-failed", "the server answered what was not asked")
        clean = self._clean(exchange, value, body)
        _check_answered(exchange, status)
        return body if clean is value else dump_json(clean)  # read strictly, it means one thing only

    def _whole_text(self, exchange: Exchange, body: bytes, kind: str) -> bytes:
        if not kind.startswith("text/"):
            raise unreadable("unmaskable-response", f"masks apply here, and {kind or 'untyped'} cannot be masked")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            raise unreadable("unmaskable-response", "the server's text is not UTF-8") from None
        assert exchange.masker is not None
        return exchange.masker.mask_text(text, exchange.masked).encode()

    def _clean(self, exchange: Exchange, value: Json, written: bytes, places: int = MAX_PLACES) -> Json:
        """One JSON document or message, read from `written`, as the caller may see it."""
        if exchange.scrubber is not None:
            value = exchange.scrubber.json(value, exchange.scrubbed, written=written)
        if not exchange.is_mcp:
            if not exchange.masker:
                return value
            return exchange.masker.mask_json(value, exchange.masked, written=written, places=places)
        if isinstance(value, list):
            if len(value) > MAX_MESSAGES:
                raise unreadable("server-failed", f"the server sent more than {MAX_MESSAGES} messages in one")
            return [self._message(exchange, item, None, places) for item in value]
        return self._message(exchange, value, written, places)

    def _message(self, exchange: Exchange, message: Json, written: bytes | None, places: int) -> Json:
        if not isinstance(message, dict):
            raise unreadable("server-failed", "the server's answer is not a JSON-RPC message")
        method = self._relay.method_of(exchange, message)
        if "method" in message and not exchange.streaming:
            raise unreadable("server-failed", "the server's answer asks something itself")
        if "result" in message or "error" in message:
            exchange.unanswered.pop(str(message.get("id")), None)
            if message.get("id") is None and not exchange.streaming:  # for all that was asked (JSON-RPC 2.0 section 5)
                exchange.unanswered.clear()
        message = self._relay.read_answer(exchange, method, message)
        if method in LISTS and "result" in message:
            message = {**message, "result": self._visible(exchange, method, message["result"])}
        elif method in CACHED and isinstance(said := message.get("result"), dict):
            private = kept_private(said)
            message = message if private is said else {**message, "result": private}
        if not exchange.masker:
            return message
        return exchange.masker.mask_message(message, exchange.masked, written=written, places=places)

    def _visible(self, exchange: Exchange, method: str, result: Json) -> Json:
        """A list without what the caller may not call; its tools are pinned as the server said them."""
        assert exchange.caller is not None
        assert exchange.server is not None
        hidden: frozenset[str] = frozenset()
        if method == "tools/list" and isinstance(result, dict):
            tools, caller = result.get("tools"), exchange.caller.name
            hidden = self._books.see(exchange.server, tools, exchange=exchange.id, caller=caller)
        visible, _ = filter_list(
            method,
            result,
            lambda kind, name: exchange.observes or (name not in hidden and self._may_see(exchange, kind, name)),
        )
        return visible

    def _may_see(self, exchange: Exchange, kind: str, name: str) -> bool:
        assert exchange.caller is not None
        assert exchange.server is not None
        return may_see(exchange.policy, exchange.caller, exchange.server, kind, name, now=self._clock())  # type: ignore[arg-type]

    def _rewriter(self, exchange: Exchange, flow: ReferenceType[http.HTTPFlow]) -> Callable[[Event], Event | None]:
        def rewrite(said: Event) -> Event | None:
            if said.event == ENDPOINT and exchange.is_mcp:
                return self._begin_stream(flow, exchange, said)
            event = mask_fields(exchange, said)
            if event is None:
                return None
            if event.id is not None and exchange.conversation is not None:
                exchange.can_resume = True
                exchange.conversation.relay_event(event.id, exchange.opened)
            return self._rewritten(exchange, event, event.data) if event.data else event

        return rewrite

    def _rewritten(self, exchange: Exchange, event: Event, text: str) -> Event | None:
        """One event with data, `text`; None to drop it."""
        written = text.encode()
        try:
            message = read_event(written, is_mcp=exchange.is_mcp)
        except Refusal:
            is_message = exchange.is_mcp and event.event in (None, "message")  # clients read no others
            if is_message or may_be_json(text):
                raise
            return self._plain_event(exchange, event, text)
        if (anew := scrubbed_anew(exchange, message)) is not message:
            message, written = anew, dump_json(anew)
            text = written.decode()
        asked = exchange.stream.answered(message) if exchange.stream is not None else None
        about = asked or exchange
        passed = self._relay.streamed(about, message) if exchange.is_mcp else message
        if passed is None:
            return None if event.id is None else Event(id=event.id, data="")  # moves the resumption point alone
        cleaned = self._clean(about, passed, written if passed is message else dump_json(passed), EVENT_PLACES)
        if asked is not None:
            exchange.masked.update(asked.masked)
        return _event_with(exchange, event, text if cleaned is message else dump_json(cleaned).decode())

    def _plain_event(self, exchange: Exchange, event: Event, text: str) -> Event:
        """An event of a plain HTTP API with text in it, as `[DONE]`."""
        if exchange.scrubber is not None:
            text = exchange.scrubber.text(text, exchange.scrubbed)
        if exchange.masker:
            text = exchange.masker.mask_text(text, exchange.masked, places=EVENT_PLACES)
        return _event_with(exchange, event, text)


def _event_with(exchange: Exchange, event: Event, data: str) -> Event:
    """The event as it goes on, recorded."""
    if exchange.recording is not None:
        exchange.recording.event(data, event.event, event.id)
    return event if data is event.data else replace(event, data=data)


def _check_answered(exchange: Exchange, status: int) -> None:
    """A request that got no answer will get none: a client would wait for it."""
    if exchange.unanswered and not exchange.streaming and 200 <= status < 300:
        raise unreadable("server-failed", "the server did not answer what was asked")


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _replace_body(response: http.Response, body: bytes) -> None:
    fields = without(response.headers.fields, "transfer-encoding", "content-length")
    response.headers = http.Headers([*fields, (b"content-length", b"%d" % len(body))])
    response.data.content = body
