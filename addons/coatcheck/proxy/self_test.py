"""The wire gate proves itself before the gateway opens its doors.

A canary exchange runs through mitmproxy's own HTTP layer in memory, without a socket: its secret must leave swapped
in, come back scrubbed, and never stand in the flow; the same request without a release must leave nothing.
A mitmproxy whose inside has moved fails here, at start, not in traffic.
"""

import secrets
from datetime import UTC, datetime

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpRequestHook

from coatcheck.errors import CoatcheckError
from coatcheck.exchange import Exchange, ExchangeId, Exchanges, Release
from coatcheck.http.target import Target
from coatcheck.policy.model import Policy
from coatcheck.policy.model import Server as PolicyServer
from coatcheck.proxy.digest import digest_of
from coatcheck.vault.bindings import Binding
from coatcheck.vault.plan import SwapPlan, Use
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo

_HOST, _PORT = "canary.invalid", 80


def self_test(exchanges: Exchanges, options: Options) -> None:
    """Raises `CoatcheckError` where the gate does not hold."""
    canary = secrets.token_hex(16).encode()
    sent, received, flow = _run(exchanges, options, canary, with_release=True)
    seen = repr(flow.get_state()).encode()
    holds = {
        "a released request must leave with its secret": canary in sent,
        "an echoed secret must not reach the client": b"HTTP/1.1 200" in received and canary not in received,
        "a secret must never stand in a flow": canary not in seen,
        "a request without a release must not leave": not _run(exchanges, options, canary, with_release=False)[0],
        "a request changed after its release must not leave": not _run(
            exchanges, options, canary, with_release=True, is_changed=True
        )[0],
    }
    broken = [claim for claim, is_true in holds.items() if not is_true]
    if broken:
        raise CoatcheckError(
            f"the wire gate does not hold: {'; '.join(broken)}",
            where="self-test",
            hint="this mitmproxy is not one the gateway knows; install the pinned version",
        )


def _run(
    exchanges: Exchanges, options: Options, canary: bytes, *, with_release: bool, is_changed: bool = False
) -> tuple[bytes, bytes, HTTPFlow]:
    """One canary exchange: bytes to the server, bytes to the client, and the flow."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    context = Context(client, options)
    context.server = Server(address=(_HOST, _PORT))
    layer = HttpLayer(context, HTTPMode.transparent)
    sent: dict[object, bytes] = {}
    flows: list[HTTPFlow] = []
    servers: list[Server] = []

    def drive(event: events.Event) -> None:
        for command in list(layer.handle_event(event)):
            match command:
                case commands.OpenConnection():
                    command.connection.state = ConnectionState.OPEN
                    servers.append(command.connection)
                    drive(events.OpenConnectionCompleted(command, None))
                case commands.SendData():
                    sent[command.connection] = sent.get(command.connection, b"") + command.data
                case commands.StartHook():
                    if isinstance(command, HttpRequestHook):
                        flows.append(command.flow)
                        if with_release:
                            _release(exchanges, command.flow, canary)
                        if is_changed:
                            command.flow.request.path = "/elsewhere"
                    if command.blocking:
                        drive(events.HookCompleted(command))
                case _:
                    pass

    drive(events.Start())
    drive(events.DataReceived(client, b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % _HOST.encode()))
    for server in servers:
        body = b"you sent " + canary
        drive(events.DataReceived(server, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))
    to_server = b"".join(data for connection, data in sent.items() if connection is not client)
    return to_server, sent.get(client, b""), flows[0]


def _release(exchanges: Exchanges, flow: HTTPFlow, canary: bytes) -> None:
    policy = Policy(audience="urn:coatcheck:self-test", sha256="", files=())
    exchange = Exchange(ExchangeId("self-test"), policy, 0.0)
    exchange.target = Target("http", _HOST, _PORT)
    exchange.server = PolicyServer("canary", f"http://{_HOST}/", "http", _HOST, _PORT, "/", credential="canary")
    binding = Binding(server="canary", unsafe_plain_http=True)
    info = SecretInfo("canary", 1, "coat_canary", (binding,), datetime.now(UTC), "")
    exchange.swap = SwapPlan((Use(Credential(info, Secret(canary)), binding, injected=True),))
    exchange.release = Release(digest_of(flow.request))
    exchange.finished = True
    exchanges[flow] = exchange
