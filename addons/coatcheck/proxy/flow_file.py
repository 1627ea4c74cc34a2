"""A recorded session as mitmproxy's own flow file, for `mitmweb -r`, `mitmdump -C` and `mitmdump -S`.

Law: the file is 0600 and appears whole or not at all; one session always gives the same bytes.
Law: it holds what the session's record holds: masked content, placeholders, no token.
"""

import logging
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
from coatcheck.sessions.lines import ResponseLine
from coatcheck.sessions.read import Exchange, Session, open_session

_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding", "trailer"})
"""Headers about bytes on a wire: the record holds the content, whole and decoded."""

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_TYPES = frozenset(b",;#^!~]}")
"""The type bytes of tnetstrings."""


EXPORT_BYTES = 4 * 1024 * 1024
"""Sessions up to this size get their flow file when they close: about a second of work."""

logger = logging.getLogger("coatcheck")


def write_flow_file(session: Session, out: Path) -> int:
    """Writes the session's exchanges to `out`, replacing it; returns how many. Raises `CoatcheckError`.

    Events become the response's body. A body that was cut when it was recorded is missing content, which
    `mitmdump -C` refuses to send; the flow's comment says so.
    """
    written = 0
    with private_file(out) as file:
        writer = io.FlowWriter(file)
        flows = _Flows(session)
        for exchange in session.exchanges():
            try:
                writer.add(flows.made_of(exchange))
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


class _Flows:
    """Makes a session's flows; what they share is made once: a flow costs as much as a request."""

    def __init__(self, session: Session) -> None:
        self._session = session
        began = session.head.started.timestamp()
        here = ("127.0.0.1", 0)
        self._client = connection.Client(id=self._id("client"), peername=here, sockname=here, timestamp_start=began)
        self._like: tuple[str, http.Request, connection.Server] | None = None

    def made_of(self, exchange: Exchange) -> http.HTTPFlow:
        """The exchange's flow. Raises `ValueError` where mitmproxy cannot hold it."""
        asked, answered = exchange.request, exchange.response
        began = asked.at.timestamp()
        like, server = self._target(asked.url)
        made = http.HTTPFlow(self._client, server)
        made.id = self._id(exchange.n)
        made.timestamp_created = began
        made.request = _request(exchange, like, began)
        if answered is not None:
            made.response = _response(exchange, answered, answered.at.timestamp())
        else:
            outcome = exchange.end.outcome if exchange.end else "unfinished"
            made.error = flow.Error(f"no answer was recorded: {outcome}", began)
        made.comment = _comment(exchange)
        made.metadata = {
            "coatcheck.session": self._session.id,
            "coatcheck.caller": self._session.head.caller,
            "coatcheck.server": self._session.head.server,
            "coatcheck.decision": asked.decision,
            "coatcheck.rules": ", ".join(asked.rules),
            "coatcheck.approval": asked.approval or "",
            "coatcheck.policy": asked.policy or self._session.head.policy,
        }
        return made

    def _target(self, url: str) -> tuple[http.Request, connection.Server]:
        """A request to the URL and its server; most exchanges of a session have one URL."""
        if self._like is None or self._like[0] != url:
            like = http.Request.make("GET", url)
            is_tls = like.scheme == "https"
            address = (like.host, like.port)
            sni = like.host if is_tls else None
            self._like = url, like, connection.Server(id=self._id(address), address=address, tls=is_tls, sni=sni)
        return self._like[1:]

    def _id(self, part: object) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self._session.id}/{part}"))


def _request(exchange: Exchange, like: http.Request, began: float) -> http.Request:
    asked = exchange.request
    content = None if asked.body.is_cut else asked.body.content
    return http.Request(
        host=like.host,
        port=like.port,
        method=asked.method.encode("utf-8", "surrogateescape"),
        scheme=like.data.scheme,
        authority=b"",
        path=like.data.path,
        http_version=b"HTTP/1.1",
        headers=_headers(asked.headers, content if content or asked.method in _WITH_BODY else None),
        content=content,
        trailers=None,
        timestamp_start=began,
        timestamp_end=began,
    )


def _response(exchange: Exchange, answered: ResponseLine, at: float) -> http.Response:
    ended = exchange.end.at.timestamp() if exchange.end else at
    content = None if exchange.is_cut else exchange.answer()
    has_body = exchange.request.method != "HEAD" and answered.status not in (204, 304)
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=answered.status,
        reason=status_codes.RESPONSES.get(answered.status, "").encode(),
        headers=_headers(answered.headers, content if has_body else None),
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


def export_closed(session: Path) -> None:
    """A closed session's flow file, beside its record; a long one's is left to `coatcheck sessions export`."""
    if session.stat().st_size > EXPORT_BYTES:
        logger.info("session %s is long: make its flow file with coatcheck sessions export", session.stem)
        return
    try:
        write_flow_file(open_session(session), session.with_suffix(".mitm"))
    except CoatcheckError as error:
        logger.warning("%s", error)
