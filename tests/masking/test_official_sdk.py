"""The official SDK's client and server, every answer masked in between: what is left must be valid to the client."""

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Annotated

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from pydantic import BaseModel, Field

from coatcheck.masking.masker import Masker
from coatcheck.mcp.sse import SseRewriter
from coatcheck.mcp.strict_json import dump_json, parse_json
from coatcheck.policy.model import MaskRule


class Person(BaseModel):
    ssn: str
    mail: Annotated[str, Field(description="such as bob@example.com")]


class Masked:
    """ASGI in, ASGI out: streams are masked event by event, JSON as a whole."""

    def __init__(self, app, masker):
        self.app = app
        self.masker = masker

    async def __call__(self, scope, receive, send):
        rewriter = SseRewriter(lambda event: replace(event, data=self._data(event.data)) if event.data else event)
        kind = b""

        async def send_masked(message):
            nonlocal kind
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
                message = {**message, "headers": headers}
            elif kind.startswith(b"text/event-stream"):
                message = {**message, "body": rewriter.feed(message.get("body", b""))}
            elif kind.startswith(b"application/json") and message.get("body"):
                message = {**message, "body": self._data(message["body"].decode()).encode()}
            await send(message)

        await self.app(scope, receive, send_masked)

    def _data(self, text):
        return dump_json(self.masker.mask_message(parse_json(text.encode()), Counter())).decode()


@contextlib.asynccontextmanager
async def conversation(mode, masker):
    server = MCPServer("registry")

    @server.tool()
    def find(ssn: Annotated[str, Field(description="or ask amy@example.com")]) -> Person:
        return Person(ssn=ssn, mail="bob@example.com")

    @server.prompt()
    def greet(ssn: str) -> str:
        return f"greet {ssn}"

    app = server.streamable_http_app()
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(Masked(app, masker))) as http,
        Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("fields", [("$..ssn",), ("$..ssn", "$..name", "$..required", "$..properties")])
async def test_the_official_client_accepts_masked_lists_and_masked_results(mode, fields):
    masker = Masker([MaskRule("pd", "registry", ("email",), fields, "partial")], key=b"k")
    async with conversation(mode, masker) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.name == "find"
        assert tool.input_schema["properties"]["ssn"]["type"] == "string"
        assert tool.input_schema["properties"]["ssn"]["description"] == "or ask a***@e***.com"
        assert tool.output_schema["properties"]["mail"]["description"] == "such as b***@e***.com"
        result = await client.call_tool("find", {"ssn": "123-45-6789"})
        assert result.structured_content == {"ssn": "1***9", "mail": "b***@e***.com"}
        assert "123-45-6789" not in result.content[0].text
        (prompt,) = (await client.list_prompts()).prompts
        assert (prompt.name, prompt.arguments[0].name, prompt.arguments[0].required) == ("greet", "ssn", True)
