"""A server on the official Python SDK that offers what the conformance suite's scenarios ask for.

Law: names, texts and schemas here are the suite's own; where a scenario describes an answer, it is given literally.
Serves 2025-x with sessions and resumption, and 2026-07-28, at `/mcp` on loopback.

    python -m conformance_lib.everything --port P

With a credential in `EVERYTHING_CREDENTIAL` it answers 401 to requests that do not bring it.
"""

import argparse
import hmac
import os
import warnings

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    Completion,
    EmptyResult,
    JSONRPCMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from conformance_lib.asking import add_asking
from conformance_lib.offers import add_prompts, add_resources, add_tools
from conformance_lib.rounds import add_rounds

RETRY_MILLISECONDS = 100
"""How soon a client comes back after the server closed its stream (SSE `retry`)."""


class Events(EventStore):
    """Every event of every stream, for resumption by `Last-Event-ID`. Ids count up over all streams."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keeps one event; `None` is the priming event, which carries nothing. Returns its id."""
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Sends what came after that event on its stream. Returns the stream's id, None for an unknown event."""
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 1 <= last <= len(self._events):
            return None
        stream = self._events[last - 1][0]
        for number, (of_stream, message) in enumerate(self._events[last:], start=last + 1):
            if of_stream == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def make_server() -> MCPServer[dict[str, object]]:
    """The server with everything on it."""
    server: MCPServer[dict[str, object]] = MCPServer("everything", version="1.0.0", log_level="WARNING")
    add_tools(server)
    add_asking(server)
    add_rounds(server)
    add_resources(server)
    add_prompts(server)
    _add_utilities(server)
    return server


def _add_utilities(server: MCPServer[dict[str, object]]) -> None:
    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK's own is not annotated
    async def complete(*_: object) -> Completion:
        """No suggestions: the suite asks for the method, not for ideas."""
        return Completion(values=[], total=0, has_more=False)

    async def done(*_: object) -> EmptyResult:
        return EmptyResult()

    lowlevel = server._lowlevel_server  # noqa: SLF001  # MCPServer has no public way to offer these methods
    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)


class Guarded:
    """An application that only the credential opens."""

    def __init__(self, app: ASGIApp, credential: str) -> None:
        self._app = app
        self._wanted = f"Bearer {credential}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            presented = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(presented, self._wanted):
                await PlainTextResponse("no credential", 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_app() -> Starlette:
    """The server as an ASGI application with its endpoint at `/mcp`."""
    return make_server().streamable_http_app(event_store=Events(), retry_interval=RETRY_MILLISECONDS)


def main() -> None:
    """Serves until it is ended by a signal."""
    parser = argparse.ArgumentParser(prog="python -m conformance_lib.everything", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # the older versions' methods are what is wanted here
    credential = os.environ.get("EVERYTHING_CREDENTIAL", "")
    app: ASGIApp = Guarded(make_app(), credential) if credential else make_app()
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
