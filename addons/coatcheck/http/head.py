"""A request's head as bytes, before anything parses it (RFC 9112 sections 2 to 5).

Law: every line ends in CRLF, none is folded, the request line is `METHOD SP target SP HTTP/1.1`, and the target has
the form its place calls for. What a lenient parser would repair is refused: the next one might repair it otherwise.
"""

import re
from typing import Literal

from coatcheck.errors import Refusal
from coatcheck.http.headers import MAX_HEAD_BYTES, MAX_HEADERS

type Place = Literal["proxy", "origin"]
"""Where the head came in: at the proxy port itself, or inside a tunnel or at a gateway URL."""

_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/(\d\.\d)")
_VERSIONED = re.compile(rb".* HTTP/\d\.\d")
_BEGINNING = re.compile(rb"[A-Z]{1,20}( [\x20-\x7e]*\r?|)")
_ABSOLUTE = re.compile(rb"https?://[^/?#@\\]+(/[^#\\]*)?", re.IGNORECASE)
_ORIGIN = re.compile(rb"/[^#\\]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_AUTHORITY = re.compile(rb"[^/?#@\\]+")


def is_whole(buffered: bytes) -> bool:
    """Whether a head that has come in so far is complete. Raises `Refusal` as soon as it cannot become a good one."""
    if not buffered:
        return False
    end = buffered.find(_END)
    if end < 0:
        first_line = buffered[: buffered.find(b"\n")] if b"\n" in buffered else buffered
        if len(buffered) > MAX_HEAD_BYTES + len(_END) - 1:
            raise Refusal("head-too-large", "the request's head is too large", status=431)
        if not _BEGINNING.fullmatch(first_line[:MAX_HEAD_BYTES]) or b"\n\n" in buffered:
            raise _not_http()
        return False
    if end > MAX_HEAD_BYTES:
        raise Refusal("head-too-large", "the request's head is too large", status=431)
    return True


def check_bytes(buffered: bytes, place: Place) -> None:
    """Checks a whole head. Raises `Refusal` (400, 431 or 505)."""
    head = buffered[: buffered.index(_END) + 2]
    lines = head[:-2].split(b"\r\n")
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        raise Refusal("bad-line-end", "lines must end in CRLF, and hold no other control characters")
    if len(lines) - 1 > MAX_HEADERS:
        raise Refusal("head-too-large", "the request has too many headers", status=431)
    if any(line[:1] in (b" ", b"\t") for line in lines[1:]):
        raise Refusal("folded-header", "headers must not be folded")
    _check_request_line(lines[0], place)
    _check_fields(lines[1:])


def _check_request_line(line: bytes, place: Place) -> None:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        if _VERSIONED.fullmatch(line):
            raise Refusal("bad-method", "the request line must be METHOD target HTTP/1.1, the method in upper case")
        raise _not_http()
    method, target, version = found.groups()
    if version != b"1.1":
        raise Refusal("bad-version", "only HTTP/1.1 is spoken", status=505)
    if method == b"CONNECT":
        form = _AUTHORITY if place == "proxy" else None
    else:
        form = _ABSOLUTE if place == "proxy" else _ORIGIN
    if form is None or not form.fullmatch(target):
        raise Refusal("bad-request-target", "the request target has not the form that is due here")


def _check_fields(lines: list[bytes]) -> None:
    """Each line is `name: value`; the two headers that say where the body ends leave no doubt (RFC 9112 section 6)."""
    framing = []
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise Refusal("bad-header", "a header line is not `name: value`")
        name = found[1].lower().replace(b"_", b"-")
        if name in (b"content-length", b"transfer-encoding"):
            framing.append((found[1].lower(), found[2]))
    if not framing:
        return
    name, value = framing[0]
    fits = _LENGTH.fullmatch(value) if name == b"content-length" else value.lower() == b"chunked"
    if len(framing) > 1 or name not in (b"content-length", b"transfer-encoding") or not fits:
        raise Refusal("bad-framing", "the body's length must be given once, by Content-Length or as chunked")


def _not_http() -> Refusal:
    return Refusal("not-http", "this is not a request of HTTP/1.1")
