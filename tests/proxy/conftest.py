"""What of mitmproxy these tests take apart, in one place: its HTTP layer in memory, its flows, its addon manager."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import pytest
from mitmproxy import flow as flows
from mitmproxy import http, options, optmanager
from mitmproxy.addonmanager import AddonManager, Loader
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import Headers, MessageData
from mitmproxy.net.http import http1
from mitmproxy.net.http.http1 import read
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.commands import Log, StartHook
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.test import tflow
from mitmproxy.utils import asyncio_utils

from coatcheck.exchange import Exchange, ExchangeId, Exchanges, Release
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.policy.model import Server as PolicyServer
from coatcheck.proxy import lockdown
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.wire import WireGate
from coatcheck.vault.bindings import Binding
from coatcheck.vault.plan import SwapPlan, Use
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo

HOST, PORT = "shop.test", 80
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
POLICY = Policy(audience="urn:test", sha256="p" * 64, files=())
SERVER = PolicyServer("shop", f"http://{HOST}/mcp", "http", HOST, PORT, "/mcp", credential="shop-key")
CANARY = b"sk-live-5f1d0c7e9a3b4826"
SHOP = """
coatcheck: 1
gateway: {audience: "https://gateway.shop.example"}
issuers:
  ci: {issuer: "https://idp.shop.example", algorithms: [ES256]}
identities:
  job: {issuer: ci, claims: {repository_id: "1"}}
  other: {issuer: ci, claims: {repository_id: "2"}}
"""


def proxy_options() -> options.Options:
    """mitmproxy's options with those of its proxy, as the gateway forces them."""
    master = _Master()
    Proxyserver().load(Loader(master))
    lockdown.force(master.options, {})
    return master.options


class Wire:
    """One client connection through mitmproxy's HTTP layer in memory, as the self-test drives it.

    `on` maps a hook's name, or `connecting`, to what happens to the flow then; by default a request is released.
    Without `drive_hooks` no hook comes to its end.
    `sent` is what the server got, `received` what the client got, `opened` how many connections were opened.
    """

    def __init__(self, exchanges: Exchanges, on: dict[str, Callable[[http.HTTPFlow], object]] | None = None) -> None:
        self.exchanges = exchanges
        self.on = {"request": self.release, **(on or {})}
        self.client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
        context = Context(self.client, proxy_options())
        context.server = Server(address=(HOST, PORT))
        self.layer = HttpLayer(context, HTTPMode.transparent)
        self.sent = self.received = b""
        self.logged: list[str] = []
        self.opened = 0
        self.flows: list[http.HTTPFlow] = []
        self.server: Server | None = None
        self.drive_hooks = True
        self.drive(events.Start())

    def ask(self, request: bytes) -> None:
        """Bytes from the client."""
        self.drive(events.DataReceived(self.client, request))

    def answer(self, response: bytes) -> None:
        """Bytes from the server, where the connection is still open."""
        assert self.server is not None
        if self.server.state is ConnectionState.OPEN:
            self.drive(events.DataReceived(self.server, response))

    def release(self, flow: http.HTTPFlow) -> Exchange:
        """What the stages do for a request that is allowed."""
        exchange = Exchange(ExchangeId(f"x-{len(self.flows)}"), POLICY, 0.0)
        exchange.target = Target("http", HOST, PORT)
        exchange.server = SERVER
        exchange.is_mcp = True
        binding = Binding(server="shop", unsafe_plain_http=True)
        info = SecretInfo("shop-key", 1, "coat_shop", (binding,), NOW, "")
        exchange.swap = SwapPlan((Use(Credential(info, Secret(CANARY)), binding, injected=True),))
        exchange.release = Release(digest_of(flow.request))
        self.exchanges[flow] = exchange
        return exchange

    def drive(self, event: events.Event) -> None:
        for command in list(self.layer.handle_event(event)):
            match command:
                case commands.OpenConnection():
                    self.opened += 1
                    self._call("connecting", self.flows[-1])
                    self.server = command.connection
                    self.server.state = ConnectionState.OPEN
                    self.drive(events.OpenConnectionCompleted(command, None))
                case commands.SendData():
                    if command.connection is self.client:
                        self.received += command.data
                    else:
                        self.sent += command.data
                case commands.CloseConnection():
                    command.connection.state = ConnectionState.CLOSED
                case commands.Log():
                    self.logged.append(command.message)
                case commands.StartHook():
                    (data,) = command.args()
                    if isinstance(data, http.HTTPFlow):
                        if data not in self.flows:
                            self.flows.append(data)
                        self._call(command.name, data)
                    if command.blocking and self.drive_hooks:
                        self.drive(events.HookCompleted(command))
                case _:
                    pass

    def _call(self, name: str, flow: http.HTTPFlow) -> None:
        if (action := self.on.get(name)) is not None:
            action(flow)


@pytest.fixture
def exchanges() -> Exchanges:
    return WeakKeyDictionary()


@pytest.fixture(autouse=True)
def mitmproxy_as_it_was() -> Iterator[None]:
    """Takes back what a test put into mitmproxy's own classes."""
    places = [
        (HttpLayer, "event_to_child"),
        (HttpLayer, "get_connection"),
        (Http1Server, "read_headers"),
        (Http1Server, "read_body"),
        (Http1Server, "wait"),
        (Http1Client, "read_headers"),
        (Http1Client, "read_body"),
        (MessageData, "__post_init__"),
        (Headers, "get_all"),
        (Headers, "get"),
        (Headers, "__getitem__"),
        (Headers, "__contains__"),
        (Context, "fork"),
        (HttpStream, "check_body_size"),
        (StartHook, "__new__"),
        (Log, "__init__"),
        (flows, "uuid"),
        (ProxyConnectionHandler, "handle_hook"),
        (asyncio_utils, "set_task_debug_info"),
        (read, "url"),
        (http1, "expected_http_body_size"),
        (optmanager._Option, "current"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in places]
    yield
    for owner, name, value in before:
        setattr(owner, name, value)


@pytest.fixture
def gate(exchanges: Exchanges) -> WireGate:
    """A wire gate, installed."""
    gate = WireGate(exchanges, ScrubberCache())
    gate.install()
    return gate


@pytest.fixture
def wire(gate: WireGate, exchanges: Exchanges) -> Callable[..., Wire]:
    """Makes a connection through the gate; keyword arguments are hooks."""
    return lambda **on: Wire(exchanges, on)


@pytest.fixture
def canary() -> bytes:
    """The secret that is put in on the wire."""
    return CANARY


@pytest.fixture
def flow() -> http.HTTPFlow:
    """A live flow without an answer."""
    flow = tflow.tflow()
    flow.client_conn.state = ConnectionState.OPEN
    flow.live = True
    return flow


@pytest.fixture
def exchange_of(exchanges: Exchanges) -> Callable[[http.HTTPFlow], Exchange]:
    """Gives a flow an exchange of an MCP server."""

    def exchange_of(flow: http.HTTPFlow) -> Exchange:
        exchange = exchanges[flow] = Exchange(ExchangeId("x-1"), POLICY, 0.0)
        exchange.target = Target("http", HOST, PORT)
        exchange.server = SERVER
        exchange.is_mcp = True
        return exchange

    return exchange_of


@pytest.fixture(scope="session")
def load_shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Policy]:
    """Loads a policy of two identities, `job` and `other`, with the servers, rules and masks that are given."""

    def load_shop(rest: str) -> Policy:
        path = tmp_path_factory.mktemp("shop") / "policy.yaml"
        path.write_text(SHOP + rest)
        return load_policy(path, secrets=frozenset())

    return load_shop


@pytest.fixture(scope="session")
def shop_exchange() -> Callable[..., Exchange]:
    """Makes an exchange of a caller with an MCP server of a policy, with a token that is good for five minutes more."""

    def shop_exchange(
        policy: Policy, *, now: datetime, server: str = "shop", caller: str = "job", subject: str = "repo:1"
    ) -> Exchange:
        made = Exchange(ExchangeId("x-1"), policy, 0.0)
        made.target, made.server = Target("https", f"{server}.example", 443), policy.servers[server]
        made.is_mcp, made.headers = True, {"mcp-protocol-version": "2025-11-25"}
        made.caller = Caller(caller, "ci", subject, "token-1", now + timedelta(minutes=5))
        return made

    return shop_exchange


class _Commands:
    def collect_commands(self, addon: object) -> None:
        """A master's commands: none are collected here."""


class _Master:
    def __init__(self) -> None:
        self.options = options.Options()
        self.commands = _Commands()


@pytest.fixture
def new_manager() -> Callable[[], AddonManager]:
    """Makes an addon manager with no addon."""
    return lambda: AddonManager(_Master())
