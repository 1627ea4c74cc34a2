"""The official SDK's client against its server, with every body inspected and every stream rewritten in between."""

import contextlib

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer

from coatcheck.mcp.inspect import inspect_post
from coatcheck.mcp.sse import SseRewriter


class Between:
    """ASGI in, ASGI out: what the server gets is what inspection made of the request."""

    def __init__(self, app):
        self.app = app
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        inspected = inspect_post(body, {name.decode(): value.decode() for name, value in scope["headers"]})
        self.seen.append(inspected)
        fresh = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        fresh.append((b"content-length", str(len(inspected.body)).encode()))
        bodies = iter([{"type": "http.request", "body": inspected.body}])

        async def receive_inspected():
            return next(bodies, None) or await receive()

        await self.app(scope | {"headers": fresh}, receive_inspected, self._rewriting(send))

    def _rewriting(self, send):
        rewriter = SseRewriter(lambda event: event)
        streams = False

        async def send_rewritten(message):
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
            elif streams and message["type"] == "http.response.body":
                message = {**message, "body": rewriter.feed(message.get("body", b""))}
            await send(message)

        return send_rewritten


@contextlib.asynccontextmanager
async def conversation(mode):
    server = MCPServer("shop")

    @server.tool()
    def greet(who: str, times: int = 1) -> str:
        return f"hello {who}\n" * times

    @server.resource("shop://größe")
    def sizes() -> str:
        return "S M L"

    @server.prompt()
    def hello() -> str:
        return "say hello"

    app = server.streamable_http_app()
    between = Between(app)
    transport = httpx2.ASGITransport(between)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport) as http,
        Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http), mode=mode) as client,
    ):
        yield client, between


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_the_official_client_sends_is_understood_and_forwarded_whole(mode):
    async with conversation(mode) as (client, between):
        assert [tool.name for tool in (await client.list_tools()).tools] == ["greet"]
        result = await client.call_tool("greet", {"who": "Ada", "times": 2})
        assert result.content[0].text == "hello Ada\nhello Ada\n"
        assert (await client.read_resource("shop://größe")).contents[0].text == "S M L"
        assert (await client.get_prompt("hello")).messages[0].content.text == "say hello"
        asked = {call.title for seen in between.seen for call in seen.calls}
        assert {"tools/list", "tools/call greet", "resources/read shop://größe", "prompts/get hello"} <= asked
        assert {seen.version for seen in between.seen[2:]} == {"2025-11-25" if mode == "legacy" else "2026-07-28"}
