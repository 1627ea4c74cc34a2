"""Tasks (MCP 2025-11-25 basic/utilities/tasks, and the tasks extension of 2026-07-28): whose each is, and what made it.

Law: a task belongs to the caller whose call made it, on the server that named it; for anybody else it does not exist,
whether it is asked for, listed, or told of.
Law: memory is bounded for each caller on each server; what was pushed out, or made before a restart, does not exist.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coatcheck.errors import INVALID_PARAMS, Refusal
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.capabilities import TASKS
from coatcheck.mcp.correlation import Peers

MAX_TASKS = 1024
RELATED_TASK = "io.modelcontextprotocol/related-task"
"""The member of `_meta` by which a message belongs to a task (2025-11-25)."""

_TOLD = frozenset({"notifications/tasks", "notifications/tasks/status"})


@dataclass(frozen=True, slots=True)
class TaskOrigin:
    """The call that made a task: the exchange it came in, its method, and the tool's name."""

    exchange: str
    method: str
    name: str | None


class Tasks:
    """The tasks of all callers, by a digest: a server's ids may be long."""

    def __init__(self) -> None:
        self._made: dict[Peers, OrderedDict[bytes, TaskOrigin]] = {}
        self._owners: dict[tuple[str, bytes], Peers] = {}
        self._has_none: set[Peers] = set()

    def give(self, peers: Peers, task_id: str, origin: TaskOrigin) -> None:
        """Notes a task that the server made for this caller. An id that another had before is this one's now."""
        digest = _digest(task_id)
        before = self._owners.get((peers.server, digest))
        if before is not None:
            self._made[before].pop(digest, None)
        made = self._made.get(peers) or self._made.setdefault(peers, OrderedDict())
        made[digest] = origin
        self._owners[peers.server, digest] = peers
        if len(made) > MAX_TASKS:
            oldest, _ = made.popitem(last=False)
            del self._owners[peers.server, oldest]

    def origin(self, peers: Peers, task_id: str) -> TaskOrigin | None:
        """The call that made this task of the caller's; None where it is none."""
        made = self._made.get(peers)
        return made.get(_digest(task_id)) if made is not None else None

    def owns(self, peers: Peers, task_id: str) -> bool:
        """Whether it is a task of the caller's."""
        return self.origin(peers, task_id) is not None

    def learn_support(self, peers: Peers, capabilities: Json) -> None:
        """Notes whether the server says to this caller that it has tasks at all (`initialize`, `server/discover`)."""
        declared = capabilities if isinstance(capabilities, dict) else {}
        extensions = declared.get("extensions")
        has_any = "tasks" in declared or (isinstance(extensions, dict) and TASKS in extensions)
        (self._has_none.discard if has_any else self._has_none.add)(peers)

    def check(self, peers: Peers, calls: Sequence[Call], message: Json) -> TaskOrigin | None:
        """The call that made the task which a request is about, where it is about one.

        Raises `Refusal` (-32602, `unknown-task`) for a task that is not the caller's, in words that a server of
        none would use. A server that says it has no tasks may say so itself.
        """
        found = None
        for task_id in _tasks_asked_for(calls, message):
            origin = self.origin(peers, task_id)
            is_anothers = origin is None and (peers.server, _digest(task_id)) in self._owners
            if is_anothers or (origin is None and peers not in self._has_none):
                text = "Failed to retrieve task: Task not found"
                raise Refusal("unknown-task", text, status=200, code=INVALID_PARAMS)
            found = found or origin
        return found

    def passes(self, peers: Peers, message: dict[str, Json]) -> bool:
        """Whether a request or notification of the server is about no task of another caller's.

        It may be about one that is not known yet: on another stream it can come before the answer that names the task.
        """
        params = message.get("params")
        if not isinstance(params, dict):
            return True
        told = [_related(params), params.get("taskId") if message.get("method") in _TOLD else None]
        owners = [self._owners.get((peers.server, _digest(one))) for one in told if isinstance(one, str)]
        return all(owner in (None, peers) for owner in owners)


def made_task(result: dict[str, Json]) -> str | None:
    """The task that a result brings in the place of what was asked for: `task.taskId` (2025-11-25), or `taskId` of a
    result of the type `task` (2026-07-28).
    """
    task = result if result.get("resultType") == "task" else result.get("task")
    found = task.get("taskId") if isinstance(task, dict) else None
    return found if isinstance(found, str) else None


def filter_tasks(result: dict[str, Json], is_own: Callable[[str], bool]) -> dict[str, Json]:
    """The result of `tasks/list` without the tasks of others; `nextCursor` is the server's own."""
    listed = result.get("tasks")
    kept = [one for one in listed if _is_own(one, is_own)] if isinstance(listed, list) else []
    return {**result, "tasks": kept}


def _is_own(entry: Json, is_own: Callable[[str], bool]) -> bool:
    found = entry.get("taskId") if isinstance(entry, dict) else None
    return isinstance(found, str) and is_own(found)


def _tasks_asked_for(calls: Sequence[Call], message: Json) -> Iterator[str]:
    """The ids in a client's message: those of the tasks' own methods and of `subscriptions/listen`, and what a request
    is related to.
    """
    for call in calls:
        if call.method.startswith("tasks/") and call.name is not None:
            yield call.name
        wanted = call.params.get("notifications")
        listened = wanted.get("taskIds") if call.method == "subscriptions/listen" and isinstance(wanted, dict) else None
        yield from (one if isinstance(one, str) else "" for one in (listened if isinstance(listened, list) else ()))
    for one in message if isinstance(message, list) else [message]:
        params = one.get("params") if isinstance(one, dict) and "id" in one else None
        related = _related(params) if isinstance(params, dict) else None
        if related is not None:  # answers and notifications may be about tasks of the client's own
            yield related


def _related(params: dict[str, Json]) -> str | None:
    """The task that a message says it belongs to, empty where that is no id; None where it says nothing of one."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or RELATED_TASK not in meta:
        return None
    related = meta[RELATED_TASK]
    found = related.get("taskId") if isinstance(related, dict) else None
    return found if isinstance(found, str) else ""


def _digest(task_id: str) -> bytes:
    return hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
