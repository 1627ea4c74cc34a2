"""Relay: what server and client say to each other besides a call and its answer.

Law: a session, an event to resume after and a request of the server are the caller's they were given to; for
another caller they do not exist (404).
Law: what a server asks of its client is decided like a call; what no rule allows never reaches the client, which is
pinged in its place, so that the server can be told.
Law: an answer on a stream is passed on only where its request was made on this stream or in this session.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from mitmproxy import http

from coatcheck.errors import INVALID_REQUEST, SERVER_FAILED, Refusal
from coatcheck.exchange import Exchange
from coatcheck.mcp.answers import error_message
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.correlation import AskedOfClient, Correlation, Opened
from coatcheck.mcp.inspect import Inspected, inspect_post, settle_answers
from coatcheck.mcp.legacy_sse import LegacyStreams
from coatcheck.mcp.lists import LISTS
from coatcheck.mcp.methods import VERSIONS
from coatcheck.mcp.request_ids import is_request_id
from coatcheck.mcp.rounds import Rounds
from coatcheck.mcp.spelling import has_twins
from coatcheck.mcp.tasks import TaskOrigin, Tasks, filter_tasks, made_task
from coatcheck.policy.asked import NAMED
from coatcheck.policy.decide import may_ask, may_see
from coatcheck.proxy.peers import is_stateless, opened_in, peers_of
from coatcheck.proxy.refuse_ask import is_askable, name_of, refused_ask

SESSION = "mcp-session-id"
LAST_EVENT = "last-event-id"
_SESSION_ID = re.compile(r"[!-~]{1,512}")
_ASKED = frozenset({"jsonrpc", "id", "method", "params"})
_UPDATED = "notifications/resources/updated"
_TASK_ANSWERS = frozenset({"tasks/get", "tasks/result", "tasks/update"})


class Relay:
    """Keeps track of conversations for the stages that read and rewrite messages."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._known = Correlation()
        self._tasks = Tasks()
        self._rounds = Rounds()
        self.streams: LegacyStreams[Exchange] = LegacyStreams()
        self.on_denied: Callable[[Exchange, Refusal, str], None] = lambda _exchange, _refusal, _method: None
        """Called where a server asked what no rule lets it ask, with the method that it asked."""

    # -- from the client ---------------------------------------------------------------------------------------

    def enter(self, exchange: Exchange, headers: http.Headers, method: str) -> None:
        """Finds the request's conversation; takes out headers that mean nothing here. Raises `Refusal` (404)."""
        if exchange.endpoint is not None:
            headers.pop(SESSION, None)
            headers.pop(LAST_EVENT, None)
            self.find_stream(exchange)
            if exchange.stream is None:
                raise Refusal("unknown-session", "there is no such session", status=404)
            exchange.conversation = exchange.stream.conversation
            return
        if is_stateless(exchange):
            headers.pop(SESSION, None)
            headers.pop(LAST_EVENT, None)
            return
        found = self._known.find(peers_of(exchange), exchange.headers.get(SESSION))
        if found is None:
            raise Refusal("unknown-session", "there is no such session", status=404)
        exchange.conversation = found
        if method != "GET":
            headers.pop(LAST_EVENT, None)
        elif LAST_EVENT in exchange.headers:
            resumed = found.resume(exchange.headers[LAST_EVENT])
            is_legacy = exchange.server is not None and exchange.server.legacy_sse and SESSION not in exchange.headers
            if resumed is None and is_legacy:
                headers.pop(LAST_EVENT)  # a stream of that transport begins anew, whatever its client has seen
                return
            if resumed is None:
                raise Refusal("unknown-event", "there is no such event to resume after", status=404)
            exchange.opened = resumed

    def find_stream(self, exchange: Exchange) -> None:
        """The stream that a POST to a message endpoint is answered on, where it is its caller's."""
        assert exchange.endpoint is not None
        exchange.stream = self.streams.find(peers_of(exchange), exchange.endpoint)

    def read_post(self, exchange: Exchange, body: bytes) -> Inspected:
        """`inspect_post`, with what the policy lets the server ask, and answers found to be such."""
        policy, caller, server = exchange.policy, exchange.caller, exchange.server
        assert caller is not None
        assert server is not None
        read = inspect_post(
            body,
            exchange.headers,
            may_ask=lambda method: exchange.observes or may_ask(policy, caller, server, method),
            supported=self._known.versions_of(server.name) or VERSIONS,
            negotiated=exchange.conversation.versions if exchange.conversation else (),
        )
        if exchange.stream is not None:
            if read.kind == "batch":
                message = "the HTTP+SSE transport has no arrays"
                raise Refusal("batch-not-accepted", message, code=INVALID_REQUEST)
            exchange.stream.check_ids(read.ids, most=policy.max_in_flight)
        if read.answers:
            take = exchange.conversation.take_answer if exchange.conversation else lambda _: None
            read = settle_answers(read, take)
        exchange.made_task = self._tasks.check(peers_of(exchange), read.calls, read.value)
        self._check_tool(exchange, read.calls)
        return self._rounds.take(peers_of(exchange), read, has_states=is_stateless(exchange))

    def _check_tool(self, exchange: Exchange, calls: Sequence[Call]) -> None:
        """What a task says is its tool's answer: refused where no rule would let the caller call the tool now."""
        made = exchange.made_task
        if made is None or made.name is None or exchange.observes or not any(c.method in _TASK_ANSWERS for c in calls):
            return
        assert exchange.caller is not None
        assert exchange.server is not None
        if not may_see(exchange.policy, exchange.caller, exchange.server, "tools", made.name, now=self._clock()):
            raise Refusal.denied("policy-denied", f"no rule lets {exchange.caller.name} call the tool of this task")

    # -- from the server ---------------------------------------------------------------------------------------

    def answered(self, exchange: Exchange, method: str, response: http.Response, *, is_stream: bool) -> None:
        """Notes a session that begins or ends with this answer, and requests whose answer will stream.

        Raises `Refusal` (502) for a session id that is none, or was given to another caller before.
        """
        if is_stateless(exchange) or exchange.endpoint is not None:
            response.headers.pop(SESSION, None)
            return
        given, status = response.headers.get(SESSION), response.status_code
        used = exchange.headers.get(SESSION)
        if given is not None and any(call.method == "initialize" for call in exchange.calls) and status < 300:
            if not _SESSION_ID.fullmatch(given):
                raise _server_failed("the server gave a session id that is not visible ASCII")
            exchange.conversation = self._known.begin(peers_of(exchange), given)
            if exchange.conversation is None:
                raise _server_failed("the server gave a session id that belongs to another caller")
        elif used is not None and (status == 404 or (method == "DELETE" and status < 300)):
            self._known.end(peers_of(exchange), used)
        if is_stream and exchange.conversation is not None:
            for opened in opened_in(exchange):
                exchange.conversation.open_request(opened)
                exchange.opened += (opened,)

    def streamed(self, exchange: Exchange, message: Json) -> Json | None:
        """One message on a stream: what to pass on; None to drop it. Raises `Refusal` (502) for one with a member that
        some client takes for another.
        """
        if isinstance(message, list):
            kept: list[Json] = [passed for one in message if (passed := self.streamed(exchange, one)) is not None]
            return kept or None
        if not isinstance(message, dict):
            return None
        is_response = "result" in message or "error" in message
        if self._has_twins(exchange, message):
            raise _server_failed("the server's message has a member that looks like another")
        if "method" not in message:
            return message if not is_response or self._is_awaited(exchange, message) else None
        if is_response:
            return None
        if "id" in message:
            return self._asked(exchange, message)
        params = message.get("params")
        if not self._tasks.passes(peers_of(exchange), message):
            return None
        if isinstance(params, dict):
            is_refused = self._refused_input(exchange, params) is not None
            if is_refused or not self._may_tell(exchange, message["method"], params):
                return None
            self._rounds.give(peers_of(exchange), None, params)
        return message

    def method_of(self, exchange: Exchange, message: dict[str, Json]) -> str | None:
        """The method that a response answers; None where nothing with its id was asked."""
        answered = self._answered(exchange, message)
        return None if answered is None else answered.method

    @staticmethod
    def _answered(exchange: Exchange, message: dict[str, Json]) -> Opened | None:
        found = message.get("id")
        if not is_request_id(found):
            return None
        own = opened_in(exchange)
        for opened in own or exchange.opened:
            if str(opened.id) == str(found):  # clients take 1 and "1" for the same
                return opened
        return exchange.conversation.open.get(str(found)) if not own and exchange.conversation else None

    def read_answer(self, exchange: Exchange, method: str | None, message: dict[str, Json]) -> dict[str, Json]:
        """Notes what an answer says about the conversation: versions, and states that will come back.

        Returns it; or a denial in its place, where it asks the client what no rule allows.
        """
        result = message.get("result")
        if not isinstance(result, dict) or exchange.server is None:
            return message
        versions = result.get("supportedVersions")
        agreed = result.get("protocolVersion")
        if method == "initialize" and exchange.conversation and isinstance(agreed, str) and agreed in VERSIONS:
            exchange.conversation.versions.add(agreed)
        if method in ("initialize", "server/discover"):
            self._tasks.learn_support(peers_of(exchange), result.get("capabilities"))
        if method == "server/discover" and isinstance(versions, list):
            known = tuple(one for one in versions if isinstance(one, str) and one in VERSIONS)
            self._known.learn_versions(exchange.server.name, known)
        if (denial := self._refused_input(exchange, result)) is not None:
            return error_message(message.get("id"), denial)
        self._read_tasks(exchange, message, result)
        if method == "tasks/list":
            owns = partial(self._tasks.owns, peers_of(exchange))
            message = {**message, "result": filter_tasks(result, owns)}
        about = next((call for call in exchange.calls if call.id is not None), None)
        self._rounds.give(peers_of(exchange), about, result)
        return message

    def _refused_input(self, exchange: Exchange, asking: dict[str, Json]) -> Refusal | None:
        """Why the policy does not let the server ask everything that it asks by `inputRequests` (2026-07-28)."""
        asks = asking.get("inputRequests")
        for asked in asks.values() if isinstance(asks, dict) else () if asks is None else (asks,):
            method = asked.get("method") if isinstance(asked, dict) else None
            if (refusal := self._refused_ask(exchange, method, asked)) is not None:
                return refusal
        return None

    def _may_tell(self, exchange: Exchange, method: Json, params: dict[str, Json]) -> bool:
        """Whether a notification is about nothing that the caller may not know of: a resource it cannot read."""
        uri = params.get("uri")
        if method != _UPDATED or not isinstance(uri, str) or exchange.observes:
            return method != _UPDATED or exchange.observes
        assert exchange.caller is not None
        assert exchange.server is not None
        return may_see(exchange.policy, exchange.caller, exchange.server, "resources", uri, now=self._clock())

    def _has_twins(self, exchange: Exchange, message: dict[str, Json]) -> bool:
        method = message.get("method") if "method" in message else self.method_of(exchange, message)
        return has_twins(message, method if isinstance(method, str) else None)

    def _read_tasks(self, exchange: Exchange, message: dict[str, Json], result: dict[str, Json]) -> None:
        """Notes the task that an answer brings in the place of a result."""
        asked, task_id = self._answered(exchange, message), made_task(result)
        if asked is not None and task_id is not None and asked.method in NAMED:
            self._tasks.give(peers_of(exchange), task_id, TaskOrigin(asked.exchange, asked.method, asked.name))

    def is_answer(self, exchange: Exchange, message: Json, status: int) -> bool:
        """Whether one message of an answer that is no stream may be one; errors of HTTP bring JSON of any kind."""
        if not isinstance(message, dict):
            return True
        if status < 400 and self._has_twins(exchange, message):
            return False
        if status < 300 and exchange.endpoint is None and not {"result", "error", "method"} & message.keys():
            return not any(call.method in LISTS for call in exchange.calls)  # it would be shown as it is
        if not ("result" in message or ("error" in message and status < 400)):
            return True
        return self._is_awaited(exchange, message)

    def _is_awaited(self, exchange: Exchange, message: dict[str, Json]) -> bool:
        """A response to what was asked; an error may also name no request (JSON-RPC 2.0 section 5)."""
        if ("result" in message) == ("error" in message):
            return False
        return self.method_of(exchange, message) is not None or ("error" in message and message.get("id") is None)

    def _asked(self, exchange: Exchange, message: dict[str, Json]) -> Json | None:
        request_id, method = message["id"], message["method"]
        is_plain = is_request_id(request_id) and isinstance(method, str) and message.keys() <= _ASKED
        if not is_plain or exchange.conversation is None:
            return None  # from 2026-07-28 on, a server asks only by its answer (`inputRequests`)
        assert is_request_id(request_id)
        assert isinstance(method, str)
        is_allowed = self._tasks.passes(peers_of(exchange), message)
        if not is_allowed:
            self.on_denied(exchange, Refusal.denied("policy-denied", "the task is another caller's"), name_of(method))
        elif self._refused_ask(exchange, method, message) is not None:
            is_allowed = False
        if not exchange.conversation.ask(request_id, AskedOfClient(method, not is_allowed)):
            return None
        return message if is_allowed else {"jsonrpc": "2.0", "id": request_id, "method": "ping"}

    def _refused_ask(self, exchange: Exchange, method: object, message: Json) -> Refusal | None:
        """Why the server may not ask this, which `on_denied` is told too; None where it may, or it only observes."""
        refusal = refused_ask(exchange, method, message, now=self._clock())
        if refusal is not None:
            self.on_denied(exchange, refusal, name_of(method))
        return None if exchange.observes and is_askable(method) else refusal


def _server_failed(message: str) -> Refusal:
    return Refusal("server-failed", message, status=502, code=SERVER_FAILED)
