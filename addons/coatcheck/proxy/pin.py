"""Pin: a tool that is not what was pinned is not called.

Law: what a list hides for its pin is refused here too, by its name and by every name like it.
The stage stands twice in the way of a request: before a call is held, and after, as the tool may change meanwhile.
"""

from mitmproxy import http

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.mcp.call import Call
from coatcheck.mcp.mirrored import PARAMETER, check_parameters
from coatcheck.pins.books import Books
from coatcheck.proxy.observe import deny


class Pin:
    """Looks at calls of tools; what servers list is taken over where answers are read (`mask.py`)."""

    def __init__(self, exchanges: Exchanges, books: Books) -> None:
        self._exchanges = exchanges
        self._books = books

    def request(self, flow: http.HTTPFlow) -> None:
        """Raises `Refusal` for a call of a changed tool or of a look-alike."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.server is None or flow.response or flow.error or not flow.live:
            return
        for call in exchange.calls:
            if call.method == "tools/call" and call.kind == "mcp":
                self._check(exchange, call.name or "")
                self._check_parameters(exchange, call)

    def _check_parameters(self, exchange: Exchange, call: Call) -> None:
        """Raises `Refusal` (400) where a header says something else of an argument than the call."""
        if any(name.startswith(PARAMETER) for name in exchange.headers):
            assert exchange.server is not None
            pin = self._books.find(exchange.server.name, call.name or "")
            known = (pin.seen or pin.pinned).text if pin is not None else ""
            check_parameters(call, exchange.headers, known)

    def _check(self, exchange: Exchange, tool: str) -> None:
        assert exchange.server is not None
        server = exchange.server
        match self._books.trouble_with(server, tool):
            case None:
                return
            case "tool-look-alike" as reason:
                what = "has a name like that of another tool, and nobody can say which is meant"
            case "tool-not-pinned" as reason:
                what = "is one of too many tools"
            case "tool-changed" as reason:
                what = "is not what it was when it was pinned"
        pin = self._books.find(server.name, tool)
        approval = pin.approval if pin else None
        deny(exchange, Refusal.denied(reason, f"{tool} of {server.name} {what}", approval=approval))
