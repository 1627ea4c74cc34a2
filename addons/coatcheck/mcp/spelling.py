"""Members that a lenient reader takes for others: Go's JSON reads `Arguments` as `arguments` (CVE-2026-27896).

Law: where the protocol has a member, no other member of that object is one that some reader would take for it; it
would be read by the other side, and was looked at by nobody here. (One beside the other is refused by `strict_json`.)
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from coatcheck.mcp.call import Json
from coatcheck.mcp.capabilities import CLIENT_CAPABILITIES
from coatcheck.mcp.methods import METHODS, VERSION_META
from coatcheck.mcp.strict_json import folded
from coatcheck.mcp.tasks import RELATED_TASK


class _Members:
    """The members that the protocol has in one kind of object, as far as something here depends on them."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)
        self._by_form: Mapping[str, str] = MappingProxyType({folded(name): name for name in names})

    def has_twin(self, found: object) -> bool:
        """Whether an object has a member that only looks like one of these."""
        if not isinstance(found, dict) or found.keys() <= self._names:
            return False
        return any(folded(name) in self._by_form for name in found.keys() - self._names)


_MESSAGE = _Members("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS = _Members(
    "_meta", "name", "arguments", "uri", "ref", "argument", "context", "cursor", "level", "task", "taskId",
    "requestId", "progressToken", "inputResponses", "inputRequests", "requestState", "notifications",
    "protocolVersion", "capabilities", "clientInfo",
)  # fmt: skip
_META = _Members(VERSION_META, CLIENT_CAPABILITIES, RELATED_TASK, "progressToken")
_REFERENCE = _Members("type", "name", "uri")
_LISTENED = _Members("resourceSubscriptions", "taskIds")
_RESULT = _Members(
    "_meta", "tools", "resources", "resourceTemplates", "prompts", "tasks", "task", "taskId", "resultType",
    "inputRequests", "requestState", "nextCursor", "capabilities", "protocolVersion", "supportedVersions",
)  # fmt: skip
_WITHIN: Iterable[tuple[str, _Members]] = (("_meta", _META), ("ref", _REFERENCE), ("notifications", _LISTENED))


def has_twins(message: Mapping[str, Json], method: str | None) -> bool:
    """Whether a message has such a member: in itself, or, where `method` (its own, or the one it answers) is MCP's,
    in its parameters or its result.
    """
    if _MESSAGE.has_twin(message):
        return True
    if method not in METHODS:
        return False
    params = message.get("params")
    if isinstance(params, dict):
        within = any(members.has_twin(params[name]) for name, members in _WITHIN if name in params)
        return within or _PARAMS.has_twin(params)
    return _RESULT.has_twin(message.get("result"))
