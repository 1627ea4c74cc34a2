"""A binding: where a secret may go.

Law: a binding names one server and at least one place; it never names a place a server is known to echo,
a header the connection owns, or a field that tells what a message asks for.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

from coatcheck.mcp.call import Json

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""A lower-case field name (RFC 9110 5.6.2)."""

PLAIN = re.compile(r"[\t\x20-\x7e]*")
"""What a header's format may hold (RFC 9110 5.5, without obs-text)."""

CONNECTION_HEADERS = frozenset({
    "connection", "content-length", "host", "http2-settings", "keep-alive", "proxy-authenticate",
    "proxy-authentication-info", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip
"""Hop-by-hop (RFC 9110 7.6.1), and what says where a message goes and where it ends."""

ECHOED_HEADERS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "b3", "baggage", "content-disposition",
    "content-encoding", "content-type", "correlation-id", "expect", "forwarded", "idempotency-key", "last-event-id",
    "origin", "prefer", "range", "referer", "request-id", "traceparent", "tracestate", "user-agent", "via",
    "x-correlation-id", "x-request-id", "x-trace-id",
})  # fmt: skip
"""Servers, proxies and logs are known to copy these into answers and records."""

ECHOED_PREFIXES = ("access-control-", "mcp-", "sec-", "x-amzn-trace-", "x-b3-", "x-forwarded-")
"""Families of the same kind; `Mcp-*` says what the message is (MCP, Streamable HTTP)."""

MESSAGE_FIELDS = frozenset({"id", "jsonrpc", "method"})
POINTER_SEGMENTS = 16


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a secret may go: a server's name in policy, and a header, query parameter, form field or JSON pointer.

    `header` is lower case, None where only another place is meant. `format` has exactly one `{}` and is used
    where the gateway puts the header in by itself; one that begins with `Basic ` has the rest of it, formatted,
    encoded in base64 (RFC 7617), so `Basic {}` takes a value `user:password` and `Basic bot:{}` a password.
    `pointer` is RFC 6901. `identities` are names in policy; none means any caller the policy allows.
    Raises `ValueError` where it would name a place no secret may go.
    """

    server: str
    header: str | None = "authorization"
    format: str = "Bearer {}"
    query: str | None = None
    form: str | None = None
    pointer: str | None = None
    identities: tuple[str, ...] = ()
    unsafe_plain_http: bool = False

    def __post_init__(self) -> None:
        if not self.server:
            raise ValueError("a binding names a server")
        if self.header is None and self.query is None and self.form is None and self.pointer is None:
            raise ValueError("a binding names a header, a query parameter, a form field or a JSON pointer")
        if self.header is not None:
            _check_header(self.header)
        if self.format.count("{}") != 1 or not PLAIN.fullmatch(self.format):
            raise ValueError("a format has exactly one {} and is printable ASCII")
        if self.query == "" or self.form == "":
            raise ValueError("a query parameter or form field has a name")
        if self.pointer is not None:
            _check_pointer(self.pointer)
        if "" in self.identities or len(set(self.identities)) != len(self.identities):
            raise ValueError("a binding's identities are distinct names")

    @property
    def is_basic(self) -> bool:
        """Whether the header is Basic authentication (RFC 7617): its pair is put in as base64."""
        return self.format[:6].lower() == "basic "

    def covers(self, caller: str) -> bool:
        """Whether this caller (an identity's name) may use it."""
        return not self.identities or caller in self.identities

    def overlaps(self, other: "Binding") -> bool:
        """Whether one request could mean either: same server, and a caller both cover."""
        callers = not self.identities or not other.identities or bool({*self.identities} & {*other.identities})
        return self.server == other.server and callers

    def to_json(self) -> dict[str, Json]:
        """All fields by name; `identities` as a list."""
        return {**asdict(self), "identities": list(self.identities)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Self:
        """The opposite of `to_json`. Raises `ValueError` for an unknown key, a wrong type or a refused place."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(value.keys() - known):
            raise ValueError(f"unknown key {unknown[0]!r} in a binding")
        shape = (value.get("server"), value.get("format", "Bearer {}"), value.get("identities", []))
        match (*shape, value.get("unsafe_plain_http", False)):
            case (str(server), str(text), list(identities), bool(plain)):
                return cls(
                    server=server,
                    header=_text(value.get("header", "authorization")),
                    format=text,
                    query=_text(value.get("query")),
                    form=_text(value.get("form")),
                    pointer=_text(value.get("pointer")),
                    identities=tuple(_text(name) or "" for name in identities),
                    unsafe_plain_http=plain,
                )
            case _:
                raise ValueError("a binding's key has the wrong type")


def pointer_segments(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a JSON pointer, unescaped (RFC 6901 section 4)."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def bindings_text(bindings: Sequence[Binding]) -> str:
    """The bindings as canonical JSON: what is stored, and what the seal covers."""
    content = [binding.to_json() for binding in bindings]
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def bindings_digest(bindings: Sequence[Binding]) -> str:
    """SHA-256 (hex) of `bindings_text`."""
    return hashlib.sha256(bindings_text(bindings).encode()).hexdigest()


def parse_bindings(text: str) -> tuple[Binding, ...]:
    """The opposite of `bindings_text`. Raises `ValueError`."""
    content = json.loads(text)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError("bindings are a list of objects")
    return tuple(Binding.from_json(item) for item in content)


def _text(value: Json) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("a binding's key has the wrong type")
    return value


def _check_header(header: str) -> None:
    if not TOKEN.fullmatch(header):
        raise ValueError(f"not a header's name in lower case: {header!r}")
    if header in CONNECTION_HEADERS:
        raise ValueError(f"the header {header!r} belongs to the connection, not to a secret")
    if header in ECHOED_HEADERS or header.startswith(ECHOED_PREFIXES):
        raise ValueError(f"the header {header!r} is one that servers and logs copy; a secret never goes there")


def _check_pointer(pointer: str) -> None:
    if not pointer.startswith("/") or re.search(r"~(?![01])", pointer):
        raise ValueError(f"not a JSON pointer to a member: {pointer!r}")
    segments = pointer_segments(pointer)
    if len(segments) > POINTER_SEGMENTS:
        raise ValueError(f"a JSON pointer has at most {POINTER_SEGMENTS} parts")
    first = segments[1:2] if segments[0].isdecimal() else segments[:1]
    if MESSAGE_FIELDS.intersection(first) or {"_meta", "progressToken"}.intersection(segments):
        raise ValueError(f"the pointer {pointer!r} names a field of the message itself; a secret never goes there")
