"""What is not HTTP does not pass mitmproxy's own layers, should lockdown ever let it come to one of them."""

import asyncio

import pytest
import wsproto.frame_protocol
from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, events, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.test import tflow

from coatcheck.proxy.fail_closed import NOT_RELAYED, FailClosed

QUESTION = b"\x00\x2a\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03dns\x06google\x00\x00\x01\x00\x01"
MASKED = wsproto.frame_protocol.XorMaskerSimple(b"\x01\x02\x03\x04").process(b"payload")
FRAME = b"\x81\x87\x01\x02\x03\x04" + MASKED

KINDS = {
    "tcp": (layers.TCPLayer, b"payload", b"payload"),
    "udp": (layers.UDPLayer, b"payload", b"payload"),
    "dns": (layers.DNSLayer, QUESTION, QUESTION),
    "websocket": (lambda context: layers.WebsocketLayer(context, tflow.twebsocketflow()), FRAME, b"\x81\x07payload"),
}


class Relay:
    """One layer between a client and a server, with the hooks it asks for."""

    def __init__(self, kind: str, hooks: dict) -> None:
        transport = "udp" if kind in ("udp", "dns") else "tcp"
        self.client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), transport_protocol=transport)
        self.client.state = ConnectionState.OPEN
        self.server = Server(address=("server.example", 7), transport_protocol=transport)
        self.hooks = hooks
        self.sent: dict[object, bytes] = {self.client: b"", self.server: b""}
        self.fired: list[str] = []
        context = Context(self.client, options.Options())
        context.server = self.server
        self.layer: Layer = KINDS[kind][0](context)
        self.drive(events.Start())
        self.server.state = ConnectionState.OPEN

    def drive(self, event: events.Event) -> None:
        for command in list(self.layer.handle_event(event)):
            match command:
                case commands.OpenConnection():
                    command.connection.state = ConnectionState.OPEN
                    self.drive(events.OpenConnectionCompleted(command, None))
                case commands.SendData():
                    self.sent[command.connection] += command.data
                case commands.StartHook():
                    self.fired.append(command.name)
                    if command.name in self.hooks:
                        asyncio.run(self.hooks[command.name](*command.args()))
                    if command.blocking:
                        self.drive(events.HookCompleted(command))

    def payload(self, way: str) -> bytes:
        """What arrives of the message, without what a WebSocket frame has around it."""
        return self.sent[self.server if way == "out" else self.client]


@pytest.mark.parametrize("kind", ["tcp", "udp", "dns", "websocket"])
def test_what_no_stage_understands_does_not_reach_the_server(exchanges, kind) -> None:
    bare, guarded = Relay(kind, {}), Relay(kind, FailClosed([], exchanges).hooks)
    for relay in (bare, guarded):
        relay.drive(events.DataReceived(relay.client, KINDS[kind][1]))
    assert bare.payload("out")
    assert guarded.payload("out") == b""
    assert set(guarded.fired) & set(NOT_RELAYED)


@pytest.mark.parametrize("kind", ["tcp", "udp", "websocket"])
def test_nor_does_the_servers_reach_the_client(exchanges, kind) -> None:
    bare, guarded = Relay(kind, {}), Relay(kind, FailClosed([], exchanges).hooks)
    for relay in (bare, guarded):
        relay.drive(events.DataReceived(relay.server, KINDS[kind][2]))
    assert b"payload" in bare.payload("back")
    assert guarded.payload("back") == b""
