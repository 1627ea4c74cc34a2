"""Tools and a prompt that ask by answering `input_required`, as servers do from 2026-07-28 on (multi-round-trip).

The SDK seals `requestState`, so that a state that was tampered with never comes back here.
"""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

type Answer = str | InputRequiredResult


def _elicit(message: str, name: str, kind: str = "string") -> ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, max_tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def _elicited(context: Context, key: str, name: str) -> str | int | float | bool | list[str] | None:
    """What the user entered as `name` in the answer to `key`; None where there is no such answer."""
    answer = (context.input_responses or {}).get(key)
    return (answer.content or {}).get(name) if isinstance(answer, ElicitResult) else None


def add_rounds(server: MCPServer[dict[str, object]]) -> None:
    """The tools and the prompt of the `input-required-result-*` scenarios, and two of `server-stateless`."""
    _add_one_round(server)
    _add_state(server)
    _add_capabilities(server)

    @server.prompt()
    def test_input_required_result_prompt(context: Context) -> list[UserMessage] | InputRequiredResult:
        """Asks what it is for."""
        wanted = _elicited(context, "user_context", "context")
        if wanted is None:
            ask = _elicit("What context should the prompt use?", "context")
            return InputRequiredResult(input_requests={"user_context": ask})
        return [UserMessage(f"Use this context: {wanted}")]


def _add_one_round(server: MCPServer[dict[str, object]]) -> None:
    @server.tool()
    async def test_input_required_result_elicitation(context: Context) -> Answer:
        """Asks for a name."""
        name = _elicited(context, "user_name", "name")
        if name is None:
            return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", "name")})
        return f"Hello, {name}!"

    @server.tool()
    async def test_input_required_result_sampling(context: Context) -> Answer:
        """Asks the client's model."""
        answer = (context.input_responses or {}).get("capital_question")
        if not isinstance(answer, CreateMessageResult):
            ask = _sample("What is the capital of France?", 100)
            return InputRequiredResult(input_requests={"capital_question": ask})
        return answer.content.text if isinstance(answer.content, TextContent) else "no text"

    @server.tool()
    async def test_input_required_result_list_roots(context: Context) -> Answer:
        """Asks for the client's roots."""
        answer = (context.input_responses or {}).get("client_roots")
        if not isinstance(answer, ListRootsResult):
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return f"{len(answer.roots)} roots: {', '.join(str(root.uri) for root in answer.roots)}"

    @server.tool()
    async def test_streaming_elicitation(context: Context) -> Answer:
        """Reports progress, then asks."""
        await context.report_progress(1, 2)
        confirmed = _elicited(context, "confirm", "ok")
        if confirmed is None:
            return InputRequiredResult(input_requests={"confirm": _elicit("Please confirm", "ok", "boolean")})
        return f"confirmed: {confirmed}"


def _add_state(server: MCPServer[dict[str, object]]) -> None:
    def ask_to_confirm(context: Context) -> Answer:
        if context.request_state != "asked" or _elicited(context, "confirm", "ok") is None:
            ask = _elicit("Please confirm", "ok", "boolean")
            return InputRequiredResult(input_requests={"confirm": ask}, request_state="asked")
        return "state-ok"

    @server.tool()
    async def test_input_required_result_request_state(context: Context) -> Answer:
        """Asks, and wants its state back."""
        return ask_to_confirm(context)

    @server.tool()
    async def test_input_required_result_tampered_state(context: Context) -> Answer:
        """The same; a state that is not its own is refused."""
        return ask_to_confirm(context)

    @server.tool()
    async def test_input_required_result_multiple_inputs(context: Context) -> Answer:
        """Asks three things at once."""
        answers = context.input_responses or {}
        if not {"user_name", "greeting", "client_roots"} <= answers.keys() or context.request_state != "asked":
            return InputRequiredResult(
                input_requests={
                    "user_name": _elicit("What is your name?", "name"),
                    "greeting": _sample("Generate a greeting", 50),
                    "client_roots": ListRootsRequest(),
                },
                request_state="asked",
            )
        return f"{len(answers)} answers"

    @server.tool()
    async def test_input_required_result_multi_round(context: Context) -> Answer:
        """Asks twice, one after the other."""
        if context.request_state == "round-2" and (color := _elicited(context, "step2", "color")) is not None:
            return f"You like {color}"
        if context.request_state == "round-1" and _elicited(context, "step1", "name") is not None:
            ask = _elicit("Step 2: What is your favorite color?", "color")
            return InputRequiredResult(input_requests={"step2": ask}, request_state="round-2")
        ask = _elicit("Step 1: What is your name?", "name")
        return InputRequiredResult(input_requests={"step1": ask}, request_state="round-1")


def _add_capabilities(server: MCPServer[dict[str, object]]) -> None:
    @server.tool()
    async def test_missing_capability(context: Context) -> str:
        """Needs a client with sampling."""
        declared = context.client_capabilities
        if declared is None or declared.sampling is None:
            needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs sampling", needed)
        return "the client has sampling"

    @server.tool()
    async def test_input_required_result_capabilities(context: Context) -> Answer:
        """Asks only what the client declared it can answer."""
        declared = context.client_capabilities
        asks: dict[str, Any] = {}
        if declared is not None and declared.elicitation is not None:
            asks["user_name"] = _elicit("What is your name?", "name")
        if declared is not None and declared.sampling is not None:
            asks["greeting"] = _sample("Generate a greeting", 50)
        if not asks or context.input_responses:
            return "nothing to ask"
        return InputRequiredResult(input_requests=asks)
