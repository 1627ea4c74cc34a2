"""What a call asks for, in the words a rule can name it by (DESIGN 5.3).

Law: a method that this table does not know is asked for by its own name only, so that no rule on tools,
resources or prompts can ever permit it.
"""

from dataclasses import dataclass
from typing import Literal

from coatcheck.mcp.call import Call

type Aspect = Literal["tools", "resources", "prompts", "methods", "http"]
type Listed = Literal["tools", "resources", "prompts"]

ASPECTS: tuple[Aspect, ...] = ("tools", "resources", "prompts", "methods", "http")

HANDSHAKE = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "logging/setLevel",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""What any caller with a permitting rule on the server may do: nothing here reads or changes the server's data,
and the lists are filtered to what the caller may call."""

ASKED_OF_CLIENT = frozenset({"sampling/createMessage", "elicitation/create", "roots/list"})
"""What a server asks of its client: a rule names the caller that is asked."""

TRANSPORT = frozenset({"GET", "DELETE"})
"""The HTTP methods of the transport itself: the push stream and the end of a session (MCP 2025-11-25 basic/transports).
A JSON-RPC message that borrows their names is not one of them: it has an id or parameters."""

NAMED: dict[str, Listed] = {
    "tools/call": "tools",
    "resources/read": "resources",
    "resources/subscribe": "resources",
    "resources/unsubscribe": "resources",
    "prompts/get": "prompts",
}
"""Methods that a rule names by the thing they are about."""

NAMED_METHODS = frozenset(NAMED) | {"completion/complete"}

_REFERENCES: dict[str, tuple[Listed, str]] = {"ref/prompt": ("prompts", "name"), "ref/resource": ("resources", "uri")}


@dataclass(frozen=True, slots=True)
class Asked:
    """One call as rules see it: `name` is the tool, URI, prompt, JSON-RPC method or HTTP path."""

    aspect: Aspect
    method: str
    name: str
    is_handshake: bool = False
    """Whether it belongs to the handshake, the lists or the transport itself."""

    @property
    def phrase(self) -> str:
        """`call refund_order`, `read file:///x`, `GET /orders`: for sentences, control characters escaped."""
        name = _shown(self.name)
        match self.aspect:
            case "tools":
                return f"call {name}"
            case "resources":
                return f"read {name}"
            case "prompts":
                return f"get the prompt {name}"
            case "methods":
                return f"use {name}"
            case "http":
                return f"{_shown(self.method)} {name}"


def asked(call: Call) -> Asked:
    """What `call` asks for; `completion/complete` asks for the prompt or resource it refers to."""
    if call.kind == "http":
        return Asked("http", call.method, call.name or "")
    aspect = NAMED.get(call.method)
    if aspect is not None:
        return Asked(aspect, call.method, call.name or "")
    if call.method == "completion/complete":
        reference = call.params.get("ref")
        if isinstance(reference, dict):
            kind = reference.get("type")
            known = _REFERENCES.get(kind) if isinstance(kind, str) else None
            name = reference.get(known[1]) if known else None
            if known and isinstance(name, str):
                return Asked(known[0], call.method, name)
    is_transport = call.method in TRANSPORT and call.id is None and not call.params and call.name is None
    return Asked("methods", call.method, call.method, call.method in HANDSHAKE or is_transport)


def _shown(text: str) -> str:
    """At most 120 characters, printable ASCII: look-alikes and control characters are shown as escapes."""
    cut = text if len(text) <= 120 else text[:119] + "…"
    return "".join(c if " " < c <= "~" or c == "…" else c.encode("unicode_escape").decode("ascii") for c in cut) or "''"
