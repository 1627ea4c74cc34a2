"""Recorded traffic as policy sees it: who asked which server for what, when, and what was decided.

Law: what was not recorded is not made up: `has_arguments` says whether a call's arguments are all there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.methods import METHODS
from coatcheck.mcp.strict_json import parse_json
from coatcheck.policy.model import Effect
from coatcheck.policy.read_rules import EFFECTS
from coatcheck.sessions.lines import CallLine, RequestLine
from coatcheck.sessions.read import Session


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of a session. `caller`, `issuer` and `server` are names in the policy of its time.

    `decision` is the effect that was applied to all its calls together, by `rules`.
    """

    session: str
    n: int
    at: datetime
    caller: str
    issuer: str
    server: str
    calls: tuple[Call, ...]
    decision: Effect
    rules: tuple[str, ...]
    has_arguments: bool = True

    @property
    def title(self) -> str:
        """`tools/call refund_order`: its calls, for people."""
        return ", ".join(call.title for call in self.calls)


def recorded(session: Session) -> Iterator[Recorded]:
    """The requests of a session that were decided, in order. Raises `CoatcheckError` for a decision unknown here."""
    head = session.head
    for exchange in session.exchanges():
        line = exchange.request
        if not line.calls:
            continue
        if line.decision not in EFFECTS:
            where = f"session {head.id}, exchange {exchange.n}"
            raise CoatcheckError(f"not a decision: {line.decision!r}", where=where)
        calls, is_whole = _calls(line)
        yield Recorded(
            head.id,
            exchange.n,
            line.at,
            head.caller,
            head.issuer,
            head.server,
            calls,
            line.decision,
            line.rules,
            is_whole,
        )


def _calls(line: RequestLine) -> tuple[tuple[Call, ...], bool]:
    """The calls, and whether their arguments are known."""
    if all(call.name is not None and call.method == line.method for call in line.calls):
        query = line.url.partition("?")[2]
        return tuple(_http_call(call, query) for call in line.calls), True
    if not line.body.content and not line.body.is_cut:  # the transport's own GET and DELETE
        return tuple(Call("mcp", call.method, call.name, id=call.id) for call in line.calls), True
    messages = _messages(line)
    if len(messages) != len(line.calls):
        return tuple(_mcp_call(call, {}) for call in line.calls), False
    return tuple(_mcp_call(call, _params(said)) for call, said in zip(line.calls, messages, strict=True)), True


def _http_call(call: CallLine, query: str) -> Call:
    return Call("http", call.method, call.name, params={"query": query, "path": call.name})


def _mcp_call(call: CallLine, params: dict[str, Json]) -> Call:
    known = METHODS.get(call.method)
    arguments = params.get("arguments") if known is not None and known.arguments else None
    return Call("mcp", call.method, call.name, arguments if isinstance(arguments, dict) else {}, params, call.id)


def _messages(line: RequestLine) -> Sequence[Json]:
    if line.body.is_cut:
        return ()
    try:
        body = parse_json(line.body.content)
    except Refusal:
        return ()
    return body if isinstance(body, list) else [body]


def _params(message: Json) -> dict[str, Json]:
    params = message.get("params") if isinstance(message, dict) else None
    return {name: value for name, value in params.items() if name != "_meta"} if isinstance(params, dict) else {}
