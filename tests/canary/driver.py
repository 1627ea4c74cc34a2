"""mitmproxy's own HTTP layer in memory, with the wire gate in it: bytes in, bytes out, no socket.

Law: what is kept of a flow is its whole state before and after every hook, as something that polls could see it.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpRequestHook

from coatcheck.exchange import Exchange, ExchangeId, Exchanges, Release
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.pins.books import Books
from coatcheck.policy.model import Policy
from coatcheck.policy.model import Server as PolicyServer
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.fail_closed import FailClosed
from coatcheck.proxy.mask import Mask
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.relay import Relay
from coatcheck.vault.bindings import Binding
from coatcheck.vault.plan import SwapPlan, Use
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo

HOST, PORT = "echo.test", 80
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
POLICY = Policy(audience="urn:coatcheck:canary", sha256="", files=())
REQUEST = b"GET /mcp HTTP/1.1\r\nHost: echo.test\r\n\r\n"


class Driver:
    """One client connection, over which requests are sent one after another, all released.

    `seen` is every state of every flow, `sent` what the server got, `received` what the client got.
    """

    def __init__(self, exchanges: Exchanges, options: Options, value: bytes, *, is_mcp: bool) -> None:
        self._exchanges = exchanges
        self._is_mcp = is_mcp
        binding = Binding(server="echo", unsafe_plain_http=True)
        info = SecretInfo("canary", 1, "coat_canary", (binding,), NOW, value[:8].hex())
        self._plan = SwapPlan((Use(Credential(info, Secret(value)), binding, injected=True),))
        self._hooks = FailClosed(
            [Mask(exchanges, Maskers(bytes(32)), lambda: NOW, Relay(lambda: NOW), Books())], exchanges
        ).hooks
        self._client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
        context = Context(self._client, options)
        context.server = Server(address=(HOST, PORT))
        self._layer = HttpLayer(context, HTTPMode.transparent)
        self._server: Server | None = None
        self.seen = bytearray()
        self.sent = bytearray()
        self.received = bytearray()
        self.exchange: Exchange | None = None
        self._drive(events.Start())

    def ask(self, pieces: Sequence[bytes], *, closes: bool) -> bytes:
        """One request, answered in these pieces, after which the server `closes`; returns what the client got."""
        del self.seen[:], self.sent[:], self.received[:]
        self._drive(events.DataReceived(self._client, REQUEST))
        assert self._server is not None
        server = self._server
        for piece in pieces:
            if server.state is ConnectionState.OPEN:
                self._drive(events.DataReceived(server, piece))
        if closes and server.state is ConnectionState.OPEN:
            server.state = ConnectionState.CLOSED
            self._drive(events.ConnectionClosed(server))
        return bytes(self.received)

    @property
    def is_open(self) -> bool:
        """Whether the client may send another request."""
        return self._client.state is ConnectionState.OPEN

    def _drive(self, event: events.Event) -> None:
        for command in list(self._layer.handle_event(event)):
            match command:
                case commands.OpenConnection():
                    command.connection.state = ConnectionState.OPEN
                    self._server = command.connection
                    self._drive(events.OpenConnectionCompleted(command, None))
                case commands.SendData():
                    (self.received if command.connection is self._client else self.sent).extend(command.data)
                case commands.CloseConnection():
                    self._close(command.connection)
                case commands.StartHook():
                    self._hook(command)
                case commands.Log():
                    self.seen += command.message.encode()
                case _:
                    pass

    def _close(self, connection: Client | Server) -> None:
        if connection.state is not ConnectionState.CLOSED:
            connection.state = ConnectionState.CLOSED
            self._drive(events.ConnectionClosed(connection))

    def _hook(self, command: commands.StartHook) -> None:
        (data,) = command.args()
        if isinstance(data, HTTPFlow):
            self.seen += _state(data)
            if isinstance(command, HttpRequestHook):
                self._release(data)
            hook = self._hooks.get(command.name)
            if hook is not None:
                _finish(hook, data)
                self.seen += _state(data)
        if command.blocking:
            self._drive(events.HookCompleted(command))

    def _release(self, flow: HTTPFlow) -> None:
        exchange = self.exchange = Exchange(ExchangeId("canary"), POLICY, 0.0)
        exchange.caller = Caller("job", "ci", "repo:1", "token-1", NOW + timedelta(minutes=5))
        exchange.target = Target("http", HOST, PORT)
        exchange.server = PolicyServer("echo", f"http://{HOST}/mcp", "http", HOST, PORT, "/mcp", credential="canary")
        exchange.is_mcp = self._is_mcp
        exchange.inspected = Inspected((Call("mcp", "tools/call", "echo", id=1),), b"", "request", None, (1,))
        exchange.request_id = 1
        exchange.swap = self._plan
        exchange.release = Release(digest_of(flow.request))
        self._exchanges[flow] = exchange


def _state(flow: HTTPFlow) -> bytes:
    """Everything of a flow that something could show, as bytes that a search for bytes finds."""
    parts = [flow.request.data, flow.response.data] if flow.response else [flow.request.data]
    out = [repr((flow.error, flow.comment, flow.metadata)).encode()]
    for part in parts:
        head = [part.path] if hasattr(part, "path") else [part.reason]
        out += [*head, *(text for field in part.headers.fields for text in field), part.content or b""]
    return b"\n".join(out)


def _finish(hook: Callable[[object], Awaitable[None] | None], data: object) -> None:
    """Runs a hook that waits for nothing."""
    waiting = hook(data)
    if waiting is not None:
        try:
            waiting.__await__().send(None)  # type: ignore[attr-defined]  # a coroutine's iterator
        except StopIteration:
            return
        raise AssertionError("a hook waited")
