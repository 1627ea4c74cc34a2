"""Discover: a gateway URL tells clients without a token where tokens come from (RFC 9728).

Law: nothing is told but the URL the client dialled and the policy's issuers; nothing goes to a server for it.
"""

import json
from contextlib import suppress

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.target import Target, parse_authority
from coatcheck.identity.resource_metadata import described_path, metadata_url, resource_metadata


class Discover:
    """After the guard: answers for metadata, and keeps where it is for the challenges of later stages."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Only at gateway URLs: in a tunnel, or as a proxy, it would speak for the server."""
        exchange = self._exchanges.get(flow)
        if exchange is None or flow.response or not flow.live or exchange.server is None:
            return
        if exchange.target is None or exchange.target.via is None:
            return
        path = flow.request.path.partition("?")[0]
        described = described_path(path)
        if described is None:
            with suppress(Refusal):  # by a name that is none, nobody finds the way back: then there is no metadata
                exchange.metadata_url = metadata_url(_dialled(flow, exchange), path)
            return
        if flow.request.method != "GET":
            raise Refusal("not-found", "nothing is served here", status=404)
        resource = _dialled(flow, exchange) + (described or exchange.server.path)
        body = json.dumps(resource_metadata(resource, exchange.policy.issuer_urls)).encode()
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        flow.response = http.Response.make(200, body, headers)


def _dialled(flow: http.HTTPFlow, exchange: Exchange) -> str:
    """Scheme, host and port of the URL dialled. Raises `Refusal` (400 `bad-host`) where the Host header is none."""
    scheme = "https" if flow.client_conn.tls_established else "http"
    host, port = parse_authority(exchange.headers.get("host", ""), default_port=443 if scheme == "https" else 80)
    return str(Target(scheme, host, port))
