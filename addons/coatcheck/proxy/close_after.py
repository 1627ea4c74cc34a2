"""Close after: who says that this request is its connection's last is answered, and then the connection ends.

Law: nothing that comes behind such a request is read as another (RFC 9112 section 9.6). The headers of the flow do not
say it any more: a connection's own headers never leave for a server, so mitmproxy does not see it.
"""

from mitmproxy import http

from coatcheck.exchange import Exchanges


class CloseAfter:
    """Last stage, when the answer is what it will be."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Says so in the head, which is how mitmproxy knows."""
        exchange = self._exchanges.get(flow)
        listed = exchange.headers.get("connection") if exchange is not None else None
        if listed and flow.response and "close" in {token.strip().lower() for token in listed.split(",")}:
            flow.response.headers["connection"] = "close"

    def response(self, flow: http.HTTPFlow) -> None:
        """The same for an answer that is the gateway's own."""
        self.responseheaders(flow)
