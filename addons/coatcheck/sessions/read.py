"""Recorded sessions, found and read back.

Law: a torn last line, as a crash leaves it, is passed over; anything else that is not ours is refused with its line.
Law: no more than one line, or the exchange asked for, is held at a time, however long the session is.
"""

import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from coatcheck.errors import CoatcheckError, StateError
from coatcheck.mcp.sse import Event
from coatcheck.sessions.lines import (
    ClosedLine,
    EndLine,
    EventLine,
    Line,
    LineError,
    RequestLine,
    ResponseLine,
    SessionLine,
    parse,
)
from coatcheck.state import open_private

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one line: a body of `body.MAX_BODY` with every byte escaped, its headers and calls, and room."""

_ID = re.compile(r"[0-9a-f]{1,16}")
_REQUEST = b'{"kind":"request"'

type State = Literal["open", "closed", "torn"]
"""`torn`: the last line is cut, or the file does not begin as a session's; no `closed` line was written."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One session of a list. `ended` is None while it is open; a file that cannot be read has no names."""

    id: str
    caller: str
    server: str
    started: datetime
    ended: datetime | None
    exchanges: int
    state: State
    path: Path


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a session and what came back; what was not recorded is None."""

    n: int
    request: RequestLine
    response: ResponseLine | None = None
    events: tuple[EventLine, ...] = ()
    end: EndLine | None = None

    @property
    def title(self) -> str:
        """`tools/call refund_order`, or `GET /path` where no call was told apart."""
        if self.request.calls:
            return ", ".join(call.title for call in self.request.calls)
        return f"{self.request.method} {self.path}"

    @property
    def path(self) -> str:
        """The URL's path, without its query."""
        try:
            return urlsplit(self.request.url).path or "/"
        except ValueError:
            return self.request.url

    @property
    def is_cut(self) -> bool:
        """Whether some of the answer's content was too long to be kept."""
        return any(event.data.is_cut for event in self.events) or (
            self.response is not None and self.response.body.is_cut
        )

    def answer(self) -> bytes:
        """The answer's body; events are in it as the stream they came in."""
        body = self.response.body.content if self.response else b""
        return body + b"".join(Event(e.data.text, e.event, e.id).encode() for e in self.events)


@dataclass(frozen=True, slots=True)
class Session:
    """A recorded session. Exchanges are read from its file when they are asked for."""

    path: Path
    head: SessionLine
    closed: ClosedLine | None
    state: State
    _places: Mapping[int, Sequence[int]]

    @property
    def id(self) -> str:
        """The session's id: 16 hexadecimal digits."""
        return self.head.id

    @property
    def numbers(self) -> Sequence[int]:
        """The exchanges' numbers, in the order they began."""
        return tuple(self._places)

    def exchange(self, n: int) -> Exchange:
        """Exchange `n`. Raises `CoatcheckError`."""
        if n not in self._places:
            raise CoatcheckError(f"no exchange {n}", where=f"session {self.id}")
        with _opened(self.path) as file:
            return self._exchange(n, file)

    def exchanges(self) -> Iterator[Exchange]:
        """Every exchange, in the order they began. Raises `CoatcheckError` where the file changed meanwhile."""
        with _opened(self.path) as file:
            for n in self._places:
                yield self._exchange(n, file)

    def _exchange(self, n: int, file: BufferedReader) -> Exchange:
        request, response, end = None, None, None
        events: list[EventLine] = []
        for place in self._places[n]:
            file.seek(place)
            match _line(_read(file, self.path), f"{self.path}: byte {place}"):
                case RequestLine() as line:
                    request = request or line
                case ResponseLine() as line:
                    response = line
                case EventLine() as line:
                    events.append(line)
                case EndLine() as line:
                    end = line
        if request is None:
            raise CoatcheckError("the file changed while it was read", where=str(self.path))
        return Exchange(n, request, response, tuple(events), end)


def find_sessions(folder: Path) -> list[SessionSummary]:
    """Every session under `folder` (`StateDirectory.sessions`), newest first; one that cannot be read is `torn`."""
    found = [_summary(path) for path in _files(folder, "")]
    return sorted(found, key=lambda summary: (summary.started, summary.id), reverse=True)


def read_session(folder: Path, session_id: str) -> Session:
    """The session of that id, or of the only id that begins so. Raises `CoatcheckError`."""
    paths = _files(folder, session_id) if _ID.fullmatch(session_id) else []
    if not paths:
        raise CoatcheckError("no such session", where=repr(session_id), hint="see: coatcheck sessions list")
    if len(paths) > 1:
        ids = ", ".join(path.stem for path in paths[:5])
        hint = f"one of {ids}" + (", …" if len(paths) > 5 else "")
        raise CoatcheckError(f"{len(paths)} sessions begin so", where=repr(session_id), hint=hint)
    return open_session(paths[0])


def open_session(path: Path) -> Session:
    """The session in one file, every line checked. Raises `CoatcheckError`."""
    head: SessionLine | None = None
    closed: ClosedLine | None = None
    places: dict[int, array[int]] = {}
    is_torn = False
    with _opened(path) as file:
        for number, place, data, is_whole in _lines(file, path):
            if not is_whole:
                is_torn = True
                break
            line = _line(data, f"{path}:{number}")
            if isinstance(line, SessionLine) is not (number == 1):
                raise CoatcheckError("a session's file begins with its one 'session' line", where=f"{path}:{number}")
            match line:
                case SessionLine():
                    head = line
                case ClosedLine():
                    closed = line
                case RequestLine():
                    places.setdefault(line.n, array("Q")).append(place)
                case _ if line.n in places:  # else its request could not be written
                    places[line.n].append(place)
    if head is None or head.id != path.stem:
        raise CoatcheckError("not a recorded session, or not the one its name says", where=str(path))
    return Session(path, head, closed, _state(closed, is_torn=is_torn), places)


def _files(folder: Path, prefix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*/{prefix}*.jsonl") if _ID.fullmatch(path.stem) and path.is_file())


def _summary(path: Path) -> SessionSummary:
    head: SessionLine | None = None
    exchanges, last, is_whole = 0, b"", False
    try:
        with _opened(path) as file:
            for number, _, data, is_whole in _lines(file, path):
                if number == 1:
                    first = _line(data, "") if is_whole else None
                    head = first if isinstance(first, SessionLine) else None
                exchanges += data.startswith(_REQUEST)
                last = data
        line = _line(last, "") if is_whole else None
    except CoatcheckError:
        line, is_whole = None, False
    closed = line if isinstance(line, ClosedLine) else None
    if head is None:
        return SessionSummary(path.stem, "", "", _changed(path), None, exchanges, "torn", path)
    state = _state(closed, is_torn=not is_whole)
    ended = closed.at if closed else None
    return SessionSummary(path.stem, head.caller, head.server, head.started, ended, exchanges, state, path)


def _state(closed: ClosedLine | None, *, is_torn: bool) -> State:
    if is_torn:
        return "torn"
    return "closed" if closed else "open"


def _changed(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)


def _opened(path: Path) -> BufferedReader:
    descriptor = open_private(path)
    try:
        return os.fdopen(descriptor, "rb")
    except OSError as error:
        raise StateError(f"cannot read: {error.strerror}", where=str(path)) from error


def _lines(file: BufferedReader, path: Path) -> Iterator[tuple[int, int, bytes, bool]]:
    """Number from 1, place in bytes, content, and whether its end is there. Raises `CoatcheckError`."""
    number, place = 0, 0
    while data := _read(file, path):
        number += 1
        if len(data) > MAX_LINE:
            raise CoatcheckError(f"a line is longer than {MAX_LINE} bytes", where=f"{path}:{number}")
        yield number, place, data, data.endswith(b"\n")
        place += len(data)


def _read(file: BufferedReader, path: Path) -> bytes:
    try:
        return file.readline(MAX_LINE + 1)
    except OSError as error:
        raise StateError(f"cannot read: {error.strerror}", where=str(path)) from error


def _line(data: bytes, where: str) -> Line:
    try:
        return parse(data)
    except LineError as error:
        raise CoatcheckError(f"not a line of a session: {error}", where=where) from None
