"""A recorded session as mitmproxy's own flow file, for `mitmweb -r`, `mitmdump -C` and `mitmdump -S`.

Law: the file is 0600 and appears whole or not at all; one session always gives the same bytes.
Law: it holds what the session's record holds: masked content, placeholders, no token.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import NAMESPACE_OID, uuid5

from mitmproxy import connection, flow, http, io
from mitmproxy.net.http import status_codes

from coatcheck.errors import CoatcheckError
from coatcheck.sessions.read import Exchange, Session

_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding", "trailer"})
"""Headers about bytes on a wire: the record holds the content, whole and decoded."""

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_TYPES = frozenset(b",;#^!~]}")
"""The type bytes of tnetstrings."""


def write_flow_file(session: Session, out: Path) -> int:
    """Writes the session's exchanges to `out`, replacing it; returns how many. Raises `CoatcheckError`.

    Events become the response's body. A body that was cut when it was recorded is missing content, which
    `mitmdump -C` refuses to send; the flow's comment says so.
    """
    written = 0
    with private_file(out) as file:
        writer = io.FlowWriter(file)
        for exchange in session.exchanges():
            try:
                writer.add(_flow(session, exchange))
            except ValueError:  # a URL or text that mitmproxy cannot hold
                what = f"exchange {exchange.n} cannot be written as a flow"
                raise CoatcheckError(what, where=f"session {session.id}") from None
            written += 1
    return written


def check_flow_file(path: Path) -> int:
    """How many records the file holds, none of them parsed. Raises `CoatcheckError` where one is cut or malformed.

    Reads a few bytes of each record, whatever lengths the file claims (tnetstrings: `LENGTH:DATA TYPE`).
    """
    count = 0
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            place = 0
            while place < end:
                file.seek(place)
                prefix, colon, _ = file.read(14).partition(b":")
                if not colon or not prefix.isdigit() or len(prefix) > 12:
                    raise CoatcheckError(f"not a flow file from byte {place} on", where=str(path))
                last = place + len(prefix) + 1 + int(prefix)
                file.seek(last)
                if last >= end or file.read(1)[0] not in _TYPES:
                    raise CoatcheckError(f"the flow at byte {place} is cut or malformed", where=str(path))
                place = last + 1
                count += 1
    except OSError as error:
        raise CoatcheckError(f"cannot read: {error.strerror}", where=str(path)) from error
    return count


@contextmanager
def private_file(out: Path) -> Iterator[BinaryIO]:
    """A new file, 0600, that takes `out`'s place when the block ends well. Raises `CoatcheckError`."""
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(out)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        raise CoatcheckError(f"cannot write: {error.strerror}", where=str(out)) from error


def _flow(session: Session, exchange: Exchange) -> http.HTTPFlow:
    asked, answered = exchange.request, exchange.response
    began = asked.at.timestamp()
    made = http.HTTPFlow(*_connections(session, exchange, began))
    made.id = str(uuid5(NAMESPACE_OID, f"{session.id}/{exchange.n}"))
    made.timestamp_created = began
    made.request = _request(exchange, began)
    made.server_conn.address = (made.request.host, made.request.port)
    made.server_conn.tls = made.request.scheme == "https"
    if answered is not None:
        made.response = _response(exchange, answered.at.timestamp())
    else:
        outcome = exchange.end.outcome if exchange.end else "unfinished"
        made.error = flow.Error(f"no answer was recorded: {outcome}", began)
    made.comment = _comment(exchange)
    made.metadata = {
        "coatcheck.session": session.id,
        "coatcheck.caller": session.head.caller,
        "coatcheck.server": session.head.server,
        "coatcheck.decision": asked.decision,
        "coatcheck.rules": ", ".join(asked.rules),
        "coatcheck.approval": asked.approval or "",
        "coatcheck.policy": asked.policy or session.head.policy,
    }
    return made


def _connections(session: Session, exchange: Exchange, began: float) -> tuple[connection.Client, connection.Server]:
    names = [str(uuid5(NAMESPACE_OID, f"{session.id}/{exchange.n}/{side}")) for side in ("client", "server")]
    client = connection.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0), timestamp_start=began)
    server = connection.Server(address=None)
    client.id, server.id = names
    return client, server


def _request(exchange: Exchange, began: float) -> http.Request:
    asked = exchange.request
    request = http.Request.make(asked.method, asked.url)
    content = None if asked.body.is_cut else asked.body.content
    request.headers = _headers(asked.headers, content if content or asked.method in _WITH_BODY else None)
    request.raw_content = content
    request.timestamp_start = request.timestamp_end = began
    return request


def _response(exchange: Exchange, at: float) -> http.Response:
    assert exchange.response is not None
    ended = exchange.end.at.timestamp() if exchange.end else at
    content = None if exchange.is_cut else exchange.answer()
    has_body = exchange.request.method != "HEAD" and exchange.response.status not in (204, 304)
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=exchange.response.status,
        reason=status_codes.RESPONSES.get(exchange.response.status, "").encode(),
        headers=_headers(exchange.response.headers, content if has_body else None),
        content=content,
        trailers=None,
        timestamp_start=at,
        timestamp_end=max(at, ended),
    )


def _headers(pairs: Sequence[tuple[str, str]], content: bytes | None) -> http.Headers:
    """The recorded headers, framed anew for `content`; None gives no length."""
    kept = [(_bytes(name), _bytes(value)) for name, value in pairs if name.lower() not in _FRAMING]
    return http.Headers(kept if content is None else [*kept, (b"content-length", b"%d" % len(content))])


def _bytes(text: str) -> bytes:
    """A header's bytes: they are recorded as Latin-1 (RFC 9110 section 5.5)."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _comment(exchange: Exchange) -> str:
    asked = exchange.request
    parts = [exchange.title, f"{asked.decision} by {', '.join(asked.rules)}" if asked.rules else asked.decision]
    if asked.body.is_cut:
        parts.append(f"request body cut when recorded: {asked.body.length} bytes, sha256 {asked.body.sha256}")
    if exchange.is_cut:
        parts.append("response body cut when recorded")
    return "; ".join(parts)
