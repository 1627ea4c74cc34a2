"""Limit: how many requests one caller may have in flight, held ones among them, and how large each may be.

Law: what is over a limit is refused at its head; what has ended, however it ended, does not count.
"""

from weakref import WeakSet

from mitmproxy import http

from coatcheck.errors import TOO_MANY, Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.headers import MAX_BODY_BYTES


class Limit:
    """Limits what a caller has in flight, once it is known who that is."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._in_flight: dict[str, WeakSet[Exchange]] = {}

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Counts the request in, or refuses it."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.caller is None or flow.response:
            return
        if int(exchange.headers.get("content-length", "0")) > MAX_BODY_BYTES:
            raise Refusal("body-too-large", "the request body is over the limit", status=413)
        in_flight = self._in_flight.get(exchange.caller.name)
        if in_flight is None:
            in_flight = self._in_flight[exchange.caller.name] = WeakSet()
        if len(in_flight) >= exchange.policy.max_in_flight:
            raise Refusal(
                "too-many-requests",
                f"{exchange.caller.name} has {len(in_flight)} requests in flight, the most it may have",
                status=429,
                code=TOO_MANY,
                retryable=True,
            )
        in_flight.add(exchange)

    def response(self, flow: http.HTTPFlow) -> None:
        """Counts it out."""
        exchange = self._exchanges.get(flow)
        if exchange is not None:
            for in_flight in self._in_flight.values():  # by whichever name it was counted in
                in_flight.discard(exchange)

    def error(self, flow: http.HTTPFlow) -> None:
        """The same where it broke off."""
        self.response(flow)
