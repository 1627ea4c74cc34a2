"""Who speaks with which server in a request, and by which ids it is answered."""

from coatcheck.exchange import Exchange
from coatcheck.mcp.correlation import Opened, Peers
from coatcheck.mcp.methods import FIRST_STATELESS, VERSIONS


def is_stateless(exchange: Exchange) -> bool:
    """Whether the request is of a version without sessions."""
    claimed = exchange.headers.get("mcp-protocol-version")
    return claimed is not None and claimed >= FIRST_STATELESS and claimed in VERSIONS


def peers_of(exchange: Exchange) -> Peers:
    """Who speaks with which server, once that is known."""
    assert exchange.caller is not None
    assert exchange.server is not None
    caller = exchange.caller
    return Peers(caller.name, caller.issuer, caller.subject, exchange.server.name)


def opened_in(exchange: Exchange) -> tuple[Opened, ...]:
    """The requests of this exchange that are answered by their ids."""
    return tuple(
        Opened(call.id, call.method, call.name if call.method == "tools/call" else None, exchange.id)
        for call in exchange.calls
        if call.id is not None
    )
