"""The plain tools, resources and prompts: each answers by itself, without asking the client anything."""

import base64
import json
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp_types import AudioContent, EmbeddedResource, ImageContent, TextContent, TextResourceContents
from pydantic import Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel, base64."""
SILENCE = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"
).decode()
"""A WAV of no samples, base64."""
STEP_SECONDS = 0.05

SCHEMA_TOOL = "json_schema_2020_12_tool"
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""What scenario `json-schema-2020-12` compares word by word."""


def _image() -> ImageContent:
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def add_tools(server: MCPServer[dict[str, object]]) -> None:
    """The tools of the `tools-call-*` scenarios, of header validation and of `server-stateless`."""
    _add_content(server)
    _add_streaming(server)
    _add_changes(server)

    @server.tool()
    async def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
    ) -> str:
        """Has an argument that clients mirror into a header."""
        return f"region: {region}"

    async def accept() -> str:
        """Tool with JSON Schema 2020-12 features"""
        return "accepted"

    tool = Tool.from_function(accept, name=SCHEMA_TOOL)
    server._tool_manager._tools[SCHEMA_TOOL] = tool.model_copy(update={"parameters": SCHEMA})  # noqa: SLF001  # no public way to give a schema


def _add_content(server: MCPServer[dict[str, object]]) -> None:
    @server.tool()
    async def test_simple_text() -> str:
        """Answers with a text."""
        return "This is a simple text response for testing."

    @server.tool()
    async def test_image_content() -> list[ImageContent]:
        """Answers with an image."""
        return [_image()]

    @server.tool()
    async def test_audio_content() -> list[AudioContent]:
        """Answers with a sound."""
        return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]

    @server.tool()
    async def test_embedded_resource() -> list[EmbeddedResource]:
        """Answers with a resource inside."""
        return [_embedded("test://embedded-resource", "This is an embedded resource content.")]

    @server.tool()
    async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Answers with a text, an image and a resource."""
        text = json.dumps({"test": "data", "value": 123})
        return [
            TextContent(type="text", text="Multiple content types test:"),
            _image(),
            _embedded("test://mixed-content-resource", text, "application/json"),
        ]

    @server.tool()
    async def test_error_handling() -> str:
        """Always fails."""
        raise ToolError("This tool intentionally returns an error for testing")


def _add_streaming(server: MCPServer[dict[str, object]]) -> None:
    async def say_three(context: Context) -> str:
        await context.info("Tool execution started")
        await anyio.sleep(STEP_SECONDS)
        await context.info("Tool processing data")
        await anyio.sleep(STEP_SECONDS)
        await context.info("Tool execution completed")
        return "Tool with logging executed successfully"

    @server.tool()
    async def test_tool_with_logging(context: Context) -> str:
        """Logs three messages while it runs."""
        return await say_three(context)

    @server.tool()
    async def test_logging_tool(context: Context) -> str:
        """Logs where the client asked for logging."""
        return await say_three(context)

    @server.tool()
    async def test_tool_with_progress(context: Context) -> str:
        """Reports its progress in three steps."""
        for done in (0, 50, 100):
            await context.report_progress(done, 100, f"Completed step {done} of 100")
            await anyio.sleep(STEP_SECONDS)
        return "Tool with progress executed successfully"

    @server.tool()
    async def test_reconnection(context: Context) -> str:
        """Closes its stream while it runs, for the client to come back (SEP-1699)."""
        await context.info("Before disconnect")
        await context.close_sse_stream()
        await anyio.sleep(4 * STEP_SECONDS)
        await context.info("After reconnect")
        return "Reconnection test completed"


def _add_changes(server: MCPServer[dict[str, object]]) -> None:
    async def added() -> str:
        """Was not there before."""
        return "added"

    @server.tool()
    async def test_trigger_tool_change(context: Context) -> str:
        """Adds a tool and says that the list changed."""
        server.add_tool(added, name="test_added_tool")
        await context.notify_tools_changed()
        server.remove_tool("test_added_tool")
        return "changed"

    @server.tool()
    async def test_trigger_prompt_change(context: Context) -> str:
        """Says that the list of prompts changed."""
        await context.notify_prompts_changed()
        return "changed"


def add_resources(server: MCPServer[dict[str, object]]) -> None:
    """The resources of the `resources-*` scenarios."""

    @server.resource("test://static-text", description="A text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="An image", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://watched-resource", description="A resource to subscribe to", mime_type="text/plain")
    def watched_resource() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", description="Data by id", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002  # the template's word
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(server: MCPServer[dict[str, object]]) -> None:
    """The prompts of the `prompts-*` scenarios."""

    @server.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """Has no arguments."""
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt()
    def test_prompt_with_arguments(
        arg1: Annotated[str, Field(description="First test argument")],
        arg2: Annotated[str, Field(description="Second test argument")],
    ) -> list[UserMessage]:
        """Has two arguments."""
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt()
    def test_prompt_with_embedded_resource(
        resourceUri: Annotated[str, Field(description="URI of the resource to embed")],  # noqa: N803  # the suite's word
    ) -> list[UserMessage]:
        """Has a resource inside."""
        return [
            UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """Has an image inside."""
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]
