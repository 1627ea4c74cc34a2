"""Guard: what is the target, and is this request well-formed?

Law: the target is what the client connected to (CONNECT, an absolute URL, or a gateway URL), never what a Host
header says; where they differ the request is misdirected (421, RFC 9110 section 15.5.20).
Law: the address that was checked is the address that is dialled.
"""

import asyncio
import socket
import time
from collections.abc import Sequence

import certifi
from mitmproxy import http, tls
from mitmproxy.connection import Client
from mitmproxy.connection import Server as ServerConnection
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.mode_specs import ReverseMode

from coatcheck.errors import GATEWAY_FAULT, Refusal
from coatcheck.exchange import Dialling, Exchange, Exchanges, Numbering, Tunnel, Tunnels
from coatcheck.http.addresses import first_reachable
from coatcheck.http.headers import check_head
from coatcheck.http.origin import check_loopback_host, check_origin
from coatcheck.http.paths import check_path
from coatcheck.http.target import Target, canonical_host, parse_authority
from coatcheck.identity.resource_metadata import WELL_KNOWN, described_path
from coatcheck.live import Live
from coatcheck.policy.model import Policy, Server
from coatcheck.policy.servers import is_endpoint, is_taken_for_another, server_for, servers_at, speaks_mcp
from coatcheck.proxy.legacy_sse import Streams, server_of_endpoint
from coatcheck.proxy.verify_server import verified_connection
from coatcheck.settings import Reverse

_SERVER_NAME = 0
"""The TLS extension (RFC 6066 section 3)."""


class Guard:
    """Opens the exchange, or refuses what is not a plain request to a declared server."""

    def __init__(
        self,
        live: Live,
        exchanges: Exchanges,
        tunnels: Tunnels,
        dialling: Dialling,
        reverse: Sequence[Reverse],
        streams: Streams,
    ) -> None:
        self._streams = streams
        self._live = live
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._dialling = dialling
        self._reverse = {entry.port: entry for entry in reverse}
        self._numbering = Numbering()
        self._pinned: dict[str, tuple[str, int]] = {}

    # -- requests ----------------------------------------------------------------------------------------------

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Only the exact host and port of a declared server, whoever asks."""
        exchange = self._open(flow)
        if self._live.is_draining:
            raise _draining()
        exchange.headers = check_head("CONNECT", flow.request.headers.fields)
        host, port = _as_spelt(flow.request.data.host), flow.request.port
        exchange.target = Target("https", host, port)
        if not servers_at(exchange.policy, host, port):
            raise _unknown(exchange.target)
        named = exchange.headers.get("host")  # some clients leave it out, and some its port
        if named is not None and parse_authority(named, default_port=port) != (host, port):
            raise _misdirected("the Host header is not the host connected to")
        self._tunnels[flow.client_conn] = Tunnel(host, port)
        flow.request.data.host = host

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Notes a server name that mitmproxy cannot read: it would go on as if there were none."""
        tunnel, hello = self._tunnels.get(data.context.client), data.client_hello
        if tunnel is not None:
            has_name = any(kind == _SERVER_NAME for kind, _ in hello.extensions)
            tunnel.has_good_name = hello.sni is not None or not has_name

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The head as a target and headers by name."""
        if not flow.live:
            return  # loaded from a file: never on its way anywhere
        exchange = self._open(flow)
        if flow.is_replay:
            raise Refusal("replay-refused", "a replayed request has no caller", status=403)
        if self._live.is_draining:
            raise _draining()
        method = flow.request.data.method.decode("latin-1")
        exchange.headers = check_head(method, flow.request.headers.fields)
        exchange.target = self._target(flow, exchange)
        check_path(flow.request.path.partition("?")[0])
        self._find_server(exchange, exchange.target, method, flow.request.path)
        if exchange.is_mcp:
            check_origin(exchange.headers.get("origin"), exchange.headers.get("host"))
        flow.request.data.host = exchange.target.host
        flow.request.data.port = exchange.target.port
        if exchange.target.via is not None:
            flow.request.headers.pop("origin", None)  # it was that of the gateway URL

    def _open(self, flow: http.HTTPFlow) -> Exchange:
        exchange = Exchange(self._numbering.next(), self._live.policy, time.monotonic(), observes=self._live.observes)
        self._exchanges[flow] = exchange
        return exchange

    def _find_server(self, exchange: Exchange, target: Target, method: str, path: str) -> None:
        """Which server this is for, and whether it speaks MCP there. `path` is with its query."""
        legacy = server_of_endpoint(exchange.policy, self._streams, target, path) if method == "POST" else None
        if legacy is not None:
            exchange.server, exchange.endpoint, exchange.is_mcp = legacy, path, True
            return
        plain = path.partition("?")[0]
        exchange.server = self._server(exchange.policy, target, plain)
        exchange.is_mcp = is_endpoint(exchange.server, plain) and speaks_mcp(exchange.policy, exchange.server)

    def _target(self, flow: http.HTTPFlow, exchange: Exchange) -> Target:
        request, client = flow.request, flow.client_conn
        if request.scheme not in ("http", "https"):
            raise Refusal("bad-scheme", "only http and https are spoken")
        if not request.path.startswith("/") or request.authority:
            raise Refusal("bad-request-target", "the request target must be a path here")
        if isinstance(client.proxy_mode, ReverseMode):
            return self._reverse_target(client, exchange)
        tunnel = self._tunnels.get(client)
        if tunnel is None:
            target = Target(request.scheme, _as_spelt(request.data.host), request.port)
        else:
            target = Target(request.scheme, tunnel.host, tunnel.port)
            if request.scheme == "https":
                _check_name(tunnel, client)
        default = 443 if target.scheme == "https" else 80
        if "host" not in exchange.headers:
            raise Refusal("bad-host", "a Host header is missing")
        host = exchange.headers["host"]
        if host != target.authority and parse_authority(host, default_port=default) != (target.host, target.port):
            raise _misdirected("the Host header is not the host connected to")
        return target

    def _reverse_target(self, client: Client, exchange: Exchange) -> Target:
        entry = self._reverse.get(client.proxy_mode.custom_listen_port or 0)
        server = exchange.policy.servers.get(entry.server) if entry is not None else None
        if entry is None or server is None:
            raise Refusal("unknown-host", "no server is behind this address", status=403)
        check_loopback_host(entry.host, exchange.headers.get("host"), audience=exchange.policy.audience)
        return Target(server.scheme, server.host, server.port, via=server.name)

    @staticmethod
    def _server(policy: Policy, target: Target, path: str) -> Server:
        # at a gateway URL, metadata is about the path it names, or about the server
        described = described_path(path) if target.via is not None else None
        asked = path if described is None else described or policy.servers[target.via or ""].path
        server = server_for(policy, target.scheme, target.host, target.port, asked)
        if server is None and path.startswith(WELL_KNOWN):
            raise Refusal("not-found", "nothing is served here", status=404)  # clients probe: any other status alarms
        if server is None or (target.via is not None and server.name != target.via):
            raise _unknown(target)
        if is_taken_for_another(policy, server, asked):
            raise Refusal("bad-path", "some servers take the path for one of another server of the policy")
        if server.tunnel:
            raise Refusal("tunnel-only", f"{server.name} is reached through a tunnel only", status=403)
        return server

    # -- connections to servers --------------------------------------------------------------------------------

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Resolves the name, checks every address, and pins the one to dial."""
        assert data.server.address is not None
        host, port = data.server.address[:2]
        servers = servers_at(self._live.policy, host, port)
        if not servers:
            raise Refusal("unknown-host", "the server is not declared")
        tunnel = self._tunnels.get(data.client)
        is_relayed = tunnel is not None and tunnel.exchange is not None
        if not is_relayed and self._dialling.get(data.client) != (host, port):
            # whatever layer mitmproxy chose for what is no HTTP, it opens nothing
            raise Refusal("not-released", "nothing was released for this connection")
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise Refusal("server-unreachable", f"{host} does not resolve") from None
        listed = [network for server in servers for network in server.addresses]
        address = first_reachable([str(info[4][0]) for info in infos], listed)
        if address is None:
            raise Refusal("address-refused", f"{host} resolves to an address the policy does not list for it")
        self._pinned[data.server.id] = (host, port)
        data.server.address = (address, port)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Gives the connection its name back: kept connections and TLS verification go by it."""
        if (named := self._pinned.pop(data.server.id, None)) is not None:
            # mitmproxy forbids another address on an open connection; this is the same one, by name
            object.__setattr__(data.server, "address", named)

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        """The same where the connection failed."""
        self.server_connected(data)

    def tls_start_server(self, data: tls.TlsData) -> None:
        """Verifies the server's certificate for the host connected to, with the policy's CA or certifi's roots."""
        connection = data.conn
        assert isinstance(connection, ServerConnection)
        assert connection.address is not None
        host, port = connection.address[:2]
        ca = next((str(s.ca) for s in servers_at(self._live.policy, host, port) if s.ca is not None), certifi.where())
        connection.sni = host
        connection.alpn_offers = [b"http/1.1"]
        data.ssl_conn = verified_connection(host, ca)


def _as_spelt(host: str) -> str:
    """The host of a request line in its canonical form: mitmproxy has decoded its `xn--` labels."""
    try:
        return canonical_host(host if host.isascii() else host.encode("idna").decode("ascii"))
    except UnicodeError:
        raise Refusal("bad-host", "the host is not a canonical name or address") from None


def _draining() -> Refusal:
    return Refusal("shutting-down", "the gateway is shutting down", status=503, code=GATEWAY_FAULT, retryable=True)


def _unknown(target: Target) -> Refusal:
    return Refusal("unknown-host", f"{target.authority} is not a server of the policy", status=403)


def _check_name(tunnel: Tunnel, client: Client) -> None:
    """The TLS server name is the CONNECT host, or was left out. Raises `Refusal`."""
    if tunnel.has_good_name is None:
        message = "the TLS server name was not looked at"
        raise Refusal("gateway-fault", message, status=503, code=GATEWAY_FAULT, retryable=True)
    if not tunnel.has_good_name or (client.sni is not None and canonical_host(client.sni) != tunnel.host):
        raise _misdirected("the TLS server name is not the CONNECT host")


def _misdirected(message: str) -> Refusal:
    return Refusal("misdirected", message, status=421)
