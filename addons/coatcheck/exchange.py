"""The state of one request: who, where to, what, decided how, released as what.

Law: an `Exchange` never enters a flow. It is held beside it in a weak map, so that nothing that shows, copies or
saves flows can show it; `flow.metadata` gets plain strings only.
"""

import asyncio
import hashlib
import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NewType
from weakref import WeakKeyDictionary

from coatcheck.errors import Refusal
from coatcheck.http.target import Target
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.trace import TokenTrace
from coatcheck.masking.masker import Masker
from coatcheck.mcp.call import Call, RequestId
from coatcheck.mcp.correlation import Conversation, Opened
from coatcheck.mcp.inspect import Inspected
from coatcheck.mcp.legacy_sse import FirstEvent, LegacyStream
from coatcheck.mcp.tasks import TaskOrigin
from coatcheck.policy.decision import Decision
from coatcheck.policy.model import Policy, Server
from coatcheck.sessions.recorder import Recording
from coatcheck.vault.plan import SwapPlan
from coatcheck.vault.scrub import Hit, Scrubber, ScrubStream

ExchangeId = NewType("ExchangeId", str)
Digest = NewType("Digest", bytes)


@dataclass(frozen=True, slots=True)
class Release:
    """The stamp that lets one exact request pass the wire gate."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Writing:
    """The record of one exact request, on its way to the disk: `written` ends with its number there."""

    digest: Digest
    written: asyncio.Future[int]


@dataclass(slots=True)
class Passage:
    """What the wire gate is doing for one exchange: which bytes it expects next, and what it sends for them."""

    expected_body: bytes
    outgoing_body: bytes
    body_due: bool


@dataclass(slots=True)
class EncodedAnswer:
    """A response head with its body so far."""

    head: object
    encoding: str
    body: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class WithheldHead:
    """The head of a stream whose first event has not come, and the bytes that did."""

    head: object
    first: FirstEvent
    before: bytearray


@dataclass(slots=True, weakref_slot=True, eq=False)
class Exchange:
    """One request on its way. Fields are filled by the stages in order; `None` means not reached."""

    id: ExchangeId
    policy: Policy
    started: float
    """Monotonic seconds."""
    target: Target | None = None
    server: Server | None = None
    is_mcp: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    """The client's headers by lower-case name, without its tokens."""
    metadata_url: str | None = None
    """Where a gateway URL says whose tokens it takes (RFC 9728); None where there is no such place."""
    traces: tuple[TokenTrace, ...] = ()
    """Of the token that this request showed, and of the one that its tunnel was opened with."""
    caller: Caller | None = None
    opened_by: Caller | None = None
    """Who opened the tunnel the request came in, where that was another than `caller`."""
    conversation: Conversation | None = None
    """The session this belongs to; None where the protocol version has none."""
    endpoint: str | None = None
    """The message endpoint that this was POSTed to, in the HTTP+SSE transport of MCP 2024-11-05: path and query."""
    stream: "LegacyStream[Exchange] | None" = None
    """In that transport: the stream that this is, or that this POST is answered on."""
    told_on_stream: bool = False
    opened: tuple[Opened, ...] = ()
    """The requests that this stream answers: its own, or those of the stream that it resumes."""
    made_task: TaskOrigin | None = None
    """The call that made the task which this is about."""
    inspected: Inspected | None = None
    request_id: RequestId | None = None
    observes: bool = False
    """What would be refused goes on, without a secret (`proxy/observe.py`)."""
    decision: Decision | None = None
    observed: Decision | None = None
    """Of one that only observes: what would have been decided."""
    shadow: Decision | None = None
    """What would have been decided if the shadow rules acted, where that is something else."""
    approval: str | None = None
    given_up: bool = False
    """Its client cancelled it before it was released."""
    swap: SwapPlan | None = None
    writing: Writing | None = None
    release: Release | None = None
    passage: Passage | None = None
    sent: bool = False
    """Some byte of this request went to the server."""
    scrubber: Scrubber | None = None
    scrubbing: ScrubStream | None = None
    encoded: EncodedAnswer | None = None
    """An answer in a content encoding, collected below the flow until it can be decoded whole."""
    withheld: WithheldHead | None = None
    masker: Masker | None = None
    refusal: Refusal | None = None
    fault: str | None = None
    """Set when a stage raised: from then on nothing passes in either direction."""
    answer_type: str = ""
    """The media type of the server's answer, lower case."""
    streaming: bool = False
    answered_error: bool = False
    unanswered: dict[str, RequestId] = field(default_factory=dict)
    """Requests that this stream has not answered, by their ids as text."""
    can_resume: bool = False
    """This stream has named an event to resume after."""
    recording: Recording | None = None
    masked: Counter[str] = field(default_factory=Counter)
    scrubbed: list[Hit] = field(default_factory=list)
    bytes_sent: int = 0
    """Body bytes the caller got."""
    is_answered: bool = False
    """Its answer is whole and on its way; it will be written down next."""
    finished: bool = False

    @property
    def calls(self) -> Sequence[Call]:
        """What is asked for; empty before inspection."""
        return self.inspected.calls if self.inspected else ()

    @property
    def is_notification(self) -> bool:
        """Whether the request expects no JSON-RPC answer."""
        return self.inspected is not None and self.inspected.kind != "request" and not self.inspected.ids


@dataclass(slots=True)
class Tunnel:
    """A client connection that began with CONNECT: where it leads, and who its token says is calling.

    A bad token does not close the tunnel: the reason is told inside it, where clients can show it.
    """

    host: str
    port: int
    verified: Verified | None = None
    policy: Policy | None = None
    """What `verified` was verified under, or would be verified alike."""
    opened_by: Caller | None = None
    refusal: Refusal | None = None
    exchange: Exchange | None = None
    """Set where the tunnel is relayed unopened, by its own verdict."""
    trace: TokenTrace | None = None
    """Of the token it was opened with."""
    has_good_name: bool | None = None
    """Whether the TLS in it has no server name, or one that is a name; None before that was looked at."""


type Tunnels = WeakKeyDictionary[object, Tunnel]
"""Tunnels by mitmproxy client connection."""

type Exchanges = WeakKeyDictionary[object, Exchange]
"""Exchanges by mitmproxy flow."""


type Dialling = WeakKeyDictionary[object, tuple[str, int]]
"""Host and port that a client connection's released request may open a connection to, by client connection."""


class Numbering:
    """Ids for exchanges, unique over restarts: a random beginning of this process, then a count."""

    def __init__(self) -> None:
        self._beginning = secrets.token_hex(5)
        self._count = itertools.count(1)

    def next(self) -> ExchangeId:
        """The next id."""
        return ExchangeId(f"{self._beginning}-{next(self._count):x}")


def request_digest(
    *, method: str, scheme: str, host: str, port: int, path: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> Digest:
    """SHA-256 over everything that will leave. No two requests share what is hashed: Python's `repr` of the head
    quotes and delimits every part of it, and its length comes first.
    """
    head = repr((method, scheme, host, port, path, tuple(headers))).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(b"%d:%s" % (len(head), head))
    digest.update(body)
    return Digest(digest.digest())
