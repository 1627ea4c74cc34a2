"""Server-Sent Events, rewritten while they stream (WHATWG HTML, "Server-sent events").

Law: the output depends on the bytes, never on how the network split them.
Law: an event leaves in the call in which its end arrived; a comment in the call in which its line ended.
Law: nothing of an event leaves before all of it was rewritten, and never more than one event is kept.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_ANY_LINE_END = re.compile(r"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class SseError(Exception):
    """The stream cannot go on: an event is too large or not UTF-8."""


@dataclass(slots=True)
class Event:
    """One event, or one comment alone. None means that no such line was there; an empty string that it was empty.

    `data` holds the data lines joined with a line feed. An event with `id` and no data moves the resumption point.
    """

    data: str | None = None
    event: str | None = None
    id: str | None = None
    retry: str | None = None
    comment: str | None = None

    def encode(self) -> bytes:
        """The event in lines ended by LF, with the blank line that ends it."""
        lines = []
        for name, value in (("", self.comment), ("event", self.event), ("id", self.id), ("retry", self.retry)):
            if value is not None:
                # One line each: a line end inside would begin another field.
                lines.append(f"{name}:{'' if name == '' else ' '}{_ANY_LINE_END.sub(' ', value)}")
        if self.data is not None:
            lines += [f"data: {line}" for line in _ANY_LINE_END.split(self.data)]
        return ("\n".join(lines) + "\n\n").encode()


class SseRewriter:
    """Takes a stream's bytes in, gives the rewritten stream's bytes out.

    `rewrite` gets each event and comment and returns what to send instead, or None to drop it. `max_event` is in
    bytes, for one event with all its lines and for one comment.
    """

    def __init__(self, rewrite: Callable[[Event], Event | None], *, max_event: int = 4 * 1024 * 1024) -> None:
        self._rewrite = rewrite
        self._max = max_event
        self._partial = bytearray()
        self._started = False
        self._after_cr = False
        self._failed = False
        self.before = b""
        """What the call that failed had rewritten until then: it leaves, as it would have, had it come alone."""
        self._clear()

    def feed(self, data: bytes) -> bytes:
        """The output that `data` completes. Raises `SseError`, or what `rewrite` raised, and sets `before`; after that
        nothing more is accepted.
        """
        if self._failed:
            raise SseError("the stream has failed")
        out: list[bytes] = []
        try:
            self._read(data, out)
        except BaseException:
            self._failed = True
            self.before = b"".join(out)
            raise
        return b"".join(out)

    def finish(self) -> bytes:
        """The end of the stream: an event without its blank line is discarded, as every client does."""
        self._failed = True
        self._partial.clear()
        self._clear()
        return b""

    def _clear(self) -> None:
        self._event = Event()
        self._data: list[str] = []
        self._is_empty = True
        self._size = 0

    def _read(self, data: bytes, out: list[bytes]) -> None:
        if not self._started:
            data = self._without_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            data = data[1:] if data[:1] == b"\n" else data
        if not data:
            return
        *lines, rest = _LINE_END.split(data)
        self._after_cr = data.endswith(b"\r")
        for line in lines:
            if self._partial:
                line = bytes(self._partial) + line  # noqa: PLW2901  # the line, whole
                self._partial.clear()
            self._read_line(line, out)
        self._partial += rest
        self._check_size(len(self._partial), is_comment=self._partial.startswith(b":"))

    def _without_bom(self, data: bytes) -> bytes:
        """The stream's first bytes, once they are enough to tell a byte order mark."""
        self._partial += data
        if len(self._partial) < len(_BOM) and _BOM.startswith(bytes(self._partial)):
            return b""
        self._started = True
        data = bytes(self._partial).removeprefix(_BOM)
        self._partial.clear()
        return data

    def _read_line(self, line: bytes, out: list[bytes]) -> None:
        is_comment = line.startswith(b":")
        self._check_size(len(line), is_comment=is_comment)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise SseError("an event is not UTF-8") from None
        if text == "":
            self._dispatch(out)
        elif is_comment:
            self._emit(Event(comment=text[1:]), out)
        else:
            self._size += len(line) + 1
            self._check_size(0, is_comment=False)
            self._read_field(text)

    def _read_field(self, line: str) -> None:
        """One field; unknown ones are dropped: clients ignore them, and nothing could mask them."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event.event = value or None  # an empty type is the default one
        elif name == "id" and "\0" not in value:
            self._event.id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self._event.retry = value
        else:
            return
        self._is_empty = False

    def _dispatch(self, out: list[bytes]) -> None:
        event, data, is_empty = self._event, self._data, self._is_empty
        self._clear()
        if is_empty:
            return
        if data:
            event.data = "\n".join(data)
        self._emit(event, out)

    def _emit(self, event: Event, out: list[bytes]) -> None:
        rewritten = self._rewrite(event)
        if rewritten is not None:
            out.append(rewritten.encode())

    def _check_size(self, length: int, *, is_comment: bool) -> None:
        if length + (0 if is_comment else self._size) > self._max:
            raise SseError(f"an event is larger than {self._max} bytes")
