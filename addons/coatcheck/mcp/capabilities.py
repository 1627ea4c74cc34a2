"""What a client says it can be asked, cut down to what the policy lets this server ask.

Law: a server is never told of a capability whose use would be denied; it then has no reason to ask.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from coatcheck.mcp.call import Json
from coatcheck.mcp.strict_json import folded

CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
"""The member of `params._meta` that declares them from 2026-07-28 on; before that, `initialize` does."""
TASKS = "io.modelcontextprotocol/tasks"
"""The extension that lets a server answer with a task (2026-07-28)."""

ASKED_BY: Mapping[str, str] = MappingProxyType(
    {
        "sampling": "sampling/createMessage",
        "elicitation": "elicitation/create",
        "roots": "roots/list",
        "tasks": "tasks/get",
    }
)
"""Capability to the method that uses it."""


def without_undeclared(message: Json, may_ask: Callable[[str], bool]) -> Json:
    """`message` without the client capabilities that `may_ask(method)` is false for; the same object if none is cut.

    Looks into `initialize` (`params.capabilities`) and into every request's `params._meta`.
    """
    if not isinstance(message, dict) or not isinstance(params := message.get("params"), dict):
        return message
    changes: dict[str, Json] = {}
    if message.get("method") == "initialize":
        _cut(params, "capabilities", may_ask, changes)
    meta = params.get("_meta")
    if isinstance(meta, dict):
        inside: dict[str, Json] = {}
        _cut(meta, CLIENT_CAPABILITIES, may_ask, inside)
        if inside:
            changes["_meta"] = {**meta, **inside}
    return {**message, "params": {**params, **changes}} if changes else message


def _cut(where: dict[str, Json], member: str, may_ask: Callable[[str], bool], changes: dict[str, Json]) -> None:
    declared = where.get(member)
    if not isinstance(declared, dict):
        return
    # some servers read a member in any case (`mcp/spelling.py`)
    forms = {name: folded(name) for name in declared}
    kept = {
        name: value for name, value in declared.items() if forms[name] not in ASKED_BY or may_ask(ASKED_BY[forms[name]])
    }
    if not may_ask(ASKED_BY["tasks"]):
        for name, extensions in declared.items():
            if forms[name] == "extensions" and isinstance(extensions, dict):
                kept[name] = {one: value for one, value in extensions.items() if folded(one) != TASKS}
    if kept != declared:
        changes[member] = kept
