"""The lines of a recorded session: what each kind holds, how it is written and read.

Law: `parse(encode(line)) == line`, whatever bytes a body holds.
Law: a line is one line: ASCII JSON, so no character inside it can end it (newline, U+2028, NUL).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn, assert_never

from coatcheck.mcp.call import Json, RequestId
from coatcheck.sessions.body import Body


class LineError(ValueError):
    """A line is not one of ours; the message names the member, never its value."""


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call of a request: JSON-RPC or HTTP method, tool, prompt, URI or path, and JSON-RPC id."""

    method: str
    name: str | None = None
    id: RequestId | None = None

    @property
    def title(self) -> str:
        """`tools/call refund_order`."""
        return f"{self.method} {self.name}" if self.name else self.method


@dataclass(frozen=True, slots=True)
class SessionLine:
    """The first line: whose conversation with which server. `policy` is the policy's sha256 (hex), `run` what tells the
    caller's run from another, as the journal has it.
    """

    id: str
    caller: str
    issuer: str
    subject: str
    server: str
    url: str
    started: datetime
    policy: str
    run: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestLine:
    """Exchange `n` begins. `decision` is the effect applied; `policy` is set where it is not the session's."""

    n: int
    at: datetime
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: Body
    calls: tuple[CallLine, ...]
    decision: str
    rules: tuple[str, ...]
    approval: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseLine:
    """The answer of exchange `n`; the body is empty where it came as events."""

    n: int
    at: datetime
    status: int
    headers: tuple[tuple[str, str], ...]
    body: Body


@dataclass(frozen=True, slots=True)
class EventLine:
    """One server-sent event of exchange `n`."""

    n: int
    at: datetime
    data: Body
    event: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class EndLine:
    """Exchange `n` is over: `answered`, `refused`, `client-left`, …"""

    n: int
    at: datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class ClosedLine:
    """The last line: `idle` or `shutdown`. `lost` counts lines that could not be written."""

    at: datetime
    reason: str
    lost: int = 0


type Line = SessionLine | RequestLine | ResponseLine | EventLine | EndLine | ClosedLine


def encode(line: Line) -> bytes:
    """The line as written, with its newline."""
    return _ENCODER.encode(_as_json(line)).encode("ascii") + b"\n"


def parse(data: bytes) -> Line:
    """The line, from bytes with or without their newline. Unknown members are passed over. Raises `LineError`."""
    try:
        value = json.loads(data.decode("ascii"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise LineError("not a line of JSON") from None
    if not isinstance(value, dict):
        raise LineError("not an object")
    fields = _Fields(value)
    reader = _READERS.get(fields.text("kind"))
    if reader is None:
        raise LineError("'kind' is not known")
    return reader(fields)


def _as_json(line: Line) -> dict[str, Json]:
    match line:
        case RequestLine():
            out: dict[str, Json] = {"kind": "request", "n": line.n, "at": _moment(line.at), "method": line.method}
            out |= {"url": line.url, "headers": _pairs(line.headers), "body": line.body.as_json()}
            out |= {"calls": [{"method": c.method, "name": c.name, "id": c.id} for c in line.calls]}
            out |= {"decision": line.decision, "rules": list(line.rules), "approval": line.approval}
            return out if line.policy is None else out | {"policy": line.policy}
        case ResponseLine():
            out = {"kind": "response", "n": line.n, "at": _moment(line.at), "status": line.status}
            return out | {"headers": _pairs(line.headers), "body": line.body.as_json()}
        case EventLine():
            out = {"kind": "event", "n": line.n, "at": _moment(line.at), "data": line.data.as_json()}
            return out | {"event": line.event, "id": line.id}
        case EndLine():
            return {"kind": "end", "n": line.n, "at": _moment(line.at), "outcome": line.outcome}
        case SessionLine():
            out = {"kind": "session", "id": line.id, "caller": line.caller, "issuer": line.issuer}
            out |= {"subject": line.subject, "server": line.server, "url": line.url}
            out |= {"started": _moment(line.started), "policy": line.policy}
            return out | {"run": dict(line.run)} if line.run else out
        case ClosedLine():
            out = {"kind": "closed", "at": _moment(line.at), "reason": line.reason}
            return out | {"lost": line.lost} if line.lost else out
        case _:
            assert_never(line)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _pairs(headers: Sequence[tuple[str, str]]) -> list[Json]:
    return [[name, value] for name, value in headers]


def _refuse(_literal: str) -> NoReturn:
    raise ValueError("not JSON")


class _Fields:
    """Members of one object, each taken as the type it must have."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Json]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        value = self._members.get(name)
        return value if isinstance(value, str) else _wrong(name, "a string")

    def maybe_text(self, name: str) -> str | None:
        return None if self._members.get(name) is None else self.text(name)

    def number(self, name: str, default: int | None = None) -> int:
        value = self._members.get(name, default)
        return value if type(value) is int and value >= 0 else _wrong(name, "a number")

    def moment(self, name: str) -> datetime:
        try:
            at = datetime.fromisoformat(self.text(name))
            return at.astimezone(UTC) if at.tzinfo else _wrong(name, "a time with its zone")
        except (ValueError, OverflowError):
            return _wrong(name, "a time with its zone")

    def items(self, name: str) -> list[Json]:
        value = self._members.get(name)
        return value if isinstance(value, list) else _wrong(name, "a list")

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(item if isinstance(item, str) else _wrong(name, "a list of strings") for item in self.items(name))

    def mapping(self, name: str) -> dict[str, Json]:
        value = self._members.get(name, {})
        return value if isinstance(value, dict) else _wrong(name, "an object")

    def headers(self) -> tuple[tuple[str, str], ...]:
        return tuple(map(_pair, self.items("headers")))

    def calls(self) -> tuple[CallLine, ...]:
        return tuple(map(_call, self.items("calls")))

    def body(self, name: str) -> Body:
        try:
            return Body.from_json(self._members.get(name))
        except ValueError:
            return _wrong(name, "a body")


def _pair(value: Json) -> tuple[str, str]:
    match value:
        case [str(name), str(text)]:
            return name, text
        case _:
            return _wrong("headers", "a list of pairs")


def _call(value: Json) -> CallLine:
    if not isinstance(value, dict):
        return _wrong("calls", "a list of calls")
    fields = _Fields(value)
    request_id = value.get("id")
    if request_id is not None and type(request_id) not in (int, str):
        return _wrong("id", "a string or a number")
    return CallLine(fields.text("method"), fields.maybe_text("name"), request_id)  # type: ignore[arg-type]


def _wrong(name: str, expected: str) -> NoReturn:
    raise LineError(f"{name!r} is not {expected}")


def _session(f: _Fields) -> SessionLine:
    return SessionLine(
        id=f.text("id"),
        caller=f.text("caller"),
        issuer=f.text("issuer"),
        subject=f.text("subject"),
        server=f.text("server"),
        url=f.text("url"),
        started=f.moment("started"),
        policy=f.text("policy"),
        run=f.mapping("run"),
    )


def _request(f: _Fields) -> RequestLine:
    return RequestLine(
        n=f.number("n"),
        at=f.moment("at"),
        method=f.text("method"),
        url=f.text("url"),
        headers=f.headers(),
        body=f.body("body"),
        calls=f.calls(),
        decision=f.text("decision"),
        rules=f.texts("rules"),
        approval=f.maybe_text("approval"),
        policy=f.maybe_text("policy"),
    )


def _response(f: _Fields) -> ResponseLine:
    return ResponseLine(f.number("n"), f.moment("at"), f.number("status"), f.headers(), f.body("body"))


def _event(f: _Fields) -> EventLine:
    return EventLine(f.number("n"), f.moment("at"), f.body("data"), f.maybe_text("event"), f.maybe_text("id"))


def _end(f: _Fields) -> EndLine:
    return EndLine(f.number("n"), f.moment("at"), f.text("outcome"))


def _closed(f: _Fields) -> ClosedLine:
    return ClosedLine(f.moment("at"), f.text("reason"), f.number("lost", 0))


_ENCODER = json.JSONEncoder(ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":"))
_READERS: Mapping[str, Callable[[_Fields], Line]] = {
    "session": _session,
    "request": _request,
    "response": _response,
    "event": _event,
    "end": _end,
    "closed": _closed,
}
