"""What belongs to whom in a conversation with a server: sessions, stream events, what the server asked the client.

Law: a session, an event id and a request of the server belong to the caller they were given to, on the server that
gave them; for anybody else they do not exist.
Law: what a server asked is answered at most once, and only what was asked.
Law: memory is bounded for each caller on each server, so that no caller can push out what belongs to another; what
was pushed out no longer exists. Nothing here outlives the process: clients begin anew (404, basic/transports).
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from coatcheck.mcp.call import RequestId

MAX_SESSIONS = 256
MAX_ASKED = 128
"""Requests of a server that wait for the client's answer, in one conversation."""
MAX_OPEN = 256
"""Requests of a client whose answer may come on another stream, in one conversation."""
MAX_EVENTS = 256
"""The last events that a client may resume after, in one conversation."""


class Peers(NamedTuple):
    """Who speaks with which server: the identity, and the issuer and subject it was verified as."""

    caller: str
    issuer: str
    subject: str
    server: str


@dataclass(frozen=True, slots=True)
class AskedOfClient:
    """What a server asked of its client. Where it `is_denied` the client was only pinged in its place."""

    method: str
    is_denied: bool = False


class Opened(NamedTuple):
    """A request of the client that is answered with a stream: its id, its method, the tool it calls, its exchange."""

    id: RequestId
    method: str
    name: str | None
    exchange: str


@dataclass(slots=True, eq=False)
class Conversation:
    """One session; or, where the server gives no session ids, everything that one caller says to it.

    `asked` by the exact id, `open` by the id as text (clients take 1 and "1" for the same), None where two requests
    of different kinds had it; `events` by digest, with the requests that their stream answers. `versions` are those
    that its handshakes agreed on: one in a session, several where clients of one caller have none.
    """

    asked: OrderedDict[RequestId, AskedOfClient] = field(default_factory=OrderedDict)
    open: OrderedDict[str, Opened | None] = field(default_factory=OrderedDict)
    events: OrderedDict[bytes, tuple[Opened, ...]] = field(default_factory=OrderedDict)
    versions: set[str] = field(default_factory=set)

    def ask(self, request_id: RequestId, asked: AskedOfClient) -> bool:
        """Notes a request of the server; False where one of the same id still waits."""
        if request_id in self.asked:
            return False
        _keep(self.asked, request_id, asked, MAX_ASKED)
        return True

    def take_answer(self, request_id: RequestId) -> AskedOfClient | None:
        """What an answer with this id is the answer to: once, and then no more."""
        return self.asked.pop(request_id, None)

    def open_request(self, opened: Opened) -> None:
        """Notes a request of the client that is answered with a stream, which may break off.

        An id that had a request of another kind before tells no more what an answer with it answers: a list that was
        taken for something else would not be filtered.
        """
        key = str(opened.id)
        before = self.open.get(key, opened)
        is_clear = before is not None and (before.method, before.name) == (opened.method, opened.name)
        _keep(self.open, key, opened if is_clear else None, MAX_OPEN)

    def relay_event(self, event_id: str, answers: tuple[Opened, ...] = ()) -> None:
        """Notes an event that was passed on to the client, on a stream that answers these requests."""
        _keep(self.events, _digest(event_id), answers, MAX_EVENTS)

    def resume(self, event_id: str) -> tuple[Opened, ...] | None:
        """The requests that the stream of this event answers; None where the client may not resume after it."""
        return self.events.get(_digest(event_id))


@dataclass(slots=True)
class _Kept:
    """What is kept for one caller on one server."""

    sessions: OrderedDict[str, Conversation] = field(default_factory=OrderedDict)
    sessionless: Conversation = field(default_factory=Conversation)


class Correlation:
    """The conversations of all callers."""

    def __init__(self) -> None:
        self._kept: dict[Peers, _Kept] = {}
        self._owners: dict[tuple[str, str], Peers] = {}
        self._versions: dict[str, tuple[str, ...]] = {}

    def begin(self, peers: Peers, session_id: str) -> Conversation | None:
        """The conversation of a session that the server has just given; None where it gave it to another before."""
        owner = self._owners.setdefault((peers.server, session_id), peers)
        if owner != peers:
            return None
        sessions = self._of(peers).sessions
        if session_id not in sessions and len(sessions) >= MAX_SESSIONS:
            oldest, _ = sessions.popitem(last=False)
            self._owners.pop((peers.server, oldest), None)
        return sessions.setdefault(session_id, Conversation())

    def find(self, peers: Peers, session_id: str | None) -> Conversation | None:
        """The caller's own session, or what it says without one; None for a session that is not its own."""
        if session_id is None:
            return self._of(peers).sessionless
        if self._owners.get((peers.server, session_id)) != peers:
            return None
        sessions = self._of(peers).sessions
        sessions.move_to_end(session_id)
        return sessions[session_id]

    def end(self, peers: Peers, session_id: str) -> None:
        """Forgets a session of the caller's."""
        if self._owners.get((peers.server, session_id)) == peers:
            del self._owners[peers.server, session_id]
            del self._of(peers).sessions[session_id]

    def learn_versions(self, server: str, versions: tuple[str, ...]) -> None:
        """Notes what a server says it supports (`server/discover`)."""
        self._versions[server] = versions

    def versions_of(self, server: str) -> tuple[str, ...] | None:
        """What it last said it supports; None where nobody asked it."""
        return self._versions.get(server)

    def _of(self, peers: Peers) -> _Kept:
        # large answers are read in threads: two must not each make one
        return self._kept.get(peers) or self._kept.setdefault(peers, _Kept())


def _keep[K, V](where: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Adds at the end; pushes out the oldest where there are too many."""
    where[key] = value
    where.move_to_end(key)
    if len(where) > most:
        where.popitem(last=False)


def _digest(event_id: str) -> bytes:
    """A server's event ids may be long."""
    return hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
