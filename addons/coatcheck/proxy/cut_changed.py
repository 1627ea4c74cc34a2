"""Cut changed: connections to a server end when the policy no longer says the same of it.

Law: no connection to a server outlives what it was opened by: its scheme, its addresses, its CA.
"""

from collections.abc import Callable, Iterable

from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server import ConnectionHandler

from coatcheck.policy.model import Policy

type _Trust = dict[tuple[str, int], set[tuple[object, ...]]]


class CutChanged:
    """Run after every change of the policy. `handlers` are mitmproxy's, one a client connection; `cut` ends one."""

    def __init__(self, handlers: Callable[[], Iterable[ConnectionHandler]], cut: Callable[[Client], None]) -> None:
        self._handlers = handlers
        self._cut = cut

    def run(self, old: Policy, new: Policy) -> None:
        """Cuts the clients whose connections lead to a server that is gone, or reached or verified otherwise now."""
        before, after = _trust(old), _trust(new)
        changed = {place for place, trust in before.items() if after.get(place) != trust}
        if not changed:
            return
        for handler in list(self._handlers()):
            servers = [one for one in handler.transports if isinstance(one, Server)]
            # while it is dialled, a connection's address is a number
            if any(not one.connected or (one.address and tuple(one.address[:2]) in changed) for one in servers):
                self._cut(handler.client)


def _trust(policy: Policy) -> _Trust:
    """How each host and port may be reached."""
    found: _Trust = {}
    for server in policy.servers.values():
        found.setdefault((server.host, server.port), set()).add((server.scheme, server.addresses, server.ca))
    return found
