"""A server's answer's head as bytes, before anything parses it (RFC 9112 sections 4 and 5).

Law: one status line of HTTP/1.0 or HTTP/1.1, then plain header lines, each ended by CRLF, within the limits that hold
for requests. What a lenient parser would repair is refused: a caller's parser might repair it otherwise.
"""

import re

from coatcheck.errors import SERVER_FAILED, Refusal
from coatcheck.http.head import check_fields, check_lines_so_far, plain_lines
from coatcheck.http.headers import MAX_HEAD_BYTES

_END = b"\r\n\r\n"
_START = b"HTTP/1."
_BODILESS = frozenset({b"204", *(b"%d" % status for status in range(100, 200))})
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}( [\t\x20-\x7e\x80-\xff]*)?")


def is_whole(buffered: bytes) -> bool:
    """Whether an answer's head that has come in so far is complete.

    Raises `Refusal` (502) as soon as it cannot become a good one.
    """
    if not _START.startswith(buffered[: len(_START)]):
        raise bad_answer("it is not HTTP/1.1")
    end = buffered.find(_END)
    if end > MAX_HEAD_BYTES or (end < 0 and len(buffered) > MAX_HEAD_BYTES + len(_END) - 1):
        raise bad_answer("its head is too large")
    if end < 0 and b"\n" in buffered:
        _check(buffered)
    return end >= 0


def check_bytes(buffered: bytes) -> None:
    """Checks a whole head. Raises `Refusal` (502)."""
    try:
        lines = plain_lines(buffered[: buffered.index(_END) + 2])
        _check_status_line(lines[0])
        length = check_fields(lines[1:])
    except Refusal as refusal:
        raise bad_answer(refusal.message) from None
    if lines[0][9:12] in _BODILESS and length not in (None, b"0"):
        raise bad_answer("it says it has a body where there is none")


def bad_answer(what: str) -> Refusal:
    """What the caller of a server whose answer cannot be read is told."""
    message = f"the server's answer is not well-formed: {what}"
    return Refusal("server-failed", message, status=502, code=SERVER_FAILED, retryable=True)


def _check(beginning: bytes) -> None:
    """Checks what has come in so far: at least a line."""
    try:
        check_lines_so_far(beginning)
        _check_status_line(beginning.partition(b"\r\n")[0])
    except Refusal as refusal:
        raise bad_answer(refusal.message) from None


def _check_status_line(line: bytes) -> None:
    if not _STATUS_LINE.fullmatch(line):
        raise Refusal("bad-status-line", "its first line is no status line")
