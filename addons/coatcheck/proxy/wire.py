"""The wire gate: the last point before the socket, below every flow.

Law: no byte of a request leaves unless its digest is the released one (P1); a secret is put in as bytes leave and
taken out as bytes come back, so no flow ever holds it (P2).

mitmproxy's `HttpLayer.event_to_child` hands every HTTP event to a stream (a flow's side), to the client's
connection, or to a server's connection. The gate stands in that method of the class itself, so that every layer
mitmproxy makes has it: also client replay's, also one made before start-up, also after this script was unloaded.
This is private API: mitmproxy is pinned, and `self_test.py` proves the gate at every start.
"""

import logging
import re
from collections.abc import Iterator
from copy import copy
from weakref import WeakKeyDictionary

from mitmproxy.http import Headers, HTTPFlow, Request
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._base import HttpEvent

from coatcheck.errors import Refusal
from coatcheck.exchange import Dialling, Exchange, Exchanges, Passage
from coatcheck.proxy import go_ahead
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.put_on_stream import StreamMessage, deliver
from coatcheck.proxy.refused import MessageRefused, RequestRefused
from coatcheck.proxy.scrub import scrub_event
from coatcheck.proxy.tell_client import NOT_RELEASED, answers_head, tell_client
from coatcheck.proxy.withhold import withhold
from coatcheck.vault.plan import Outgoing
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.swap import apply_swap

type Commands = Iterator[commands.Command]

SPARED_BYTES = 64 * 1024
"""Bytes of a body above which it is not waited for where its head was refused."""

_RESPONSES = (
    http.ResponseHeaders,
    http.ResponseData,
    http.ResponseTrailers,
    http.ResponseEndOfMessage,
    http.ResponseProtocolError,
)
_QUOTE = re.compile(r": b['\"]")
_original_log = commands.Log.__init__
_original_event_to_child = layers.HttpLayer.event_to_child
_original_get_connection = layers.HttpLayer.get_connection


class WireGate:
    """Checks releases, swaps on the way out, scrubs on the way in."""

    def __init__(self, exchanges: Exchanges, scrubbers: ScrubberCache, dialling: Dialling | None = None) -> None:
        self._exchanges = exchanges
        self._scrubbers = scrubbers
        self._dialling: Dialling = WeakKeyDictionary() if dialling is None else dialling

    def install(self) -> None:
        """Puts this gate into mitmproxy's HTTP layer; a later gate takes an earlier one's place, none removes it."""
        gate = self

        def event_to_child(layer: layers.HttpLayer, child: Layer, event: events.Event) -> Commands:
            return gate._event_to_child(layer, child, event)

        def get_connection(layer: layers.HttpLayer, event: layers.GetHttpConnection, *, reuse: bool = True) -> Commands:
            return gate._get_connection(layer, event, reuse=reuse)

        commands.Log.__init__ = _log_unquoted  # type: ignore[method-assign,assignment]
        layers.HttpLayer.event_to_child = event_to_child  # type: ignore[method-assign,assignment]
        layers.HttpLayer.get_connection = get_connection  # type: ignore[method-assign,assignment]

    # -- the check ---------------------------------------------------------------------------------------------

    def may_connect(self, flow: HTTPFlow) -> bool:
        """Whether something was released for where the request goes: enough for a handshake, not for a byte of it."""
        exchange = self._open_exchange(flow)
        if exchange is None or exchange.target is None:
            return False
        request, target = flow.request, exchange.target
        return (request.scheme, request.data.host, request.data.port) == (target.scheme, target.host, target.port)

    def released(self, flow: HTTPFlow) -> Exchange | None:
        """The flow's exchange if its release is for exactly what the request holds now; else None."""
        exchange = self._open_exchange(flow)
        if exchange is None or exchange.release is None:
            return None
        return exchange if digest_of(flow.request) == exchange.release.digest else None

    def _open_exchange(self, flow: HTTPFlow) -> Exchange | None:
        """The flow's exchange if it was released, and nothing has happened to it since."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.release is None or exchange.fault or exchange.refusal or exchange.sent:
            return None
        request = flow.request
        if request.stream or request.trailers or request.raw_content is None or flow.is_replay:
            return None
        return exchange

    # -- what mitmproxy calls ----------------------------------------------------------------------------------

    def _get_connection(self, layer: layers.HttpLayer, event: layers.GetHttpConnection, *, reuse: bool) -> Commands:
        """Not even a TCP handshake without a release."""
        stream = layer.command_sources.get(event)
        if not isinstance(stream, layers.HttpStream) or not self.may_connect(stream.flow):
            layer.command_sources.pop(event, None)
            if stream is not None:
                reply = layers.GetHttpConnectionCompleted(event, (None, NOT_RELEASED))
                yield from layer.event_to_child(stream, reply)
            return
        self._dialling[layer.context.client] = (stream.flow.request.data.host, stream.flow.request.data.port)
        yield from _original_get_connection(layer, event, reuse=reuse)

    def _event_to_child(self, layer: layers.HttpLayer, child: Layer, event: events.Event) -> Commands:
        """Which way the event goes. Not a generator itself: what passes as it is costs no more than without us."""
        if not isinstance(event, HttpEvent):
            is_head = isinstance(event, events.HookCompleted) and isinstance(
                event.command, layers.HttpRequestHeadersHook
            )
            if is_head and isinstance(child, layers.HttpStream):
                return self._after_hook(layer, child, event)
            if isinstance(event, StreamMessage) and isinstance(child, layers.HttpStream):
                return deliver(layer, child, event)
            return _original_event_to_child(layer, child, event)
        if isinstance(child, layers.HttpStream):
            if isinstance(event, _RESPONSES):
                return self._inbound(layer, child, event)
            after = self._after_data if isinstance(event, http.RequestData) else _original_event_to_child
            return after(layer, child, event)
        if child is layer.connections.get(layer.context.client):
            if isinstance(event, http.ResponseProtocolError):
                return tell_client(self._exchanges, layer, child, event)
            if isinstance(event, http.ResponseData) and answers_head(child):
                return iter(())
            return _original_event_to_child(layer, child, event)
        return self._outbound(layer, child, event)

    # -- from the client ---------------------------------------------------------------------------------------

    def _after_hook(self, layer: layers.HttpLayer, stream: layers.HttpStream, event: events.Event) -> Commands:
        """Once the stages have seen a head, a body that came meanwhile may have been refused."""
        for waiting in stream._paused_event_queue:  # noqa: SLF001 - mitmproxy looks there for the same reason
            if isinstance(waiting, MessageRefused):
                self._note(stream, waiting)
        exchange = self._exchanges.get(stream.flow)
        is_awaited = go_ahead.is_awaited(stream)
        if is_awaited and exchange is not None and exchange.refusal is None and stream.flow.response is None:
            yield commands.SendData(layer.context.client, go_ahead.GO_AHEAD)
        yield from _original_event_to_child(layer, stream, event)
        yield from self._spare_body(layer, stream, none_comes=is_awaited)

    def _after_data(self, layer: layers.HttpLayer, stream: layers.HttpStream, event: events.Event) -> Commands:
        yield from _original_event_to_child(layer, stream, event)
        yield from self._spare_body(layer, stream)

    def _spare_body(self, layer: layers.HttpLayer, stream: layers.HttpStream, *, none_comes: bool = False) -> Commands:
        """Ends a request that was refused at its head; a small body is waited for, since it names the caller's id."""
        exchange = self._exchanges.get(stream.flow)
        if exchange is None or exchange.refusal is None or stream.client_state != stream.state_consume_request_body:
            return
        declared = exchange.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() else len(stream.request_body_buf)
        if size > SPARED_BYTES or none_comes:
            yield from layer.event_to_child(stream, RequestRefused(stream.stream_id, exchange.refusal))

    # -- to the server -----------------------------------------------------------------------------------------

    def _outbound(self, layer: layers.HttpLayer, child: Layer, event: HttpEvent) -> Commands:
        if isinstance(event, http.RequestProtocolError):
            yield from _original_event_to_child(layer, child, event)  # closes the connection; carries no bytes
            return
        stream = layer.streams.get(event.stream_id)
        if stream is None:
            return
        replaced = None
        try:
            replaced = self._replace(stream.flow, event)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the bytes stay
            self._fault(stream.flow, error)
        if replaced is None:
            yield from self._fail_stream(layer, stream, NOT_RELEASED)
        else:
            yield from _original_event_to_child(layer, child, replaced)

    def _replace(self, flow: HTTPFlow, event: HttpEvent) -> HttpEvent | None:
        """The event as it leaves; None where it must not leave."""
        match event:
            case http.RequestHeaders():
                return self._depart(flow, event)
            case http.RequestData():
                passage = self._passage(flow)
                if passage is None or not passage.body_due or event.data != passage.expected_body:
                    return None
                passage.body_due = False
                return http.RequestData(event.stream_id, passage.outgoing_body)
            case http.RequestEndOfMessage():
                passage = self._passage(flow)
                return None if passage is None or passage.body_due else event
            case _:
                return None

    def _fault(self, flow: HTTPFlow, error: Exception) -> None:
        exchange = self._exchanges.get(flow)
        if exchange is not None:
            exchange.fault = f"wire: {type(error).__name__}"
            exchange.release = None

    def _passage(self, flow: HTTPFlow) -> Passage | None:
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.fault is not None or exchange.refusal is not None:
            return None
        return exchange.passage

    def _depart(self, flow: HTTPFlow, event: http.RequestHeaders) -> http.RequestHeaders | None:
        """A copy of the released request with its secrets in; the flow's own request is never changed."""
        exchange = self.released(flow)
        if exchange is None or event.request is not flow.request or exchange.target is None:
            return None
        server = flow.server_conn
        if server.tls != (exchange.target.scheme == "https") or server.address is None:
            return None
        if server.address != (exchange.target.host, exchange.target.port):
            return None
        released = flow.request.data
        body = released.content or b""
        outgoing = Outgoing(released.headers.fields, released.path, body)
        if exchange.swap:
            outgoing = apply_swap(exchange.swap, outgoing)
            if exchange.scrubber is None:  # nothing leaves swapped whose answer would come in unscrubbed
                exchange.scrubber = self._scrubbers.get(exchange.swap.credentials)
        exchange.sent = True
        exchange.passage = Passage(body, outgoing.body, body_due=bool(body))
        data = copy(released)
        data.headers = Headers(outgoing.headers)
        data.path = outgoing.path
        data.content = outgoing.body
        data.authority = b""
        data.http_version = b"HTTP/1.1"
        sent = Request.__new__(Request)
        sent.data = data
        return http.RequestHeaders(event.stream_id, sent, end_stream=not outgoing.body)

    # -- from the server ---------------------------------------------------------------------------------------

    def _inbound(self, layer: layers.HttpLayer, stream: layers.HttpStream, event: HttpEvent) -> Commands:
        exchange = self._exchanges.get(stream.flow)
        if isinstance(event, MessageRefused):
            self._note(stream, event)
            yield from _original_event_to_child(layer, stream, event)
            return
        if isinstance(event, http.ResponseProtocolError):
            # its message may quote what the server sent
            why = event.message.partition(":")[0].partition(" b'")[0]
            yield from _original_event_to_child(
                layer, stream, http.ResponseProtocolError(event.stream_id, why, event.code)
            )
            return
        if exchange is None or exchange.fault is not None or exchange.refusal is not None:
            yield from self._fail_stream(layer, stream, "the answer was refused")
            return
        scrubbed = None
        try:
            scrubbed = withhold(exchange, scrub_event(exchange, event))
        except Refusal as refusal:
            exchange.refusal = refusal
        except Exception as error:  # noqa: BLE001 - whatever fails here, the bytes stay
            self._fault(stream.flow, error)
        if scrubbed is None:
            yield from self._fail_stream(layer, stream, "the answer could not be read")
            return
        for clean in scrubbed:
            yield from _original_event_to_child(layer, stream, clean)

    def _note(self, stream: layers.HttpStream, event: MessageRefused) -> None:
        """A request that is refused is journaled as that; an answer that is, as a failed server."""
        exchange = self._exchanges.get(stream.flow)
        if exchange is not None and isinstance(event, RequestRefused):
            exchange.refusal = exchange.refusal or event.refusal

    def _fail_stream(self, layer: layers.HttpLayer, stream: layers.HttpStream, why: str) -> Commands:
        """Ends a stream with an error, and closes its server connection, whose state is no longer known."""
        server = stream.context.server
        if server in layer.connections and server.connected:
            yield commands.CloseConnection(server)
        error = http.ResponseProtocolError(stream.stream_id, why, http.ErrorCode.GENERIC_SERVER_ERROR)
        yield from _original_event_to_child(layer, stream, error)


def _log_unquoted(log: commands.Log, message: str, level: int = logging.INFO) -> None:
    """What mitmproxy's layers log, without their quotes of bytes that came from a connection."""
    _original_log(log, _QUOTE.split(message, maxsplit=1)[0], level)
