"""Release: the decision is on disk, so the exact request may go.

Law: written before sent (P3). A journal that cannot be written is a 503, and nothing leaves.
Law: a call that was held and whose client gave it up while its record was written is not sent either.
"""

from mitmproxy import http
from mitmproxy.connection import ConnectionState

from coatcheck.errors import APPROVAL_DENIED, Refusal
from coatcheck.exchange import Exchange, Exchanges, Release
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
        if exchange.approval is not None:
            _check_wanted(flow, exchange)
        exchange.release = Release(exchange.writing.digest)


def _check_wanted(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Raises `Refusal` where the client cancelled the call after it was approved, or has left."""
    if exchange.given_up:
        message = "the call was cancelled after it was approved, and is not sent"
        raise Refusal("held-call-cancelled", message, status=200, code=APPROVAL_DENIED, approval=exchange.approval)
    if not flow.client_conn.state & ConnectionState.CAN_READ:
        message = "the client left after its call was approved"
        raise Refusal("client-left", message, status=499, approval=exchange.approval)
