"""Writes what callers and servers say to each other, while they say it.

Law: nothing here blocks or fails its caller: a line is a small tuple on a queue, JSON and disk are a thread's.
Law: a line that cannot be kept is counted, in `lost` and in the session's last line; the recorder says it is unhealthy.

The caller's side is for one thread: the event loop. Recordings are not the audit log: they are not synced to disk.
"""

import queue
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread

from coatcheck.mcp.call import Call, Json
from coatcheck.sessions.body import Body
from coatcheck.sessions.lines import (
    CallLine,
    ClosedLine,
    EndLine,
    EventLine,
    Line,
    RequestLine,
    ResponseLine,
    SessionLine,
)
from coatcheck.sessions.writer import Job, OpenSession, Writer

MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes of bodies that may wait for a slow disk."""

_LINE_BYTES = 512
"""What a line weighs in the backlog besides its body."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What makes requests one conversation: the same token of the same caller, to the same server."""

    caller: str
    token_id: str
    server: str


class Recording:
    """One exchange of a session. `session` is the session's id, `n` the exchange's number in it, from 1."""

    __slots__ = ("__weakref__", "_open", "_policy", "_recorder", "n", "session")

    def __init__(self, recorder: "SessionRecorder", session: OpenSession, n: int, policy: str | None) -> None:
        self._recorder = recorder
        self._open = session
        self._policy = policy
        self.session = session.head.id
        self.n = n

    def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        calls: Sequence[Call],
        decision: str,
        rules: Sequence[str],
        approval: str | None,
    ) -> None:
        """What was asked for, masked, and the effect that was applied to it."""
        arguments = (method, url, tuple(headers), body, tuple(calls), decision, tuple(rules), approval)
        self._put(partial(_request_line, self.n, self._recorder.now(), self._policy, *arguments), len(body))

    def response(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """The answer, masked; an empty body where it came as events."""
        self._put(partial(_response_line, self.n, self._recorder.now(), status, tuple(headers), body), len(body))

    def event(self, data: str, event: str | None = None, id: str | None = None) -> None:  # noqa: A002  # SSE's own word
        """One server-sent event, masked: its data lines joined, its type, its id."""
        self._put(partial(_event_line, self.n, self._recorder.now(), data, event, id), len(data))

    def end(self, outcome: str) -> None:
        """The exchange is over. Needed: a session with an exchange under way is not idle."""
        self._put(partial(EndLine, self.n, self._recorder.now(), outcome), 0)
        self._open.running.discard(self)

    def _put(self, make: Callable[[], Line], size: int) -> None:
        self._recorder.put(self._open, make, size)


class SessionRecorder:
    """Sessions under `folder`, one JSON-lines file each, in a folder a day.

    `clock` gives timezone-aware UTC. `on_closed(path)` is called for each session that was closed, after its last
    line is written, on a thread of its own, so that making a flow file delays no recording.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        idle: timedelta = timedelta(minutes=5),
        on_closed: Callable[[Path], None] | None = None,
    ) -> None:
        self.now = clock
        self._folder = folder
        self._idle = idle
        self._sessions: dict[SessionKey, OpenSession] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._queued = 0
        self._dropped = 0
        self._writer = Writer(folder, self._queue, on_closed)
        self._thread = Thread(target=self._writer.run, name="session-recorder", daemon=True)
        self._is_accepting = True

    def start(self) -> None:
        """Starts the writing thread."""
        self._thread.start()

    def begin(
        self,
        key: SessionKey,
        *,
        issuer: str,
        subject: str,
        url: str,
        policy: str,
        run: Mapping[str, Json] | None = None,
    ) -> Recording:
        """The next exchange of the key's session; opens one where none is open. `policy` is its sha256 (hex), `run`
        what tells the caller's run from another.
        """
        session = self._sessions.get(key)
        if session is None:
            started, session_id = self.now(), secrets.token_hex(8)
            path = self._folder / f"{started:%Y-%m-%d}" / f"{session_id}.jsonl"
            head = SessionLine(session_id, key.caller, issuer, subject, key.server, url, started, policy, run or {})
            session = self._sessions[key] = OpenSession(head, path)
        session.count += 1
        recording = Recording(self, session, session.count, None if policy == session.head.policy else policy)
        session.running.add(recording)
        return recording

    def put(self, session: OpenSession, make: Callable[[], Line], size: int) -> None:
        """Queues one line of `size` bytes of content; counts it as lost where it cannot be queued."""
        size += _LINE_BYTES
        if session.is_closed or not self._is_accepting or self._queued - self._writer.taken + size > MAX_BACKLOG:
            session.dropped += 1
            self._dropped += 1
            return
        session.last = self.now()
        self._queued += size
        self._queue.put((session, make, size))

    def close_idle(self) -> None:
        """Closes the sessions where nothing was said for `idle` and no exchange is under way."""
        latest = self.now() - self._idle
        for key, session in list(self._sessions.items()):
            if session.last <= latest and not len(session.running):
                self._close(key, session, "idle")

    def close(self) -> None:
        """Closes every session, writes what waits, and stops. Blocks until that is done."""
        for key, session in list(self._sessions.items()):
            self._close(key, session, "shutdown")
        self._is_accepting = False
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    @property
    def healthy(self) -> bool:
        """Whether what is said now will be kept."""
        return (
            self._thread.is_alive()
            and not self._writer.is_failing
            and self._queued - self._writer.taken <= MAX_BACKLOG // 2
        )

    @property
    def lost(self) -> int:
        """How many lines could not be kept."""
        return self._dropped + self._writer.lost

    def _close(self, key: SessionKey, session: OpenSession, reason: str) -> None:
        del self._sessions[key]
        self._queued += _LINE_BYTES
        self._queue.put((session, partial(ClosedLine, self.now(), reason), _LINE_BYTES))
        session.is_closed = True


def _request_line(
    n: int,
    at: datetime,
    policy: str | None,
    method: str,
    url: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    calls: tuple[Call, ...],
    decision: str,
    rules: tuple[str, ...],
    approval: str | None,
) -> RequestLine:
    asked = tuple(CallLine(call.method, call.name, call.id) for call in calls)
    return RequestLine(n, at, method, url, headers, Body.of(body), asked, decision, rules, approval, policy)


def _response_line(
    n: int, at: datetime, status: int, headers: tuple[tuple[str, str], ...], body: bytes
) -> ResponseLine:
    return ResponseLine(n, at, status, headers, Body.of(body))


def _event_line(n: int, at: datetime, data: str, event: str | None, event_id: str | None) -> EventLine:
    return EventLine(n, at, Body.of_text(data), event, event_id)
