"""A folder of sessions, a clock that goes on by itself, and one way to record a conversation."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coatcheck.mcp.call import Call, Json
from coatcheck.sessions.read import Session, find_sessions, read_session
from coatcheck.sessions.recorder import Recording, SessionKey, SessionRecorder

START = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
URL = "https://mcp.shop.test/mcp"


class Clock:
    """Moves on by a millisecond each time it is read."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


@dataclass(frozen=True)
class Said:
    """One exchange: a JSON-RPC message, and what came back for it."""

    message: Json
    answer: Json = None
    status: int = 200
    decision: str = "allow"
    events: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    answer_headers: Sequence[tuple[str, str]] = ()
    http: str = "POST"
    accepts: str = "application/json, text/event-stream"
    url: str = URL
    raw: bytes | None = None
    raw_answer: bytes | None = None
    outcome: str = "answered"
    has_answer: bool = True
    rules: Sequence[str] = field(default=("ci-reads",))


def calls_of(message: Json) -> list[Call]:
    found = message if isinstance(message, list) else [message]
    calls = []
    for item in found:
        if isinstance(item, dict) and isinstance(method := item.get("method"), str):
            params = item.get("params")
            name = (params.get("name") or params.get("uri")) if isinstance(params, dict) else None
            request_id = item.get("id")
            calls.append(Call("mcp", method, name if isinstance(name, str) else None, id=request_id))  # type: ignore[arg-type]
    return calls


def say(recording: Recording, said: Said) -> None:
    headers = [("Accept", said.accepts), ("Content-Type", "application/json"), *said.headers]
    body = said.raw if said.raw is not None else json.dumps(said.message).encode() if said.message is not None else b""
    recording.request(
        said.http, said.url, headers, body, calls_of(said.message), said.decision, list(said.rules), approval=None
    )
    for event in said.events:
        recording.event(event)
    if said.has_answer:
        kind = "text/event-stream" if said.events else "application/json"
        answer = said.raw_answer
        if answer is None:
            answer = b"" if said.answer is None else json.dumps(said.answer).encode()
        recording.response(said.status, [("Content-Type", kind), *said.answer_headers], answer)
    recording.end(said.outcome)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state" / "sessions"
    made.parent.mkdir(mode=0o700)
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def recorder(folder: Path, clock: Clock) -> Iterator[SessionRecorder]:
    made = SessionRecorder(folder, clock=clock)
    made.start()
    yield made
    made.close()


type Record = Callable[..., Session]


@pytest.fixture
def record(folder: Path, clock: Clock) -> Record:
    """Records exchanges, each given as the fields of `Said`, as one session, and reads it back."""

    def made(*exchanges: dict[str, Any], caller: str = "shop-ci") -> Session:
        before = {summary.id for summary in find_sessions(folder)}
        recorder = SessionRecorder(folder, clock=clock)
        recorder.start()
        key = SessionKey(caller, "a1b2", "shop")
        for fields in exchanges:
            recording = recorder.begin(key, issuer="github", subject="repo:acme/shop", url=URL, policy="ab" * 32)
            say(recording, Said(**fields))
        recorder.close()
        (new,) = {summary.id for summary in find_sessions(folder)} - before
        return read_session(folder, new)

    return made
