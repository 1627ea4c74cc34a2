"""The control port: health, readiness, metrics, and approvals as JSON.

Law: on loopback nothing is said to who came by a foreign name, as a web page does (DNS rebinding).
Law: `/healthz` and `/readyz` say no more than that; approvals are shown to and decided by reviewers who prove who
they are with a token of their own, never by the caller.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import override

import tornado.httpserver
import tornado.netutil
import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule

from coatcheck.approvals.model import Approval, ApprovalError, Verdict, Vote, as_json, canonical_id
from coatcheck.approvals.store import ApprovalStore
from coatcheck.control.metrics import Metrics
from coatcheck.errors import CoatcheckError, JournalError, Refusal
from coatcheck.http.origin import check_loopback_host
from coatcheck.identity.match import match_reviewers
from coatcheck.identity.tokens import find_token
from coatcheck.live import Live, utc_now
from coatcheck.mcp.strict_json import parse_json

IDLE_SECONDS = 30
"""How long a connection may take for a head, or a body, before it is closed: each one costs a descriptor."""

type CastVote = Callable[[str, Vote], Awaitable[Approval]]
type Routes = Sequence[tuple[str, type[tornado.web.RequestHandler], dict[str, object]]]
"""Path, handler and what the handler is made with: what other parts serve here."""


_VERDICTS: dict[str, Verdict] = {"approve": "approve", "deny": "deny"}


class ControlPort:
    """Serves on its own address; made once by the composition root."""

    def __init__(
        self, live: Live, approvals: ApprovalStore, metrics: Metrics, vote: CastVote, more: Routes = ()
    ) -> None:
        self.live = live
        self.approvals = approvals
        self.metrics = metrics
        self.vote = vote
        self._more = more
        self._server: tornado.httpserver.HTTPServer | None = None

    def listen(self, host: str, port: int) -> None:
        """Binds. Raises `CoatcheckError` where the address is taken."""
        try:
            sockets = tornado.netutil.bind_sockets(port, host)
        except OSError as error:
            raise CoatcheckError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                where="coatcheck_control",
                hint="give another address with --set coatcheck_control=HOST:PORT",
            ) from error
        app = tornado.web.Application(
            [
                Rule(_ForeignName(self.live, host), Misdirected),
                (r"/healthz", Health),
                (r"/readyz", Ready, {"port": self}),
                (r"/metrics", Numbers, {"port": self}),
                (r"/approvals", ApprovalList, {"port": self}),
                (r"/approvals/([0-9A-Za-z-]+)", ApprovalOne, {"port": self}),
                *self._more,
            ],
            default_handler_class=NotFound,
            log_function=lambda _handler: None,
        )
        self._server = tornado.httpserver.HTTPServer(
            app,
            max_body_size=64 * 1024,
            max_header_size=64 * 1024,
            idle_connection_timeout=IDLE_SECONDS,
            body_timeout=IDLE_SECONDS,
        )
        self._server.add_sockets(sockets)

    def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.stop()


class _ForeignName(Matcher):
    """Matches what came by no name of this machine, where the port is on loopback."""

    def __init__(self, live: Live, listener: str) -> None:
        self._live = live
        self._listener = listener

    @override
    def match(self, request: HTTPServerRequest) -> dict[str, object] | None:
        host = request.headers.get("Host")
        if host is None:
            return None  # HTTP/1.0, as health checks speak it and no browser does
        try:
            check_loopback_host(self._listener, host, audience=self._live.policy.audience)
        except Refusal:
            return {}
        return None


class _Handler(tornado.web.RequestHandler):
    @override
    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.clear_header("Server")

    @override
    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.fail(status_code, "error", self._reason)

    def fail(self, status: int, reason: str, message: str) -> None:
        """`{"error": {"reason": …, "message": …}}`."""
        self.set_status(status)
        self.finish({"error": {"reason": reason, "message": message}})


class NotFound(_Handler):
    """404."""

    @override
    def prepare(self) -> None:
        self.fail(404, "not-found", "nothing is served here")


class Misdirected(_Handler):
    """421."""

    @override
    def prepare(self) -> None:
        self.fail(421, "misdirected", "the Host header is not a name of this machine")


class Health(_Handler):
    """`GET /healthz`: the event loop turns."""

    def get(self) -> None:
        """200."""
        self.finish({"status": "ok"})


class _PortHandler(_Handler):
    @override
    def initialize(self, port: ControlPort) -> None:
        self.port = port


class Ready(_PortHandler):
    """`GET /readyz`: the gateway can serve; 503 with the parts that cannot.

    `degraded`, with 200 and `policy_stale`, where all serve, under another policy than the one that lies there: one
    mistake in a policy does not take every gateway that reads it out of service.
    """

    def get(self) -> None:
        """200 or 503."""
        live = self.port.live
        problems = {**live.problems, **({"shutdown": "the gateway is shutting down"} if live.is_draining else {})}
        status = "ready" if not problems else "degraded" if problems.keys() == {"policy"} else "not-ready"
        self.set_status(503 if status == "not-ready" else 200)
        self.finish(
            {
                "status": status,
                "policy": live.policy.sha256,
                "policy_stale": "policy" in problems,
                "enforces": not live.observes,
                "problems": problems,
            }
        )


class Numbers(_PortHandler):
    """`GET /metrics` for Prometheus."""

    def get(self) -> None:
        """Text exposition format."""
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.port.metrics.render())


class _ReviewerHandler(_PortHandler):
    async def reviewer(self) -> tuple[str, frozenset[str]]:
        """The token's subject and the reviewer entries it proves. Raises `Refusal`."""
        policy, verifier = self.port.live.policy, self.port.live.verifier  # of one moment, whatever changes meanwhile
        authorization = self.request.headers.get_list("Authorization")
        presented = find_token([], authorization, issuers=policy.issuer_urls)
        if presented is None:
            raise Refusal.unauthenticated("token-missing", "a reviewer's token is needed")
        verified = await verifier.verify(presented.token, now=utc_now())
        names = match_reviewers(policy.reviewers, verified)
        if not names:
            raise Refusal("not-a-reviewer", "this token is no reviewer's", status=403)
        return verified.subject, names

    def refuse(self, refusal: Refusal) -> None:
        """A `Refusal` as this port's JSON."""
        if refusal.status == 401:
            self.set_header("WWW-Authenticate", 'Bearer realm="coatcheck"')
        self.fail(refusal.status, refusal.reason, refusal.message)


class ApprovalList(_ReviewerHandler):
    """`GET /approvals`: what is pending and was lately decided."""

    async def get(self) -> None:
        """A JSON array of approvals the reviewer may decide."""
        try:
            _, names = await self.reviewer()
        except Refusal as refusal:
            self.refuse(refusal)
            return
        try:
            text = await asyncio.to_thread(_listed, self.port.approvals, names)
        except ApprovalError:
            self.fail(503, "state-unavailable", "the approvals cannot be read at the moment")
            return
        self.set_header("Content-Type", "application/json")
        self.finish(text)


def _listed(approvals: ApprovalStore, names: frozenset[str]) -> str:
    """In a thread. What waits is shown whatever else was asked since; oldest first, then what was decided."""
    waiting = approvals.pending(now=utc_now())
    known = {approval.id for approval in waiting}
    found = [*waiting, *(approval for approval in approvals.recent() if approval.id not in known)]
    return json.dumps([as_json(approval) for approval in found if names & set(approval.question.reviewers)])


class ApprovalOne(_ReviewerHandler):
    """`POST /approvals/ID`: a reviewer's verdict."""

    async def post(self, approval_id: str) -> None:
        """Body `{"verdict": "approve"|"deny", "reason": …}`; answers the approval."""
        try:
            person, names = await self.reviewer()
            verdict, reason = self._verdict()
        except Refusal as refusal:
            self.refuse(refusal)
            return
        try:
            approval = await asyncio.to_thread(self.port.approvals.get, canonical_id(approval_id) or "")
            entry = next((n for n in approval.question.reviewers if n in names), None) if approval else None
            if approval is None or entry is None:
                self.fail(403, "not-a-reviewer", "this token may not decide that approval")
                return
            approval = await self.port.vote(approval.id, Vote(entry, person, verdict, utc_now(), reason))
        except ApprovalError as error:
            if error.reason == "not reachable":
                self.fail(503, "state-unavailable", "the approvals cannot be read or written at the moment")
            else:
                self.fail(409, "not-decidable", str(error))
            return
        except JournalError:
            self.fail(503, "journal-unavailable", "the journal cannot be written, so the vote does not count")
            return
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(as_json(approval)))

    def _verdict(self) -> tuple[Verdict, str | None]:
        try:
            body = parse_json(self.request.body)
        except Refusal:
            body = None
        if not isinstance(body, dict):
            raise Refusal("bad-request", "the body must be a JSON object with a verdict")
        reason = body.get("reason")
        verdict = _VERDICTS.get(str(body.get("verdict")))
        if verdict is None or not isinstance(reason, str | None):
            raise Refusal("bad-request", 'the verdict is "approve" or "deny", the reason a text')
        return verdict, reason
