"""Release: the decision is on disk, so the exact request may go.

Law: written before sent (P3). A journal that cannot be written is a 503, and nothing leaves.
"""

from mitmproxy import http

from coatcheck.exchange import Exchanges, Release
from coatcheck.proxy.journal_request import durable


class ReleaseRequest:
    """The last stage before the wire gate: stamps the release."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    async def request(self, flow: http.HTTPFlow) -> None:
        """Waits for the disk."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.writing is None or flow.response or flow.error or not flow.live:
            return
        await durable(exchange.writing.written)
        exchange.release = Release(exchange.writing.digest)
