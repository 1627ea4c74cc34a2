"""What goes on for long, by the client's connection that carries it: relayed tunnels, and answers that stream.

Other answers are over in a moment, and say to their caller what was done.
"""

from collections.abc import Iterator

from mitmproxy import http
from mitmproxy.connection import Client

from coatcheck.exchange import Exchange, Exchanges, Tunnels
from coatcheck.identity.caller import Verified


def under_way(exchanges: Exchanges, tunnels: Tunnels) -> Iterator[tuple[Client, Exchange, Verified]]:
    """Each with its exchange, and what the token said that began it."""
    for client, tunnel in list(tunnels.items()):
        relayed = tunnel.exchange
        if relayed is not None and not relayed.finished and isinstance(client, Client) and tunnel.verified:
            yield client, relayed, tunnel.verified
    for flow, exchange in list(exchanges.items()):
        streams = exchange.streaming and not exchange.finished
        if streams and isinstance(flow, http.HTTPFlow) and exchange.caller:
            yield flow.client_conn, exchange, exchange.caller.verified
