"""The official Python SDK 2.x: `python python_2.py URL STEPS auto|legacy|sse`."""

import asyncio
import sys
import warnings
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client as Official
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning
from script import Client, bearer, run


async def main(url: str, steps: list[dict[str, Any]], mode: Any) -> dict[str, Any]:
    client = Client(None, types)

    async def heard(message: Any) -> None:
        client.heard(message)

    hooks = {"response": [client.answered]}
    async with (
        httpx2.AsyncClient(headers=bearer(), event_hooks=hooks, timeout=60) as http,
        Official(
            sse_client(url, headers=bearer()) if mode == "sse" else streamable_http_client(url, http_client=http),
            mode="legacy" if mode == "sse" else mode,
            sampling_callback=client.sample,
            elicitation_callback=client.elicit,
            list_roots_callback=client.list_roots,
            message_handler=heard,
        ) as official,
    ):
        client.session = official
        return {"version": official.protocol_version, **await client.play(steps)}


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    asyncio.run(run(main, sys.argv[1:]))
