"""Header hygiene: what a request's head must look like, and which headers leave for the server.

Law: a header that policy, identity or routing reads occurs once, in one spelling; what two parties could read
differently is refused (RFC 9110 section 5, RFC 9112).
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from coatcheck.errors import Refusal

type Fields = Sequence[tuple[bytes, bytes]]

MAX_HEADERS = 200
MAX_HEAD_BYTES = 128 * 1024
MAX_BODY_BYTES = 10 * 1024 * 1024
"""Of a request."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

POLICED = frozenset(
    {
        "host", "authorization", "proxy-authorization", "content-type", "content-length", "transfer-encoding",
        "content-encoding", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "last-event-id",
        "origin", "cookie", "expect", "upgrade", "connection", "accept-encoding",
    }
)  # fmt: skip
"""Headers that may occur once, and not under a spelling with `_` for `-`."""

REMOVED = frozenset(
    {
        # hop-by-hop (RFC 9110 section 7.6.1) and what belongs to the gateway
        "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "proxy-authorization", "proxy-authenticate", "expect", "http2-settings", "alt-used",
        # what a server could mistake for the truth about its client or its target
        "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip",
        "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override", "x-host",
        # answers must be whole and readable
        "accept-encoding", "range", "if-range",
    }
)  # fmt: skip
"""Headers that never leave for a server; neither does any that begins with `x-forwarded` or `x-original-`."""


_ENCODED = ("gzip", "application/x-git-upload-pack-request")
"""The one encoding that one client cannot do without (gitprotocol-http), and what it sends in it."""
_CONNECTION = frozenset({"connection", "upgrade", "trailer", "content-encoding", "transfer-encoding", "expect"})


def check_head(method: str, fields: Fields) -> dict[str, str]:
    """Headers by lower-case name, first value; raises `Refusal` where the head is not well-formed."""
    if not method.isascii() or not method.isalpha() or method != method.upper() or len(method) > 20:
        raise Refusal("bad-method", "the method is not an upper-case HTTP method")
    found: dict[str, str] = {}
    size = 0
    for raw_name, raw_value in fields:
        size += len(raw_name) + len(raw_value) + 4
        if size > MAX_HEAD_BYTES or len(fields) > MAX_HEADERS:
            raise Refusal("head-too-large", "the request has too many or too large headers", status=431)
        if not _NAME.fullmatch(raw_name) or _FORBIDDEN_IN_VALUE.search(raw_value):
            raise Refusal("bad-header", "a header has characters that are not permitted")
        name = raw_name.decode("ascii").lower()
        twin = name.replace("_", "-")
        if twin in POLICED and (twin != name or name in found):
            raise Refusal("duplicate-header", f"header {twin} must occur once, spelt {twin}")
        if name in found and name.startswith("mcp-param-"):
            raise Refusal("duplicate-header", "a header that mirrors an argument must occur once")
        found.setdefault(name, raw_value.decode("utf-8", "surrogateescape"))
    _check_connection(found)
    return found


def _check_connection(found: Mapping[str, str]) -> None:
    if not _CONNECTION.isdisjoint(found):
        _check_framing(found)


def _check_framing(found: Mapping[str, str]) -> None:
    listed = {token.strip().lower() for token in found.get("connection", "").split(",")} - {""}
    if listed & (POLICED - {"upgrade", "connection"}):
        raise Refusal("bad-header", "a Connection header lists a header that is policed")
    if "upgrade" in found or "upgrade" in listed:
        raise Refusal("upgrade-refused", "protocol upgrades are not permitted", status=403)
    if "trailer" in found:
        raise Refusal("trailers-refused", "trailers are not permitted")
    encoding = found.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and (encoding, found.get("content-type")) != _ENCODED:
        raise encoded_body()
    if "transfer-encoding" in found and found["transfer-encoding"].strip().lower() != "chunked":
        raise Refusal("bad-header", "the only transfer encoding is chunked")
    if found.get("expect", "100-continue").strip().lower() != "100-continue":
        raise Refusal("expectation-refused", "the expectation is not known", status=417)


def encoded_body() -> Refusal:
    """A body that is encoded, and may not be or not so."""
    return Refusal("encoded-body", "request bodies must not be encoded", status=415)


def forwarded(fields: Fields, *, authority: str, body: bytes, method: str) -> list[tuple[bytes, bytes]]:
    """The headers that leave for the server: ours for routing and framing, the client's for the rest.

    Names are lower case but for what the client spelt; `Host`, `Accept-Encoding` and `Content-Length` are set here.
    """
    kept = [(name, value) for name, value in fields if not _is_removed(name)]
    out = [(b"Host", authority.encode("ascii")), *kept, (b"Accept-Encoding", b"identity")]
    if body or method in ("POST", "PUT", "PATCH"):
        out.append((b"Content-Length", b"%d" % len(body)))
    return out


_SET_HERE = frozenset(name.encode("ascii") for name in REMOVED | {"host", "content-length"})


def _is_removed(raw_name: bytes) -> bool:
    name = raw_name.lower().replace(b"_", b"-")
    return name in _SET_HERE or name.startswith((b"x-forwarded", b"x-original-"))


def without(fields: Iterable[tuple[bytes, bytes]], *names: str) -> list[tuple[bytes, bytes]]:
    """The fields but for these (lower-case) names, also where they are spelt with `_` for `-`."""
    drop = {name.encode("ascii") for name in names}
    return [(name, value) for name, value in fields if name.lower().replace(b"_", b"-") not in drop]
