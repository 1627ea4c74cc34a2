"""The official Python SDK 1.x: `python python_1.py URL STEPS [sse]`, in the environment scripts/everything makes."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from mcp import ClientSession, types
from mcp.client.experimental.task_handlers import ExperimentalTaskHandlers
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.experimental.tasks.in_memory_task_store import InMemoryTaskStore
from pydantic import AnyUrl
from script import Client, bearer, run


def later(client: Client) -> ExperimentalTaskHandlers:
    """The handlers of a client that answers what it is asked as tasks (2025-11-25)."""
    store = InMemoryTaskStore()

    def made(answer: Any) -> Any:
        async def handler(context: Any, params: Any, task: types.TaskMetadata) -> types.CreateTaskResult:
            created = await store.create_task(task, task_id=str(uuid.uuid4()))
            await store.store_result(created.taskId, await answer(context, params))
            await store.update_task(created.taskId, status="completed")
            return types.CreateTaskResult(task=created)

        return handler

    async def get_task(_context: Any, params: types.GetTaskRequestParams) -> types.GetTaskResult:
        task = await store.get_task(params.taskId)
        assert task is not None
        return types.GetTaskResult(**task.model_dump())

    async def get_result(_context: Any, params: types.GetTaskPayloadRequestParams) -> types.GetTaskPayloadResult:
        result = await store.get_result(params.taskId)
        assert result is not None
        return types.GetTaskPayloadResult.model_validate(result.model_dump(by_alias=True, exclude_none=True))

    return ExperimentalTaskHandlers(
        get_task=get_task,
        get_task_result=get_result,
        augmented_sampling=made(client.sample),
        augmented_elicitation=made(client.elicit),
    )


@asynccontextmanager
async def connected(client: Client, url: str, transport: str) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of a session, over Streamable HTTP or the transport of 2024-11-05 (`sse`)."""
    if transport == "sse":
        async with sse_client(url, headers=bearer()) as streams:
            yield streams
        return
    hooks = {"response": [client.answered]}
    async with (
        httpx.AsyncClient(headers=bearer(), event_hooks=hooks, timeout=60) as http,
        streamable_http_client(url, http_client=http) as (reader, writer, _),
    ):
        yield reader, writer


async def main(url: str, steps: list[dict[str, Any]], transport: str = "") -> dict[str, Any]:
    client = Client(None, types, uri=AnyUrl, seconds=lambda seconds: timedelta(seconds=seconds))

    async def heard(message: Any) -> None:
        client.heard(message)

    async def task(name: str, arguments: dict[str, Any]) -> Any:
        """Created, looked at, and waited for; what its tool asks comes with the result."""
        created = await session.experimental.call_tool_as_task(name, arguments, ttl=60000)
        status = await session.experimental.get_task(created.task.taskId)
        result = await session.experimental.get_task_result(created.task.taskId, types.CallToolResult)
        after = await session.experimental.get_task(created.task.taskId)
        return {"statuses": [status.status, after.status], "result": result.model_dump(mode="json", exclude_none=True)}

    async with (
        connected(client, url, transport) as (reader, writer),
        ClientSession(
            reader,
            writer,
            sampling_callback=client.sample,
            elicitation_callback=client.elicit,
            list_roots_callback=client.list_roots,
            message_handler=heard,
            experimental_task_handlers=later(client),
        ) as session,
    ):
        client.session, client.task = session, task
        version = (await session.initialize()).protocolVersion
        return {"version": version, **await client.play(steps)}


if __name__ == "__main__":
    asyncio.run(run(main, sys.argv[1:]))
