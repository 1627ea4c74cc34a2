"""Put on a stream: events of ours for a client whose answer is streaming, from outside its connection.

Law: they go out whole, between two pieces of the answer, and only while it lasts.
mitmproxy has such a way for WebSocket messages (`MessageInjected`); the gate in `wire.py` gives it to HTTP streams.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http._events import ResponseData
from mitmproxy.proxy.layers.http._http1 import Http1Server

type Commands = Iterator[commands.Command]

_original_event_to_child = layers.HttpLayer.event_to_child


@dataclass(frozen=True, slots=True)
class _ByClient:
    """What mitmproxy finds the way by: the client's connection, which knows its stream as long as there is one."""

    client_conn: Client
    server_conn: None = None


@dataclass
class StreamMessage(events.MessageInjected[bytes]):
    """`message`, whole events, is for the stream that `answered` is."""

    answered: http.HTTPFlow


def put_on_stream(flow: http.HTTPFlow, data: bytes) -> StreamMessage:
    """What to give to the handler of the flow's client connection."""
    return StreamMessage(_ByClient(flow.client_conn), data, flow)  # type: ignore[arg-type]


def deliver(layer: layers.HttpLayer, stream: layers.HttpStream, message: StreamMessage) -> Commands:
    """`HttpLayer.event_to_child` for a message: on to the layer within a tunnel, or out to the client."""
    if stream.child_layer is not None:
        yield from _original_event_to_child(layer, stream, message)
        return
    connection = layer.connections.get(layer.context.client)
    if (
        getattr(stream, "flow", None) is message.answered
        and isinstance(connection, Http1Server)
        and connection.stream_id == stream.stream_id
        and connection.response is not None
        and stream.server_state == stream.state_stream_response_body
    ):
        yield from _original_event_to_child(layer, connection, ResponseData(stream.stream_id, message.message))
