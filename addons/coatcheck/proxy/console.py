"""mitmweb as a place to look and to decide, not to steer.

Law: whoever holds mitmweb's password can look at flows, and resume or kill a single held call; what would run code,
change options, load, re-send or release many flows answers 403. So does all that is asked for under a name that is
not this console's (DNS rebinding: a page elsewhere whose name leads here). The wire gate holds all the same: this is
the second lock. An edit of a held request is possible here and makes the hold fail (`hold.py`).
"""

import re
from ipaddress import ip_address
from typing import Any, override
from urllib.parse import urlsplit

import tornado.web
from mitmproxy import ctx, hooks, http
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule

LOCKED = re.compile(
    r"/(commands|options|clear|executable-icon|processes)(/.*)?|/flows/(dump|resume|kill)"
    r"|/flows/[0-9a-f\-]+/(replay|duplicate|revert)"
)


_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class Steers(PathMatches):
    """Matches requests that would change something other than one flow."""

    def __init__(self) -> None:
        super().__init__(LOCKED)

    @override
    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if request.method in ("GET", "HEAD"):
            return None
        return {} if LOCKED.fullmatch(request.path) else None


class Forbidden(tornado.web.RequestHandler):
    """403 for every method."""

    @override
    def prepare(self) -> None:
        self.set_status(403)
        self.finish("coatcheck: not available while the gateway runs")


class Foreign(PathMatches):
    """Matches requests under another name than `localhost`, an address, or `name`: only names can be rebound."""

    def __init__(self, name: str) -> None:
        super().__init__(".*")
        self._names = {"localhost", name.lower()}

    @override
    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        hosts = request.headers.get_list("Host")
        name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 and _AUTHORITY.fullmatch(hosts[0]) else None
        return None if name is not None and (name in self._names or _is_address(name)) else {}


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def lock(app: tornado.web.Application, name: str) -> None:
    """Adds rules that win over mitmweb's own (tornado asks the newest host rule first). `name`: where it listens."""
    app.add_handlers(".*", [Rule(Foreign(name), Forbidden), Rule(Steers(), Forbidden)])


def show(flow: http.HTTPFlow) -> None:
    """Tells mitmweb that a flow changed."""
    ctx.master.addons.trigger(hooks.UpdateHook([flow]))
