"""Two answers, or two sessions, compared by what they say.

Law: an answer equals itself; what is not compared is the JSON-RPC id, `_meta`, and opaque tokens that are good for one
conversation (`nextCursor`, `requestState`), of which only the presence counts. Everything else is, timestamps too.
Law: a JSON answer and an event stream whose final message says the same are equal (Streamable HTTP allows both).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Json
from coatcheck.mcp.sse import Event, SseError, SseRewriter
from coatcheck.mcp.strict_json import parse_data
from coatcheck.sessions.body import Body
from coatcheck.sessions.read import Exchange, Session

_OPAQUE = {"result": ("nextCursor", "requestState"), "params": ("cursor", "requestState")}
"""Members that only the conversation they were made in can use."""

MAX_DIFFERENCES = 20
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Opaque:
    """A body that is no JSON, or was cut: known by its length and SHA-256 (hex)."""

    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an HTTP status, None where nothing did, and a message, None where the body was empty.

    For an event stream the message is the last response in it (JSON-RPC `result` or `error`), else the last message.
    """

    status: int | None
    message: Json | Opaque

    @property
    def summary(self) -> str:
        """`200 result`, `200 error 4030 policy-denied`, `no answer`: one short line."""
        if self.status is None:
            return "no answer"
        match self.message:
            case None:
                what = ""
            case Opaque(length=length):
                what = f" {length} bytes"
            case {"error": {"code": int(code), **rest}}:
                what = f" error {code} {rest.get('message', '')}"
            case {"result": {"isError": True}}:
                what = " result (tool error)"
            case {"result": _}:
                what = " result"
            case list(messages):
                what = f" {len(messages)} messages"
            case _:
                what = " json"
        return f"{self.status}{what}"[:120]


@dataclass(frozen=True, slots=True)
class Compared:
    """A request both sessions have, or one of them (`a` or `b` is None); numbers are exchanges'."""

    title: str
    a: int | None
    b: int | None
    differences: tuple[str, ...]


def recorded_answer(exchange: Exchange) -> Answer:
    """What came back when the exchange was recorded."""
    response = exchange.response
    if exchange.events:
        last = exchange.events[-1].data
        message = _opaque(last) if last.is_cut else _final([event.data.text for event in exchange.events])
        return Answer(response.status if response else None, message)
    if response is None:
        return Answer(None, None)
    return Answer(response.status, _message(_header(response.headers, "content-type"), response.body))


def answer(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
    """What came back now."""
    return Answer(status, _message(_header(headers, "content-type"), Body.of(body)))


def differences(was: Answer, now: Answer) -> tuple[str, ...]:
    """How they differ, `$.result.content[0].text: "a" is now "b"`; at most `MAX_DIFFERENCES`, none where they agree."""
    found: list[str] = []
    if was.status != now.status:
        found.append(f"status: {was.status} is now {now.status}")
    for difference in _walk("$", _comparable(was.message), _comparable(now.message)):
        if len(found) >= MAX_DIFFERENCES:
            return (*found, "…")
        found.append(difference)
    return tuple(found)


def compare(a: Session, b: Session) -> Iterator[Compared]:
    """The sessions' exchanges side by side: the k-th request of a title with the k-th of that title."""
    ours, theirs = _by_title(a), _by_title(b)
    for title in ours | theirs:
        for left, right in zip_longest(ours.get(title, ()), theirs.get(title, ())):
            if left is None or right is None:
                yield Compared(title, left, right, ("only in the second",) if left is None else ("only in the first",))
                continue
            one, other = a.exchange(left), b.exchange(right)
            found = []
            if one.request.decision != other.request.decision:
                found.append(f"decision: {one.request.decision} is now {other.request.decision}")
            asked = differences(_asked(one), _asked(other))
            found += [f"request {difference}" for difference in asked]
            yield Compared(title, left, right, (*found, *differences(recorded_answer(one), recorded_answer(other))))


def messages(body: bytes) -> list[str]:
    """The data of each event of a stream. Raises `SseError`."""
    found: list[str] = []

    def collect(event: Event) -> None:
        if event.data:
            found.append(event.data)

    SseRewriter(collect).feed(body)
    return found


def _by_title(session: Session) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for exchange in session.exchanges():
        numbers.setdefault(exchange.title, []).append(exchange.n)
    return numbers


def _asked(exchange: Exchange) -> Answer:
    return Answer(0, _message("", exchange.request.body))


def _header(headers: Sequence[tuple[str, str]], name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _message(content_type: str, body: Body) -> Json | Opaque:
    if body.is_cut:
        return _opaque(body)
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        try:
            return _final(messages(body.content))
        except SseError:
            return _opaque(body)
    return _parsed(body.content) if body.content else None


def _final(data: Sequence[str]) -> Json | Opaque:
    """The last response among a stream's messages, else the last message; None where there is none."""
    last: Json | Opaque = None
    for text in reversed(data):
        message = _parsed(text.encode("utf-8", "replace"))
        if isinstance(message, dict) and ("result" in message or "error" in message):
            return message
        last = message if last is None else last
    return last


def _parsed(content: bytes) -> Json | Opaque:
    try:
        return parse_data(content)
    except Refusal:
        return _opaque(Body.of(content))


def _opaque(body: Body) -> Opaque:
    return Opaque(body.length, body.sha256 or hashlib.sha256(body.content).hexdigest())


def _comparable(message: Json | Opaque) -> Json | Opaque:
    """The message without what is not compared; members stay as they are in anything but JSON-RPC."""
    if isinstance(message, list) and all(isinstance(item, dict) and "jsonrpc" in item for item in message):
        by_id = sorted(message, key=lambda item: str(item.get("id")) if isinstance(item, dict) else "")
        return [plain for item in by_id if not isinstance(plain := _comparable(item), Opaque)]
    if not isinstance(message, dict) or "jsonrpc" not in message:
        return message
    plain = {name: _without_meta(value) for name, value in message.items() if name != "id"}
    for part, opaque in _OPAQUE.items():
        if isinstance(inner := plain.get(part), dict):
            plain[part] = {name: "(opaque)" if name in opaque else value for name, value in inner.items()}
    return plain


def _without_meta(value: Json) -> Json:
    """Depth is bounded by `parse_json`."""
    match value:
        case dict():
            return {name: _without_meta(inner) for name, inner in value.items() if name != "_meta"}
        case list():
            return [_without_meta(inner) for inner in value]
        case _:
            return value


def _walk(path: str, was: Json | Opaque, now: Json | Opaque) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in was | now:
            inner = f"{path}.{name}"
            if name not in now:
                yield f"{inner}: gone, was {_shown(was[name])}"
            elif name not in was:
                yield f"{inner}: new, {_shown(now[name])}"
            else:
                yield from _walk(inner, was[name], now[name])
    elif isinstance(was, list) and isinstance(now, list):
        for index, (left, right) in enumerate(zip(was, now, strict=False)):
            yield from _walk(f"{path}[{index}]", left, right)
        if len(was) != len(now):
            yield f"{path}: {len(was)} items are now {len(now)}"
    elif isinstance(was, bool) is not isinstance(now, bool) or was != now:
        yield f"{path}: {_shown(was)} is now {_shown(now)}"


def _shown(value: Json | Opaque) -> str:
    if isinstance(value, Opaque):
        return f"{value.length} bytes, sha256 {value.sha256[:12]}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
