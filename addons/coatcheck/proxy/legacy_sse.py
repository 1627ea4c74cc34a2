"""Legacy SSE: the HTTP+SSE transport of MCP 2024-11-05, for servers that say `legacy_sse: true`.

Law: what is POSTed to a message endpoint is a call like any other, decided, held, journaled and released as one; what
is refused is told on the stream, for clients read no answer to a POST.
Law: an answer on the stream is read as the answer to the POST that asked, under the policy and with the secrets that
applied to that POST.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import ReferenceType, ref

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy.server import ConnectionHandler

from coatcheck.errors import SERVER_FAILED, Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.paths import starred
from coatcheck.http.target import Target
from coatcheck.mcp.call import Call
from coatcheck.mcp.legacy_sse import ENDPOINT, LegacyStream, LegacyStreams, bad_endpoint, legacy_refused, read_endpoint
from coatcheck.mcp.sse import Event
from coatcheck.policy.globs import path_is_canonical
from coatcheck.policy.model import Policy, Server
from coatcheck.policy.servers import server_for, servers_at
from coatcheck.proxy.answer import accepted
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.peers import peers_of
from coatcheck.proxy.put_on_stream import put_on_stream

MOST_WAITING = 1024 * 1024
"""Bytes that a client may leave on a stream before what it is told there ends the stream."""

type Streams = LegacyStreams[Exchange]


def server_of_endpoint(policy: Policy, streams: Streams, target: Target, path: str) -> Server | None:
    """The server that a POST to `path` (with its query) at `target` brings a message to; None where that is none.

    A path at an origin with such a server that belongs to no other is taken for a message endpoint that is gone.
    """
    legacy = [
        server
        for server in servers_at(policy, target.host, target.port)
        if server.legacy_sse and server.scheme == target.scheme and target.via in (None, server.name)
    ]
    if not legacy:
        return None
    plain = path.partition("?")[0]
    if not path_is_canonical(plain):
        return None
    found = server_for(policy, target.scheme, target.host, target.port, plain)
    known = next((server for server in legacy if streams.is_known(server.name, path)), None)
    if known is not None and found in (None, known):
        return known
    if found is None:
        return legacy[0]
    return found if found in legacy and plain != found.path else None


class LegacySse:
    """After the record of a request was begun, and before its answer is read: keeps the streams.

    `handler_of` finds what mitmproxy handles a client's connection with; `cut` ends such a connection.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        streams: Streams,
        maskers: Maskers,
        handler_of: Callable[[Client], ConnectionHandler | None],
        cut: Callable[[Client], None],
    ) -> None:
        self._exchanges = exchanges
        self._streams = streams
        self._maskers = maskers
        self._handler_of = handler_of
        self._cut = cut
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the requests ------------------------------------------------------------------------------------------

    def request(self, flow: http.HTTPFlow) -> None:
        """A POST that is about to be released: from now on its answer may come."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.endpoint is None or exchange.writing is None or flow.response or flow.error:
            return
        stream, inspected = exchange.stream, exchange.inspected
        assert stream is not None
        assert inspected is not None
        assert exchange.server is not None
        stream.check_ids(inspected.ids, most=exchange.policy.max_in_flight)
        masker = self._maskers.get(exchange.policy, exchange.server.name)
        # kept until it is answered: without its body and arguments, and with counts of its own, for those of the POST
        # are written when that is over
        calls = tuple(Call("mcp", call.method, call.name, id=call.id) for call in inspected.calls)
        kept = replace(inspected, calls=calls, body=b"", value=None)
        asked = replace(exchange, inspected=kept, masker=masker, streaming=True, masked=Counter())
        asked.recording, asked.passage, asked.swap = None, None, None
        stream.wait(inspected.ids, asked)

    def response(self, flow: http.HTTPFlow) -> None:
        """The stream is over; or the server has taken a POST, or has not."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.stream is None:
            return
        if exchange.endpoint is None:
            self._streams.end(exchange.stream)
            return
        if exchange.refusal is not None or not exchange.sent or exchange.streaming:
            return
        assert flow.response is not None
        status = flow.response.status_code
        if not 200 <= status < 300:
            what = f"the server answered the message with {status}"
            raise Refusal("server-failed", what, status=502, code=SERVER_FAILED, retryable=status >= 500)
        flow.response = accepted()  # whatever it said besides, the answer comes on the stream

    def error(self, flow: http.HTTPFlow) -> None:
        """The stream broke off."""
        exchange = self._exchanges.get(flow)
        if exchange is not None and exchange.stream is not None and exchange.endpoint is None:
            self._streams.end(exchange.stream)

    # -- the stream --------------------------------------------------------------------------------------------

    def begin(self, weak: ReferenceType[http.HTTPFlow], exchange: Exchange, event: Event) -> Event:
        """The `endpoint` event of a stream, as its caller gets it: a path, good at a gateway URL as well.

        Raises `EndpointRefused`, and ends the connection then: what follows is for nobody.
        """
        flow = weak()
        assert flow is not None
        try:
            return self._begin(flow, exchange, event)
        except Refusal as refusal:
            exchange.refusal = refusal
            self._cut(flow.client_conn)
            raise

    def _begin(self, flow: http.HTTPFlow, exchange: Exchange, event: Event) -> Event:
        server, target = exchange.server, exchange.target
        assert server is not None
        assert target is not None
        if not server.legacy_sse or flow.request.method != "GET":
            raise legacy_refused()
        if exchange.stream is not None:
            raise bad_endpoint("the server named a second message endpoint on one stream")
        path = flow.request.path
        endpoint = read_endpoint(event.data or "", url=f"{target.scheme}://{target.authority}{path}")
        plain = endpoint.partition("?")[0]
        owner = server_for(exchange.policy, target.scheme, target.host, target.port, plain)
        if not path_is_canonical(plain) or owner not in (None, server):
            raise bad_endpoint("the server named a message endpoint that belongs to another server, or to none")
        stream = LegacyStream[Exchange](peers_of(exchange), endpoint, self._sender(flow, exchange))
        self._streams.begin(stream)
        exchange.stream, exchange.conversation = stream, stream.conversation
        if exchange.recording is not None:
            exchange.recording.event(starred(endpoint), ENDPOINT)
        return Event(data=endpoint, event=event.event)

    def _sender(self, flow: http.HTTPFlow, exchange: Exchange) -> Callable[[Sequence[Event]], None]:
        weak = ref(flow)  # a stream is kept by its exchange, which must not keep the flow

        def send(told: Sequence[Event]) -> None:
            there = weak()
            handler = self._handler_of(there.client_conn) if there is not None else None
            if there is None or handler is None:
                return
            if _waiting_for(handler, there.client_conn) > MOST_WAITING:
                self._cut(there.client_conn)  # what it is told would only pile up
                return
            data = b"".join(event.encode() for event in told)
            task = asyncio.get_running_loop().create_task(handler.server_event(put_on_stream(there, data)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            exchange.bytes_sent += len(data)
            if exchange.recording is not None:
                for event in told:
                    exchange.recording.event(event.data or "", event.event)

        return send


def _waiting_for(handler: ConnectionHandler, client: Client) -> int:
    """Bytes that were written to a client's connection and that it has not taken."""
    io = handler.transports.get(client)
    writer = io.writer if io is not None else None
    return writer.transport.get_write_buffer_size() if isinstance(writer, asyncio.StreamWriter) else 0
