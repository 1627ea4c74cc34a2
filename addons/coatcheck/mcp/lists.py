"""Lists shown to a caller hold what it may call, and no cache keeps them for another.

Law: a list is a view, never a permission: each call is decided again when it is made.
Law: pages stay pages. `nextCursor` is the server's own; a page may become empty.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from coatcheck.mcp.call import Json

CACHED = frozenset({"resources/read", "server/discover"})
"""The other methods whose results may be cached. Which caller may read a resource, and with which mask, is policy."""

LISTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "tools/list": ("tools", "tools", "name"),
        "resources/list": ("resources", "resources", "uri"),
        "resources/templates/list": ("resourceTemplates", "resources", "uriTemplate"),
        "prompts/list": ("prompts", "prompts", "name"),
    }
)
"""Method to: the result's member that holds the entries, the kind of thing, the member that names an entry."""


def filter_list(method: str, result: Json, may_see: Callable[[str, str], bool]) -> tuple[Json, int]:
    """`result` of a list method without the entries that `may_see(kind, name)` is false for, and how many those were.

    `kind` is `tools`, `resources` or `prompts`; a resource is named by its URI or URI template. Malformed entries
    are left out and counted; a result that holds no list becomes an empty one. A result that may be cached
    (`ttlMs` or `cacheScope`, MCP 2026-07-28 "Caching") says it is private and already stale. The same object comes
    back when nothing changed. Raises `KeyError` for a method that lists nothing.
    """
    member, kind, naming = LISTS[method]
    if not isinstance(result, dict):
        return {member: []}, 0
    entries = result.get(member)
    found = entries if isinstance(entries, list) else []
    seen = [entry for entry in found if _is_visible(entry, kind, naming, may_see)]
    changes: dict[str, Json] = {}
    if len(seen) != len(found) or found is not entries:
        changes[member] = list(seen)
    private = kept_private({**result, **changes} if changes else result)
    return private, len(found) - len(seen)


def kept_private(result: dict[str, Json]) -> dict[str, Json]:
    """A result that may be cached, as private and already stale; any other as it is."""
    if "ttlMs" not in result and "cacheScope" not in result:
        return result
    return {**result, "ttlMs": 0, "cacheScope": "private"}


def _is_visible(entry: Json, kind: str, naming: str, may_see: Callable[[str, str], bool]) -> bool:
    name = entry.get(naming) if isinstance(entry, dict) else None
    return isinstance(name, str) and name != "" and may_see(kind, name)
