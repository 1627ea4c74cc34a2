"""A body in chunks, decoded as it comes in (RFC 9112 section 7.1).

Law: what is decoded depends on the bytes, never on how the network split them; memory is bounded by one line.
Law: a size has at most 16 hexadecimal digits and nothing but CRLF ends a line; extensions are dropped.
"""

import re
from collections.abc import Callable

from coatcheck.errors import Refusal
from coatcheck.http.head import FIELD

MAX_LINE_BYTES = 4096
"""Of one line: a chunk's size with its extensions, or a trailer."""
MAX_TRAILER_BYTES = 16 * 1024

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_BEGINNING = re.compile(rb"[0-9A-Fa-f]{0,16}|[0-9A-Fa-f]{1,16}[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r?")


class ChunkedBody:
    """One body. `limit` is the most bytes of data it may have; without `with_trailers` it may have none."""

    def __init__(self, *, limit: int | None, with_trailers: bool) -> None:
        self._limit = limit
        self._with_trailers = with_trailers
        self._pending = bytearray()
        self._state: Callable[[bytearray], bool] = self._size
        self._left = 0
        self._taken = 0
        self._trailer_bytes = 0
        self._refusal: Refusal | None = None
        self.is_whole = False
        """Whether the end has come in; `rest` is then what came behind it."""

    @property
    def rest(self) -> bytes:
        """What has come in and was not read yet."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> bytes:
        """More of the body's bytes to the data that they hold.

        Raises `Refusal` (400 or 413), once the data before the fault was given.
        """
        if self._refusal is not None:
            raise self._refusal
        self._pending += data
        out = bytearray()
        try:
            while not self.is_whole and self._state(out):
                pass
        except Refusal as refusal:
            self._refusal = refusal
            if not out:
                raise
        return bytes(out)

    # -- states: each takes what it can, and tells whether the next one may go on ----------------------------------

    def _size(self, _out: bytearray) -> bool:
        line = self._line(_BEGINNING)
        if line is None:
            return False
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise _bad_chunk()
        self._left = int(found[1], 16)
        self._taken += self._left
        if self._limit is not None and self._taken > self._limit:
            raise Refusal("body-too-large", "the request body is over the limit", status=413)
        self._state = self._data if self._left else self._trailers
        return True

    def _data(self, out: bytearray) -> bool:
        taken = self._pending[: self._left]
        del self._pending[: len(taken)]
        out += taken
        self._left -= len(taken)
        if not self._left:
            self._state = self._data_end
        return not self._left

    def _data_end(self, _out: bytearray) -> bool:
        if not b"\r\n".startswith(self._pending[:2]):
            raise _bad_chunk()
        if len(self._pending) < 2:
            return False
        del self._pending[:2]
        self._state = self._size
        return True

    def _trailers(self, _out: bytearray) -> bool:
        if not self._with_trailers and not b"\r\n".startswith(self._pending[:2]):
            raise Refusal("trailers-refused", "trailers are not permitted")
        line = self._line(None)
        if line is None:
            return False
        self._trailer_bytes += len(line) + 2
        if line and (self._trailer_bytes > MAX_TRAILER_BYTES or not FIELD.fullmatch(line)):
            raise Refusal("bad-framing", "a trailer is not well-formed")
        self.is_whole = not line
        return True

    def _line(self, beginning: re.Pattern[bytes] | None) -> bytes | None:
        """The next line without its CRLF; None while it is not whole."""
        end = self._pending.find(b"\n", 0, MAX_LINE_BYTES)
        line = bytes(self._pending[: end if end >= 0 else MAX_LINE_BYTES])
        if beginning is not None and not beginning.fullmatch(line):
            raise _bad_chunk()
        if end < 0:
            if len(line) == MAX_LINE_BYTES:
                raise _bad_chunk()
            return None
        if not line.endswith(b"\r"):
            raise _bad_chunk()
        del self._pending[: end + 1]
        return line[:-1]


def _bad_chunk() -> Refusal:
    return Refusal("bad-framing", "a chunk is not well-formed")
