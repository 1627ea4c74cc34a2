"""The methods of MCP, from the schemas of every protocol version (2024-11-05 to 2026-07-28).

Law: a method that is not in this table is still inspected, but names nothing: only a rule on methods can allow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

type Kind = Literal["tools", "resources", "prompts", "tasks", "completion"]

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""Every released protocol version, oldest first."""

FIRST_STATELESS = "2026-07-28"
"""From this version on a request carries its version in `_meta` and is mirrored in headers."""

BATCH_VERSION = "2025-03-26"
"""The only version whose requests may come in an array."""

VERSION_META = "io.modelcontextprotocol/protocolVersion"
"""The member of `params._meta` that holds the protocol version from `FIRST_STATELESS` on."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    `sender` says which side may send it. `names` is the kind of thing it asks for and `param` the parameter that
    names it. `arguments` is true where `params.arguments` go to that thing. `mirrored`: `Mcp-Name` must hold the
    parameter (streamable-http, "Standard Request Headers"); else it may. `was_removed` in `FIRST_STATELESS`.
    """

    name: str
    sender: Literal["client", "server", "both"]
    form: Literal["request", "notification"] = "request"
    names: Kind | None = None
    param: str | None = None
    arguments: bool = False
    mirrored: bool = False
    was_removed: bool = False


_TABLE = (
    Method("initialize", "client", was_removed=True),
    Method("server/discover", "client"),
    Method("ping", "both", was_removed=True),
    Method("logging/setLevel", "client", was_removed=True),
    Method("tools/list", "client"),
    Method("tools/call", "client", names="tools", param="name", arguments=True, mirrored=True),
    Method("resources/list", "client"),
    Method("resources/templates/list", "client"),
    Method("resources/read", "client", names="resources", param="uri", mirrored=True),
    Method("resources/subscribe", "client", names="resources", param="uri", was_removed=True),
    Method("resources/unsubscribe", "client", names="resources", param="uri", was_removed=True),
    Method("prompts/list", "client"),
    Method("prompts/get", "client", names="prompts", param="name", arguments=True, mirrored=True),
    Method("completion/complete", "client", names="completion", param="ref"),
    Method("subscriptions/listen", "client"),
    Method("tasks/get", "both", names="tasks", param="taskId"),
    Method("tasks/result", "both", names="tasks", param="taskId", was_removed=True),
    Method("tasks/update", "client", names="tasks", param="taskId"),
    Method("tasks/cancel", "both", names="tasks", param="taskId"),
    Method("tasks/list", "both", was_removed=True),
    Method("sampling/createMessage", "server"),
    Method("elicitation/create", "server"),
    Method("roots/list", "server"),
    Method("notifications/initialized", "client", "notification"),
    Method("notifications/roots/list_changed", "client", "notification"),
    Method("notifications/cancelled", "both", "notification"),
    Method("notifications/progress", "both", "notification"),
    Method("notifications/tasks/status", "both", "notification"),
    Method("notifications/tasks", "server", "notification"),
    Method("notifications/message", "server", "notification"),
    Method("notifications/resources/updated", "server", "notification"),
    Method("notifications/resources/list_changed", "server", "notification"),
    Method("notifications/tools/list_changed", "server", "notification"),
    Method("notifications/prompts/list_changed", "server", "notification"),
    Method("notifications/elicitation/complete", "server", "notification"),
    Method("notifications/subscriptions/acknowledged", "server", "notification"),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _TABLE})
"""The table, by method name."""


def is_notification(method: str) -> bool:
    """Whether a message with this method has no id and gets no answer (JSON-RPC 2.0 section 4.1)."""
    return method.startswith("notifications/")
