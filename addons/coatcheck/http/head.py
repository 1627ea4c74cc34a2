"""A request's head as bytes, before anything parses it (RFC 9112 sections 2 to 5).

Law: every line ends in CRLF, none is folded, the request line is `METHOD SP target SP HTTP/1.1`, and the target has
the form its place calls for. What a lenient parser would repair is refused: the next one might repair it otherwise.
Law: what cannot become a good head is refused as soon as that can be seen, the request line at its line feed.
"""

import re
from typing import Literal

from coatcheck.errors import Refusal
from coatcheck.http.headers import MAX_HEAD_BYTES, MAX_HEADERS
from coatcheck.http.target import parse_authority

type Place = Literal["proxy", "origin"]
"""Where the head came in: at the proxy port itself, or inside a tunnel or at a gateway URL."""

_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/(\d\.\d)")
_VERSIONED = re.compile(rb".* HTTP/\d\.\d")
_BEGINNING = re.compile(rb"[A-Z]{1,20}( [\x20-\x7e]*\r?|)")
_ABSOLUTE = re.compile(rb"https?://[^/?#@\\]+(/[^#\\]*)?", re.IGNORECASE)
_ORIGIN = re.compile(rb"/[^#\\]*")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_AUTHORITY = re.compile(rb"[^/?#@\\]+")


def is_whole(buffered: bytes, place: Place) -> bool:
    """Whether a head that has come in so far is complete. Raises `Refusal` as soon as it cannot become a good one."""
    if not buffered:
        return False
    end = buffered.find(_END)
    if end > MAX_HEAD_BYTES or (end < 0 and len(buffered) > MAX_HEAD_BYTES + len(_END) - 1):
        raise Refusal("head-too-large", "the request's head is too large", status=431)
    if end >= 0:
        return True
    first_line, line_feed, _ = buffered.partition(b"\n")
    if not _BEGINNING.fullmatch(first_line):
        raise _not_http()
    if line_feed:
        check_lines_so_far(buffered)
        _check_request_line(first_line[:-1], place)
    return False


def check_bytes(buffered: bytes, place: Place) -> None:
    """Checks a whole head. Raises `Refusal` (400, 431 or 505)."""
    lines = plain_lines(buffered[: buffered.index(_END) + 2])
    method = _check_request_line(lines[0], place)
    framing = check_fields(lines[1:])
    if method == b"CONNECT" and framing not in (None, b"0"):
        raise Refusal("bad-framing", "CONNECT has no body")


def check_lines_so_far(data: bytes) -> None:
    """Raises `Refusal` where a line feed stands alone, or there are too many lines."""
    line_feeds = data.count(b"\n")
    if line_feeds != data.count(b"\r\n"):
        raise _bad_line_end()
    if line_feeds - 1 > MAX_HEADERS:
        raise _too_many()


def plain_lines(head: bytes) -> list[bytes]:
    """The lines of a head that ends with the CRLF of its last one; none is folded, none has another control character.

    Raises `Refusal` (400 or 431).
    """
    lines = head[:-2].split(b"\r\n")
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        raise _bad_line_end()
    if len(lines) - 1 > MAX_HEADERS:
        raise _too_many()
    if any(line[:1] in (b" ", b"\t") for line in lines[1:]):
        raise Refusal("folded-header", "headers must not be folded")
    return lines


def _check_request_line(line: bytes, place: Place) -> bytes:
    """The method."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        if _VERSIONED.fullmatch(line):
            raise Refusal("bad-method", "the request line must be METHOD target HTTP/1.1, the method in upper case")
        raise _not_http()
    method, target, version = found.groups()
    if version != b"1.1" and not (method == b"CONNECT" and version == b"1.0"):  # as Python up to 3.11 opens its tunnels
        raise Refusal("bad-version", "only HTTP/1.1 is spoken", status=505)
    if method == b"CONNECT":
        form = _AUTHORITY if place == "proxy" else None
    else:
        form = _ABSOLUTE if place == "proxy" else _ORIGIN
    if form is None or not form.fullmatch(target):
        raise Refusal("bad-request-target", "the request target has not the form that is due here")
    if method == b"CONNECT":
        parse_authority(target.decode("ascii"), default_port=None)
    return bytes(method)


def check_fields(lines: list[bytes]) -> bytes | None:
    """Each line is `name: value`; the two headers that say where the body ends leave no doubt (RFC 9112 section 6).

    Returns what they say: a length, `chunked` in any case, or None. Raises `Refusal` (400).
    """
    framing = []
    for line in lines:
        found = FIELD.fullmatch(line)
        if found is None:
            raise Refusal("bad-header", "a header line is not `name: value`")
        name = found[1].lower().replace(b"_", b"-")
        if name in (b"content-length", b"transfer-encoding"):
            framing.append((found[1].lower(), bytes(found[2])))
    if not framing:
        return None
    name, value = framing[0]
    fits = _LENGTH.fullmatch(value) if name == b"content-length" else value.lower() == b"chunked"
    if len(framing) > 1 or name not in (b"content-length", b"transfer-encoding") or not fits:
        raise Refusal("bad-framing", "the body's length must be given once, by Content-Length or as chunked")
    return value


def _too_many() -> Refusal:
    return Refusal("head-too-large", "there are too many headers", status=431)


def _bad_line_end() -> Refusal:
    return Refusal("bad-line-end", "lines must end in CRLF, and hold no other control characters")


def _not_http() -> Refusal:
    return Refusal("not-http", "this is not a request of HTTP/1.1")
