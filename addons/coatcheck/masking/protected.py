"""The members of a JSON-RPC message that MCP itself needs, by where they stand.

Law: only the protocol's own places are protected; a tool's data may use the same names and is masked there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Protected:
    """What is kept in one object (or in each object of one array).

    `kept` members are never changed; `inside` says the same of members that are masked themselves, and `others` of
    those without an entry there. `schemas` define data and hold none: field paths do not reach into them.
    `is_root`: field paths are tried from here too.
    """

    kept: frozenset[str] = frozenset()
    inside: Mapping[str, "Protected"] = field(default_factory=dict)
    others: "Protected | None" = None
    schemas: frozenset[str] = frozenset()
    is_root: bool = False

    def below(self, name: str) -> "Protected":
        """What is kept in the member `name`."""
        return self.inside.get(name) or self.others or NOTHING


NOTHING = Protected()

_META = Protected(
    frozenset(
        {
            "progressToken",
            "traceparent",
            "tracestate",
            "io.modelcontextprotocol/protocolVersion",
            "io.modelcontextprotocol/subscriptionId",
            "io.modelcontextprotocol/related-task",
        }
    )
)
# A tool or prompt whose name is masked cannot be called any more.
_TOOL = Protected(frozenset({"name"}), schemas=frozenset({"inputSchema", "outputSchema"}))
_PROMPT = Protected(frozenset({"name"}), schemas=frozenset({"arguments"}))
_INPUT = Protected(frozenset({"method"}), {"params": Protected(schemas=frozenset({"requestedSchema"}))})
_TASK = Protected(frozenset({"taskId"}))
_BODY = frozenset(
    {
        "cacheScope",
        "cursor",
        "nextCursor",
        "progressToken",
        "protocolVersion",
        "requestId",
        "requestState",
        "resultType",
        "taskId",
        "ttlMs",
    }
)
_INSIDE = {"_meta": _META, "task": _TASK, "tasks": _TASK}
_RESULT = Protected(
    _BODY,
    {
        **_INSIDE,
        "inputRequests": Protected(others=_INPUT),
        "prompts": _PROMPT,
        "structuredContent": Protected(is_root=True),
        "tools": _TOOL,
    },
    is_root=True,
)

MESSAGE = Protected(
    frozenset({"jsonrpc", "id", "method"}),
    {
        # A finished task brings its tool's whole result inside its own (tasks/get, notifications/tasks).
        "result": Protected(_BODY, {**_RESULT.inside, "result": _RESULT}, is_root=True),
        "params": Protected(_BODY, {**_INSIDE, "result": _RESULT}),
        "error": Protected(frozenset({"code"})),
    },
)
"""A whole JSON-RPC request, notification or response of any MCP version."""
