"""Tell the client: a failure on the wire in the caller's own terms.

Law: a whole answer is JSON-RPC or a problem, within a stream it is an error event, and nothing follows either: the
connection ends. Nothing that a server or mitmproxy said is in it.
"""

from collections.abc import Iterator

from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._http1 import Http1Server

from coatcheck.errors import SERVER_FAILED, Refusal
from coatcheck.exchange import Exchanges
from coatcheck.proxy.answer import answer, last_events
from coatcheck.proxy.refused import MessageRefused

type Commands = Iterator[commands.Command]

NOT_RELEASED = "nothing was released for this request"

_original_event_to_child = layers.HttpLayer.event_to_child


def answers_head(child: Layer) -> bool:
    """Whether this connection answers HEAD: a body would be read as the next answer (RFC 9110 section 9.3.2)."""
    return isinstance(child, Http1Server) and child.request is not None and child.request.data.method == b"HEAD"


def tell_client(
    exchanges: Exchanges, layer: layers.HttpLayer, child: Layer, event: http.ResponseProtocolError
) -> Commands:
    """In place of handing `event` to the client's connection, `child`."""
    stream = layer.streams.get(event.stream_id)
    connection = child if isinstance(child, Http1Server) else None
    if stream is None or connection is None or not hasattr(stream, "flow"):
        yield from _original_event_to_child(layer, child, event)
        return
    exchange = exchanges.get(stream.flow)
    refusal = (exchange.refusal if exchange else None) or _as_refusal(event)
    if connection.response is None and event.code.http_status_code() is not None:
        response = answer(refusal, exchange)
        response.headers["connection"] = "close"
        head = http.ResponseHeaders(event.stream_id, response, end_stream=False)
        yield from _original_event_to_child(layer, child, head)
        if not answers_head(child):
            body = http.ResponseData(event.stream_id, response.raw_content or b"")
            yield from _original_event_to_child(layer, child, body)
        yield from _original_event_to_child(layer, child, event)
    elif exchange is not None and exchange.streaming and not exchange.answered_error and connection.response:
        exchange.answered_error = True
        if last := last_events(refusal, exchange):
            yield from _original_event_to_child(layer, child, http.ResponseData(event.stream_id, last))
        yield from _original_event_to_child(layer, child, http.ResponseEndOfMessage(event.stream_id))
        yield commands.CloseConnection(layer.context.client)
    else:
        yield from _original_event_to_child(layer, child, event)


def _as_refusal(event: http.ResponseProtocolError) -> Refusal:
    """mitmproxy's error as ours: 400 and 413 for the client's faults, 502 for the server's."""
    if isinstance(event, MessageRefused):
        return event.refusal
    status = event.code.http_status_code() or 502
    if status == 413:
        return Refusal("body-too-large", "the request body is over the limit", status=413)
    if status == 400:
        return Refusal("bad-request", "the request is not well-formed")
    if event.message == NOT_RELEASED:
        return Refusal("not-released", NOT_RELEASED, status=503, code=SERVER_FAILED)
    reason = event.message if event.code is http.ErrorCode.CONNECT_FAILED else "the server failed"
    return Refusal("server-failed", reason, status=502, code=SERVER_FAILED, retryable=True)
