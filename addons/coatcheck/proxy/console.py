"""mitmweb as a place to look and to decide, not to steer.

Law: whoever holds mitmweb's password can look at flows, and resume or kill a single held call; what would run code,
change options, load, re-send or release many flows answers 403. The wire gate holds all the same: this is the second
lock. An edit of a held request is possible here and makes the hold fail (`hold.py`).
"""

import re
from typing import Any, override

import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule

LOCKED = re.compile(
    r"/(commands|options|clear|executable-icon|processes)(/.*)?|/flows/(dump|resume|kill)"
    r"|/flows/[0-9a-f\-]+/(replay|duplicate|revert)"
)


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


def lock(app: tornado.web.Application) -> None:
    """Adds a rule that wins over mitmweb's own (tornado asks the newest host rule first)."""
    app.add_handlers(".*", [Rule(Steers(), Forbidden)])
