"""Tools that ask the client something while they run, as servers do up to 2025-11-25 (requests on their streams)."""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitResult, SamplingMessage, TextContent

STATUS = ["active", "inactive", "pending"]
DEFAULTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {"type": "string", "description": "User status", "enum": STATUS, "default": "active"},
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    },
    "required": [],
}
"""A default for every primitive type (SEP-1034)."""


def _titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in titles.items()]


ENUMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _titled(value1="First Option", value2="Second Option")},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": _titled(value1="First Choice", value2="Second Choice")}},
    },
    "required": [],
}
"""The five ways to write an enumeration (SEP-1330)."""

RESPONSE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}


def add_asking(server: MCPServer[dict[str, object]]) -> None:
    """The tools of `tools-call-sampling` and of the elicitation scenarios."""

    @server.tool()
    async def test_sampling(prompt: str, context: Context) -> str:
        """Asks the client's model."""
        content = TextContent(type="text", text=prompt)
        answer = await context.session.create_message(
            [SamplingMessage(role="user", content=content)], max_tokens=100, related_request_id=context.request_id
        )
        return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else ''}"

    @server.tool()
    async def test_elicitation(message: str, context: Context) -> str:
        """Asks the client's user."""
        return f"User response: {_said(await _elicit(context, message, RESPONSE))}"

    @server.tool()
    async def test_elicitation_sep1034_defaults(context: Context) -> str:
        """Asks with a default for every primitive type."""
        answer = await _elicit(context, "Please review and update the form fields", DEFAULTS)
        return f"Elicitation completed: {_said(answer)}"

    @server.tool()
    async def test_elicitation_sep1330_enums(context: Context) -> str:
        """Asks with every way to write an enumeration."""
        answer = await _elicit(context, "Please select options from the enum fields", ENUMS)
        return f"Elicitation completed: {_said(answer)}"


async def _elicit(context: Context, message: str, schema: dict[str, Any]) -> ElicitResult:
    """Asks on the stream of the call: one that is only now being opened would miss it."""
    answer: ElicitResult = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
    return answer


def _said(answer: ElicitResult) -> str:
    return f"action={answer.action}, content={answer.content or {}}"
