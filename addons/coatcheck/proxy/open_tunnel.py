"""Open a tunnel: a server that the policy reaches but does not open.

Law: nothing is relayed but TLS whose server name is the CONNECT host, to that host, after a journaled allow; a secret
never goes in here, for nothing here is read.
"""

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.tls import parse_client_hello

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchanges, Tunnel, Tunnels
from coatcheck.http.target import canonical_host
from coatcheck.journal.records import outcome_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.policy.decision import Allow
from coatcheck.policy.servers import servers_at
from coatcheck.proxy.authorize import decide_exchange
from coatcheck.proxy.journal_request import begin_record, durable

_TLS_HANDSHAKE = b"\x16\x03"
_CLIENT_HELLO = b"\x01"
CONNECT = Call(kind="http", method="CONNECT", name="/")


class OpenTunnel:
    """Decides CONNECT to servers with `tunnel: true`, and relays what then comes if it is their TLS."""

    def __init__(self, exchanges: Exchanges, tunnels: Tunnels, journal: JournalWriter) -> None:
        self._exchanges = exchanges
        self._tunnels = tunnels
        self._journal = journal

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """A verdict for the whole tunnel: nobody will see what is in it."""
        exchange, tunnel = self._exchanges.get(flow), self._tunnels.get(flow.client_conn)
        if exchange is None or tunnel is None or flow.response:
            return
        servers = servers_at(exchange.policy, tunnel.host, tunnel.port)
        exchange.server = next((server for server in servers if server.tunnel), None)
        if exchange.server is None:
            return
        if tunnel.refusal is not None:
            raise tunnel.refusal
        exchange.inspected = Inspected(calls=(CONNECT,), body=b"", kind="request", version=None, ids=())
        if not isinstance(decide_exchange(exchange), Allow):
            raise Refusal("tunnel-not-approvable", "a tunnel cannot be held for approval", status=403)
        await durable(begin_record(self._journal, exchange, digest=""))
        tunnel.exchange = exchange

    def next_layer(self, data: layer.NextLayer) -> None:
        """Relays the server's own TLS unopened; closes on anything else."""
        tunnel = self._tunnels.get(data.context.client)
        if tunnel is None or tunnel.exchange is None or not data.context.layers[1:]:
            return
        first = data.data_client()
        is_tls = first.startswith(_TLS_HANDSHAKE[: len(first)]) and first[5:6] in (b"", _CLIENT_HELLO)
        try:
            hello = parse_client_hello(first) if is_tls and len(first) > 2 else None
        except ValueError:
            is_tls, hello = False, None
        if hello is None and is_tls:
            raise Refusal("not-whole", "the TLS hello is not whole yet")  # nor is it another addon's to decide
        fits = hello is not None and hello.sni is not None and _same_host(hello.sni, tunnel)
        tunnel.exchange.sent = fits
        data.layer = TCPLayer(data.context, ignore=True) if fits else _Close(data.context)

    def client_disconnected(self, client: Client) -> None:
        """The tunnel's outcome."""
        tunnel = self._tunnels.get(client)
        if tunnel is None or tunnel.exchange is None or tunnel.exchange.finished:
            return
        tunnel.exchange.finished = True
        self._journal.append_later(
            "outcome",
            outcome_record(
                exchange=tunnel.exchange.id,
                status=None,
                outcome="answered" if tunnel.exchange.sent else "refused",
                milliseconds=0.0,
                masked={},
                scrubbed={},
                bytes_sent=0,
                session=None,
            ),
        )


class _Close(layer.Layer):
    """Ends the connection."""

    def _handle_event(self, _event: events.Event) -> layer.CommandGenerator[None]:
        yield commands.CloseConnection(self.context.client)


def _same_host(name: str, tunnel: Tunnel) -> bool:
    try:
        return canonical_host(name) == tunnel.host
    except Refusal:
        return False
