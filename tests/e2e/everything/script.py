"""What both Python clients do: the steps of a script, one after another, each with what came of it.

Law: a step depends on the script and the server alone, never on the way there; it ends, whatever comes.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEP_SECONDS = 40
ROOTS = ["file:///workspace/orders"]

answers: list[dict[str, Any]] = []
"""How each POST was answered, but notifications."""


def bearer() -> dict[str, str]:
    """The header that a client at a gateway URL shows who it is with."""
    token = os.environ.get("EVERYTHING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def dumped(value: Any) -> Any:
    """A model as JSON with the names it has on the wire."""
    return value.model_dump(mode="json", by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value


@dataclass
class Client:
    """The official client behind it, and what reached it."""

    session: Any
    types: Any
    uri: Callable[[str], Any] = str
    """What a resource is named by."""
    seconds: Callable[[float], Any] = float
    """How long an answer is waited for."""
    task: Callable[[str, dict[str, Any]], Any] | None = None
    """Calls a tool as a task, where the client can."""
    notifications: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    roots: list[str] = field(default_factory=lambda: list(ROOTS))

    def heard(self, message: Any) -> None:
        """Keeps a notification."""
        if "method" in (seen := dumped(getattr(message, "root", message)) or {}):
            self.notifications.append(seen)

    def was_asked(self, method: str, params: Any) -> None:
        """Keeps a request of the server."""
        self.asked.append({"method": method, "params": dumped(params)})

    async def answered(self, response: Any) -> None:
        """Keeps how a POST was answered; a hook of httpx, of either version."""
        request = response.request
        if request.method != "POST" or response.status_code == 202:
            return
        kind = response.headers.get("content-type", "")
        answer = {"status": response.status_code, "type": kind}
        if kind.startswith("application/json"):
            await response.aread()
            body = response.json()
            answer["same id"] = isinstance(body, dict) and body.get("id") == json.loads(request.content).get("id")
        answers.append(answer)

    # -- what the server may ask ----------------------------------------------------------------------------------

    async def sample(self, _context: Any, params: Any) -> Any:
        self.was_asked("sampling/createMessage", params)
        content = self.types.TextContent(type="text", text="forty-two")
        return self.types.CreateMessageResult(role="assistant", content=content, model="a-model")

    async def elicit(self, _context: Any, params: Any) -> Any:
        self.was_asked("elicitation/create", params)
        asked = dumped(params)
        return self.types.ElicitResult(action="accept", content=None if asked.get("mode") == "url" else entered(asked))

    async def list_roots(self, _context: Any) -> Any:
        self.was_asked("roots/list", None)
        return self.types.ListRootsResult(roots=[self.types.Root(uri=uri) for uri in self.roots])

    # -- steps ----------------------------------------------------------------------------------------------------

    async def play(self, steps: list[dict[str, Any]]) -> dict[str, Any]:
        """Takes every step; what came of each, and what the server asked meanwhile."""
        done = []
        for step in steps:
            before = len(answers)
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    outcome = await self._step(step)
            except TimeoutError:
                outcome = {"hangs": True}
            done.append({"step": step, **outcome, "answers": answers[before:]})
        return {"steps": done, "asked": self.asked}

    async def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        since = len(self.notifications) if step["do"] != "await" else 0
        progress: list[Any] = []
        try:
            outcome = {"result": dumped(await self._do(step, progress))}
        except TimeoutError:
            raise
        except Exception as error:
            outcome = {"error": told(error)}
        if progress:
            outcome["progress"] = progress
        if "await" in step and "error" not in outcome:
            outcome["heard"] = await self._awaited(step["await"], since)
        return outcome

    async def _do(self, step: dict[str, Any], progress: list[Any]) -> Any:
        session, types = self.session, self.types
        match step:
            case {"do": "await"}:
                return None
            case {"do": "ping"}:
                return await session.send_ping()
            case {"do": "list tools"}:
                return await session.list_tools()
            case {"do": "list resources"}:
                return await session.list_resources()
            case {"do": "list templates"}:
                return await session.list_resource_templates()
            case {"do": "list prompts"}:
                return await session.list_prompts()
            case {"do": "set level", "level": level}:
                return await session.set_logging_level(level)
            case {"do": "task", "name": name, "arguments": arguments} if self.task is not None:
                return await self.task(name, arguments)
            case {"do": "call" | "task", "name": name, "arguments": arguments}:

                async def report(done: float, total: float | None, message: str | None) -> None:
                    progress.append([done, total, message])

                more = {"progress_callback": report} if step.get("progress") else {}
                if "patience" in step:
                    more["read_timeout_seconds"] = self.seconds(step["patience"])
                return await session.call_tool(name, arguments, **more)
            case {"do": "read", "uri": uri}:
                return await session.read_resource(self.uri(uri))
            case {"do": "subscribe", "uri": uri}:
                return await session.subscribe_resource(self.uri(uri))
            case {"do": "unsubscribe", "uri": uri}:
                return await session.unsubscribe_resource(self.uri(uri))
            case {"do": "prompt", "name": name}:
                return await session.get_prompt(name, step.get("arguments"))
            case {"do": "complete", "argument": name, "value": value}:
                if "prompt" in step:
                    reference = types.PromptReference(type="ref/prompt", name=step["prompt"])
                else:
                    reference = types.ResourceTemplateReference(type="ref/resource", uri=step["template"])
                return await session.complete(reference, {"name": name, "value": value}, step.get("context"))
            case {"do": "listen", "call": name}:
                async with session.listen(tools_list_changed=True) as subscription:
                    await session.call_tool(name, {})
                    event = await anext(aiter(subscription))
                return {"honored": dumped(subscription.honored), "heard": type(event).__name__}
            case {"do": "roots changed"}:
                self.roots.append("file:///workspace/books")
                return await session.send_roots_list_changed()
        raise ValueError(step)

    async def _awaited(self, wanted: dict[str, str], since: int) -> dict[str, Any]:
        """The first notification from `since` on that is `wanted`."""
        while True:
            for one in self.notifications[since:]:
                if one["method"] == wanted["method"] and wanted.get("containing", "") in json.dumps(one):
                    return one
            await asyncio.sleep(0.05)


def entered(asked: dict[str, Any]) -> dict[str, Any]:
    """What a human types into the form: the defaults, and something where there is none."""
    plain = {"string": "ann", "boolean": True, "integer": 5, "number": 5, "array": []}
    fields = asked["requestedSchema"]["properties"]
    out = {}
    for name, schema in fields.items():
        choices = [one["const"] for one in schema.get("oneOf", [])] or schema.get("enum", [])
        fitting = {"email": "ann@shop.example", "uri": "https://shop.example/", "date": "2000-01-31"}
        value = fitting.get(schema.get("format", ""), choices[0] if choices else plain[schema["type"]])
        out[name] = schema.get("default", value)
    return out


def told(error: BaseException) -> dict[str, Any]:
    """An error as its reader sees it; of a group the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if (data := getattr(error, "error", None)) is not None:
        return {"kind": type(error).__name__, **dumped(data)}
    return {"kind": type(error).__name__, "message": str(error)}


async def run(main: Callable[[str, list[dict[str, Any]]], Any], arguments: list[str]) -> None:
    """`main(url, steps)` with the command line's URL and file of steps; prints what it returns, or how it failed."""
    url, steps, *rest = arguments
    try:
        out = await main(url, json.loads(Path(steps).read_text()), *rest)  # noqa: ASYNC240  # nothing else runs yet
    except Exception as error:
        out = {"failed": told(error), "answers": answers}
    print(json.dumps(out))
