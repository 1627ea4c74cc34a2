"""The HTTP+SSE transport (MCP 2024-11-05, basic/transports): one stream from the server, POSTs to a message endpoint.

Law: a message endpoint belongs to the caller on whose stream the server named it, for as long as that stream lasts;
for anybody else, and afterwards, it does not exist.
Law: the endpoint is a path of the server's own origin, written in one way; a client is never sent anywhere else.
Law: an answer on the stream is passed on once, as the answer to the request with its id that was sent last.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from coatcheck.errors import INVALID_REQUEST, POLICY_DENIED, SERVER_FAILED, TOO_MANY, Refusal
from coatcheck.mcp.call import Json, RequestId
from coatcheck.mcp.correlation import Conversation, Peers
from coatcheck.mcp.request_ids import is_request_id
from coatcheck.mcp.sse import Event, SseRewriter

ENDPOINT = "endpoint"
"""The name of the stream's first event."""
MAX_ENDPOINT = 2048
"""Characters of an endpoint."""
MAX_WITHHELD = 16 * 1024
"""Bytes of a stream that are looked through for its first event."""

_ENDPOINT = re.compile(r"/(?!/)[A-Za-z0-9._~!$&()*+,;=:@/%-]*(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?%-]*)?")
"""A path and query in which no client finds a character to encode (RFC 3986, and the URL standard's query set)."""


class EndpointRefused(Refusal):
    """A stream that may not begin. Told in an event that is named `error`: a client which still waits for its
    endpoint reads no message, but ends at the stream's end, and may show an `error`.
    """


def legacy_refused() -> EndpointRefused:
    """What a caller is told at a server that speaks this transport without `legacy_sse: true` (405: no such stream)."""
    message = "the server speaks the HTTP+SSE transport of 2024-11-05: its policy does not say legacy_sse: true"
    return EndpointRefused("legacy-sse-refused", message, status=405, code=POLICY_DENIED)


def read_endpoint(data: str, *, url: str) -> str:
    """Path and query of the endpoint that an `endpoint` event on the stream at `url` names, relative or absolute.

    Raises `EndpointRefused` (`bad-endpoint`) for one at another origin, with a fragment, or not in plain characters.
    """
    base = urlsplit(url)
    try:
        there = urlsplit(urljoin(url, data)) if 0 < len(data) <= MAX_ENDPOINT and data.isprintable() else None
        if there is not None and (there.scheme, there.netloc.lower()) == (base.scheme, base.netloc) and "#" not in data:
            found = f"{there.path}?{there.query}" if there.query else there.path
            if _ENDPOINT.fullmatch(found):
                return found
    except ValueError:
        pass
    raise bad_endpoint("the server named a message endpoint that is no plain path of its own origin")


def bad_endpoint(message: str) -> EndpointRefused:
    """502, `bad-endpoint`."""
    return EndpointRefused("bad-endpoint", message, status=502, code=SERVER_FAILED)


@dataclass(slots=True, eq=False)
class LegacyStream[Asked]:
    """One stream and the requests that wait for their answers on it, each as an `Asked`.

    `send` puts events of ours onto the stream. `waiting` is by the id as text: clients take
    1 and "1" for the same.
    """

    peers: Peers
    endpoint: str
    send: Callable[[Sequence[Event]], None]
    conversation: Conversation = field(default_factory=Conversation)
    waiting: dict[str, tuple[RequestId, Asked]] = field(default_factory=dict)
    latest: Asked | None = None
    """What was sent last to its endpoint."""
    is_over: bool = False

    def check_ids(self, ids: Sequence[RequestId], *, most: int) -> None:
        """Raises `Refusal` where one of these ids still waits (400, `bad-id`: an answer to it would have two readings)
        or more than `most` would (429, `too-many-requests`).
        """
        if any(str(one) in self.waiting for one in ids):
            raise Refusal("bad-id", "a request with this id is still waiting for its answer", code=INVALID_REQUEST)
        if len(self.waiting) + len(ids) > most:
            message = f"{len(self.waiting)} requests wait for their answers on this stream, the most that may"
            raise Refusal("too-many-requests", message, status=429, code=TOO_MANY, retryable=True)

    def wait(self, ids: Sequence[RequestId], asked: Asked) -> None:
        """`asked` is being sent: from now on answers with these ids are passed on, as answers to it."""
        self.latest = asked
        self.waiting.update((str(one), (one, asked)) for one in ids)

    def answered(self, message: Json) -> Asked | None:
        """What a message of the server answers, which then waits no more; None where it is no such answer."""
        if not isinstance(message, dict) or "method" in message or not is_request_id(found := message.get("id")):
            return None
        _, asked = self.waiting.pop(str(found), (None, None))
        return asked

    def give_up(self, ids: Sequence[RequestId] | None = None) -> list[RequestId]:
        """Those of the ids (all, where None) that waited, and wait no more."""
        names = list(self.waiting) if ids is None else [str(one) for one in ids]
        return [self.waiting.pop(name)[0] for name in names if name in self.waiting]


class LegacyStreams[Asked]:
    """The streams there are now, by server and endpoint."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], LegacyStream[Asked]] = {}

    def begin(self, stream: LegacyStream[Asked]) -> None:
        """A stream whose endpoint was named. One of the same caller with the same endpoint is over then; raises
        `EndpointRefused` where it is another's.
        """
        before = self._streams.get((stream.peers.server, stream.endpoint))
        if before is not None:
            if before.peers != stream.peers:
                raise bad_endpoint("the server named a message endpoint that belongs to another caller")
            self.end(before)
        self._streams[stream.peers.server, stream.endpoint] = stream

    def is_known(self, server: str, endpoint: str) -> bool:
        """Whether it is the message endpoint of some caller's stream."""
        return (server, endpoint) in self._streams

    def find(self, peers: Peers, endpoint: str) -> LegacyStream[Asked] | None:
        """The caller's own stream with this endpoint."""
        found = self._streams.get((peers.server, endpoint))
        return found if found is not None and found.peers == peers else None

    def end(self, stream: LegacyStream[Asked]) -> None:
        """The stream is over: nothing is sent on it, and its endpoint is gone."""
        stream.is_over = True
        if self._streams.get((stream.peers.server, stream.endpoint)) is stream:
            del self._streams[stream.peers.server, stream.endpoint]


class FirstEvent:
    """Looks whether a stream begins as one of this transport does."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._rewriter = SseRewriter(self._see, max_event=MAX_WITHHELD)

    def _see(self, event: Event) -> None:
        self._events.append(event)

    def is_endpoint(self, data: bytes) -> bool | None:
        """Whether the first event, of which `data` are the next bytes, is an endpoint; None where that is not known
        yet. Raises `SseError` for a first event that is too large or not UTF-8.
        """
        self._rewriter.feed(data)
        return self._events[0].event == ENDPOINT if self._events else None
