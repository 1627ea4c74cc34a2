"""A recorded conversation, held again.

Law: read-only unless told otherwise. What is sent is judged by its own bytes, not by what the record says of them.
Law: what belongs to one conversation is made anew: the id of `initialize`, `Mcp-Session-Id`, cursors, request states.
Law: no credential is taken from the record; `send` shows who is calling.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.strict_json import dump_json, parse_json
from coatcheck.sessions.diff import Answer, answer, differences, recorded_answer
from coatcheck.sessions.read import Exchange, Session

type Headers = Sequence[tuple[str, str]]
type Send = Callable[[str, str, Headers, bytes], tuple[int, Headers, bytes]]
"""`send(method, url, headers, body) -> (status, headers, body)`: one request through the gateway."""

READS = frozenset(
    {
        "initialize", "notifications/initialized", "server/discover", "ping",
        "tools/list", "resources/list", "resources/templates/list", "prompts/list",
        "resources/read", "prompts/get",
    }
)  # fmt: skip
"""The messages that are sent again without being named."""

_SAFE = frozenset({"GET", "HEAD"})
"""Methods of plain HTTP that are (RFC 9110 section 9.2.1)."""

_REBUILT = frozenset(
    {
        "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect",
        "proxy-authorization", "authorization", "cookie", "host", "content-length", "accept-encoding",
        "mcp-session-id", "last-event-id",
    }
)  # fmt: skip
"""Headers of one connection or one conversation: left out, and made anew where they are needed."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One exchange, sent again or skipped.

    `recorded` and `now` are answers in a few words, `now` with the first differences. `same` is None where nothing
    was compared; `skipped` says why nothing was sent.
    """

    n: int
    title: str
    recorded: str
    now: str
    same: bool | None
    skipped: str | None


def replay(session: Session, send: Send, *, tools: Sequence[str] = ()) -> Iterator[Replayed]:
    """Sends the session's requests again, in their order, each when the result before it is taken.

    `tools` are globs: `tools/call` is sent for the tools they match, and so is a request that was not allowed at
    once when it was recorded, if its name matches. What `send` raises ends the replay.
    """
    conversation = _Conversation(tuple(tools))
    for exchange in session.exchanges():
        yield conversation.repeat(exchange, send)


class _Skip(Exception):
    """Why an exchange is not sent again."""


@dataclass(slots=True)
class _Conversation:
    """What the new conversation was given in place of what the recorded one had."""

    tools: tuple[str, ...]
    sessions: dict[str, str | None] = field(default_factory=dict)
    """`Mcp-Session-Id` as recorded to the new one; None where the server gave none this time."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Cursors and request states as recorded to the new ones."""

    def repeat(self, exchange: Exchange, send: Send) -> Replayed:
        was = recorded_answer(exchange)
        try:
            messages = _messages(exchange)
            _check(exchange, messages, self.tools)
            headers = self._headers(exchange)
        except _Skip as skip:
            return Replayed(exchange.n, exchange.title, was.summary, "", None, str(skip))
        asked = exchange.request
        status, new_headers, body = send(asked.method, asked.url, headers, self._body(exchange, messages))
        now = answer(status, new_headers, body)
        self._learn(exchange, messages, was, now, new_headers)
        found = differences(was, now) if was.status is not None else ()
        same = None if was.status is None else not found
        shown = "; ".join([now.summary, *found[:3]])
        return Replayed(exchange.n, exchange.title, was.summary, shown, same, None)

    def _headers(self, exchange: Exchange) -> Headers:
        recorded = exchange.request.headers
        listed = {part.strip().lower() for part in _value(recorded, "connection").split(",")}
        kept = [(k, v) for k, v in recorded if k.lower() not in _REBUILT and k.lower() not in listed]
        if old := _value(recorded, "mcp-session-id"):
            if old not in self.sessions:
                raise _Skip("its MCP session was not opened again")
            if new := self.sessions[old]:
                kept.append(("Mcp-Session-Id", new))
        return kept

    def _body(self, exchange: Exchange, messages: Sequence[Mapping[str, Json]]) -> bytes:
        """The recorded bytes, with what belongs to one conversation put in anew where there is any."""
        rewritten = [self._rewritten(message, exchange.n) for message in messages]
        if all(new is old for new, old in zip(rewritten, messages, strict=True)):
            return exchange.request.body.content
        is_batch = exchange.request.body.content.lstrip()[:1] == b"["
        return dump_json([dict(m) for m in rewritten] if is_batch else dict(rewritten[0]))

    def _rewritten(self, message: Mapping[str, Json], n: int) -> Mapping[str, Json]:
        if message.get("method") == "initialize":
            return {**message, "id": f"replay-{n}"}
        params = message.get("params")
        if not isinstance(params, dict):
            return message
        new = {
            name: self.tokens[value]
            for name in ("cursor", "requestState")
            if isinstance(value := params.get(name), str) and value in self.tokens
        }
        return {**message, "params": {**params, **new}} if new else message

    def _learn(
        self, exchange: Exchange, messages: Sequence[Mapping[str, Json]], was: Answer, now: Answer, headers: Headers
    ) -> None:
        if any(message.get("method") == "initialize" for message in messages) and exchange.response:
            old = _value(exchange.response.headers, "mcp-session-id")
            if old and now.status is not None and now.status < 400:
                self.sessions[old] = _value(headers, "mcp-session-id") or None
        for name in ("nextCursor", "requestState"):
            old_token, new_token = _token(was, name), _token(now, name)
            if old_token is not None and new_token is not None:
                self.tokens[old_token] = new_token


def _messages(exchange: Exchange) -> Sequence[Mapping[str, Json]]:
    """The JSON-RPC messages of a POST; none for plain HTTP. Raises `_Skip` where they cannot be told."""
    asked = exchange.request
    if asked.body.is_cut:
        raise _Skip("its body was cut when it was recorded")
    if asked.method != "POST" or not asked.body.content:
        return ()
    try:
        value = parse_json(asked.body.content)
    except Refusal:
        value = None
    found = value if isinstance(value, list) else [value]
    messages = [message for message in found if isinstance(message, dict) and "jsonrpc" in message]
    if messages and len(messages) != len(found):
        raise _Skip("some of its messages are not JSON-RPC")
    return messages


def _check(exchange: Exchange, messages: Sequence[Mapping[str, Json]], tools: Sequence[str]) -> None:
    """Raises `_Skip` where the exchange is not to be sent."""
    asked = exchange.request
    named = [_matches(name, tools) for name in (map(_name, messages) if messages else [exchange.path])]
    if asked.decision != "allow" and not all(named):
        raise _Skip(f"not allowed at once when it was recorded: {asked.decision}")
    for message, is_named in zip(messages, named, strict=False):
        _check_message(message, is_named=is_named)
    if messages:
        return
    if asked.method == "GET" and "text/event-stream" in _value(asked.headers, "accept"):
        raise _Skip("a stream of events, not a question")
    if asked.method not in _SAFE and not all(named):
        raise _Skip(f"not a read: {asked.method}")


def _check_message(message: Mapping[str, Json], *, is_named: bool) -> None:
    method = message.get("method")
    if not isinstance(method, str):
        raise _Skip("an answer to the server, not a question")
    if method in READS:
        return
    if "id" not in message:
        raise _Skip("a notification of its own moment")
    if method != "tools/call":
        raise _Skip(f"not a read: {method}")
    if not is_named:
        raise _Skip("its tool is not named")


def _matches(name: str | None, globs: Sequence[str]) -> bool:
    return name is not None and any(fnmatchcase(name, glob) for glob in globs)


def _name(message: Mapping[str, Json]) -> str | None:
    """The tool, prompt or resource that a message asks for."""
    params = message.get("params")
    if not isinstance(params, dict):
        return None
    name = params.get("uri" if message.get("method") == "resources/read" else "name")
    return name if isinstance(name, str) else None


def _token(of: Answer, name: str) -> str | None:
    match of.message:
        case {"result": dict(result)} if isinstance(token := result.get(name), str):
            return token
        case _:
            return None


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")
