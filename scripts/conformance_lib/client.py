"""The client under test in the suite's client mode: the official Python SDK, doing everything the server offers.

Law: what the client does depends on the scenario alone, never on the way it takes to the server.
The suite starts it with the server's URL, which the way is then built to: for `proxy` and `reverse` a gateway of this
one scenario, whose policy permits everything.

    python -m conformance_lib.client URL      (CONFORMANCE_WAY, MCP_CONFORMANCE_SCENARIO and others in the environment)
"""

import asyncio
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

from conformance_lib.scene import Way, reaching_port

SCHEMA_TOOL = "json_schema_2020_12_tool"
"""The tool whose schema the suite wants back, to see what the client kept of it."""


async def elicit(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    """Accepts, with the defaults of the schema and a plain value for what has none."""
    del context
    schema = getattr(params, "requested_schema", None) or {}
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    return types.ElicitResult(action="accept", content={name: _value(one) for name, one in properties.items()})


async def sample(context: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    """Says one word."""
    del context, params
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="yes"), model="none")


def _value(schema: Mapping[str, Any]) -> Any:  # noqa: ANN401  # any JSON
    if "default" in schema:
        return schema["default"]
    plain: dict[str, Any] = {"string": "x", "integer": 5, "number": 5, "boolean": True, "array": [], "object": {}}
    return schema["enum"][0] if "enum" in schema else plain.get(schema.get("type", "string"), "x")


async def do_everything(client: Client, wanted: list[dict[str, Any]]) -> None:
    """Lists, then calls every tool, reads every resource and gets every prompt; errors are the server's to give."""
    tools = (await client.list_tools()).tools
    schemas = {tool.name: tool.input_schema for tool in tools}
    calls = wanted or [
        {"name": name, "arguments": {key: _value(one) for key, one in schema.get("properties", {}).items()}}
        for name, schema in schemas.items()
    ]
    for call in calls:
        if "schema" in call["arguments"] and SCHEMA_TOOL in schemas:
            call["arguments"]["schema"] = schemas[SCHEMA_TOOL]
        with suppress(MCPError, RuntimeError):
            await client.call_tool(call["name"], call["arguments"])
    with suppress(MCPError):
        for resource in (await client.list_resources()).resources:
            await client.read_resource(str(resource.uri))
    with suppress(MCPError):
        for prompt in (await client.list_prompts()).prompts:
            await client.get_prompt(prompt.name, {one.name: "x" for one in prompt.arguments or []})


async def run(route: Way, version: str) -> None:
    """One connection of the protocol version, everything on it."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    http = httpx2.AsyncClient(headers=route.headers, timeout=30)
    mode = "auto" if version >= "2026" else "legacy"
    async with Client(
        streamable_http_client(route.url, http_client=http),
        mode=mode,
        elicitation_callback=elicit,
        sampling_callback=sample,
    ) as client:
        await do_everything(client, context.get("toolCalls", []))


def main() -> None:
    """The command line."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    url, way = sys.argv[1], os.environ.get("CONFORMANCE_WAY", "direct")
    version = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    with tempfile.TemporaryDirectory(prefix="coatcheck-conformance-client-") as folder:
        parts = urlsplit(url)
        with reaching_port(way, Path(folder), parts.port or 80, parts.path or "/") as route:
            os.environ.update(route.environment)
            asyncio.run(run(route, version))


if __name__ == "__main__":
    main()
