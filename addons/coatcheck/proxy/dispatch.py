"""What hooks and events cost inside the pinned mitmproxy, cut down in ten places.

Law: hooks: the same addons run in the same order with the same outcome as `AddonManager.trigger_event`: an exception
is logged and ends only that top-level addon's turn, `AddonHalt` ends the hook, nested addons follow their parent.
The table of hooks is made anew after every change of the addons. Should it ever be stale, the gate in `wire.py` still
lets nothing pass: what the table decides is speed.
Law: events: a connection's events are handled one at a time, in the order they came, as under mitmproxy's lock.

mitmproxy enters a context manager and awaits a coroutine for each of some forty addons in each of some eight hooks
of a request (40 % of its time), copies an option deeply whenever it reads it (5 %), lets each hook wait for the lock
that the event which caused it holds, which costs a turn of the event loop a hook (5 %), enters a generator around each
hook, asks `dataclasses` anew whether a hook is one of its classes and for the names of its arguments, names tasks that
have ended, announces each hook to addons that wait for updates where there are none, waits for flows that nobody holds,
and makes a URL for rules of `map_local` that are not there.
"""

import asyncio
import copy
import dataclasses
import functools
import inspect
import logging
import types
from collections import deque
from collections.abc import Awaitable, Callable
from types import CoroutineType
from weakref import WeakKeyDictionary

from mitmproxy import exceptions, hooks, http, optmanager
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.maplocal import MapLocal
from mitmproxy.flow import Flow
from mitmproxy.proxy import commands
from mitmproxy.proxy.events import Event
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionHandler, TimeoutWatchdog
from mitmproxy.utils import asyncio_utils

logger = logging.getLogger("mitmproxy.addonmanager")

type Function = Callable[..., object]
type HandleEvent = Callable[[ConnectionHandler, Event], Awaitable[None]]

_server_event = ConnectionHandler.server_event
_map_local = MapLocal.request
_set_task_debug_info = asyncio_utils.set_task_debug_info


def install(manager: AddonManager) -> None:
    """Replaces two methods of this manager and, in mitmproxy's classes, the eight other places."""
    table = HookTable(manager)
    manager.trigger_event = table.trigger_event  # type: ignore[method-assign]
    manager.handle_lifecycle = table.handle_lifecycle  # type: ignore[method-assign]
    optmanager._Option.current = _current  # type: ignore[method-assign,assignment] # noqa: SLF001 - no public way
    hooks.Hook.args = _args  # type: ignore[method-assign,assignment]
    commands.StartHook.__new__ = _new  # type: ignore[method-assign,assignment]
    asyncio_utils.set_task_debug_info = _name_task
    ProxyConnectionHandler.handle_hook = _handle_hook  # type: ignore[method-assign,assignment]
    ConnectionHandler.server_event = in_order(_server_event)  # type: ignore[method-assign,assignment]
    TimeoutWatchdog.disarm = _disarm  # type: ignore[method-assign,assignment]
    MapLocal.request = _map_where_asked  # type: ignore[method-assign,assignment]


class HookTable:
    """The functions of each hook, in the order they run; made anew after every change of the manager's addons."""

    def __init__(self, manager: AddonManager) -> None:
        self._manager = manager
        self._turns: dict[str, list[list[Function]]] = {}
        for change in ("register", "remove", "add", "clear"):
            _clear_after(manager, change, self._turns)

    def turns(self, name: str) -> list[list[Function]]:
        """The functions of one hook, a list for each top-level addon that has any."""
        turns = self._turns.get(name)
        if turns is None:
            turns = self._turns[name] = _turns(self._manager, name)
        return turns

    async def trigger_event(self, event: hooks.Hook) -> None:
        """In place of `AddonManager.trigger_event`."""
        args = event.args()
        for turn in self.turns(event.name):
            try:
                for function in turn:
                    result = function(*args)
                    if result is not None and (type(result) is CoroutineType or inspect.isawaitable(result)):
                        await result
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as error:
                logger.exception("Addon error: %s", error)  # noqa: TRY401 - mitmproxy's own words

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """In place of `AddonManager.handle_lifecycle`: one hook, then `update` where it is about a flow."""
        (message, *_) = event.args()
        await self.trigger_event(event)
        if self.turns("update") and isinstance(message, Flow):
            await self.trigger_event(hooks.UpdateHook([message]))


def in_order(handle: HandleEvent) -> HandleEvent:
    """`ConnectionHandler.server_event` for which an event that comes of another one waits in a queue, not for a lock.

    `handle` never suspends, so such an event can only come while the one before it is being handled, in a task that
    was begun for it. It is handled next, by whoever is handling that one.
    """
    queues: WeakKeyDictionary[ConnectionHandler, deque[Event]] = WeakKeyDictionary()

    async def server_event(self: ConnectionHandler, event: Event) -> None:
        queue = queues.get(self)
        if queue is None:
            queue = queues[self] = deque()
        queue.append(event)
        if len(queue) > 1:
            return
        failed: BaseException | None = None
        while queue:
            try:
                await handle(self, queue[0])
            except BaseException as error:  # noqa: BLE001 - raised below: no failure keeps the events behind it
                failed = failed or error
            queue.popleft()
        if failed is not None:
            raise failed

    return server_event


def _turns(manager: AddonManager, name: str) -> list[list[Function]]:
    """The functions of one hook, a list for each top-level addon that has any."""
    turns = []
    for top in manager.chain:
        functions = [getattr(addon, name, None) for addon in _family(top)]
        turn = [f for f in functions if f and not isinstance(f, types.ModuleType)]
        if turn:
            turns.append(turn)
    return turns


def _family(addon: object) -> list[object]:
    """The addon and its nested addons, in mitmproxy's order."""
    family = [addon]
    for child in getattr(addon, "addons", None) or ():
        family += _family(child)
    return family


def _clear_after(manager: AddonManager, name: str, table: dict[str, list[list[Function]]]) -> None:
    original = getattr(manager, name)

    def changed(*args: object) -> object:
        table.clear()
        try:
            return original(*args)
        finally:
            table.clear()

    setattr(manager, name, changed)


def _current(option: optmanager._Option) -> object:
    """The option's value; only what could be changed in place is copied."""
    value = option._default if option.value is optmanager.unset else option.value  # noqa: SLF001 - as above
    return value if value is None or isinstance(value, str | int | float) else copy.deepcopy(value)


def _new(kind: type[commands.StartHook], *_args: object, **_kwargs: object) -> commands.StartHook:
    return object.__new__(kind)


def _name_task(task: asyncio.Task[object], *, name: str, client: tuple[object, ...] | None = None) -> None:
    """Names a task for who asks what is running; most that run a hook have ended before they come here."""
    if not task.done():
        _set_task_debug_info(task, name=name, client=client)


async def _handle_hook(handler: ProxyConnectionHandler, hook: commands.StartHook) -> None:
    """One hook of a connection, which waits where an addon holds its flow."""
    with handler.timeout_watchdog.disarm():
        (data,) = hook.args()
        await handler.master.addons.handle_lifecycle(hook)
        if getattr(data, "intercepted", False) and isinstance(data, Flow):
            await data.wait_for_resume()


def _args(hook: hooks.Hook) -> list[object]:
    """The hook's fields, in order."""
    return [getattr(hook, name) for name in _names(type(hook))]  # type: ignore[arg-type] # mitmproxy changes `__hash__`


@functools.cache
def _names(kind: type[hooks.Hook]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]


def _disarm(watchdog: TimeoutWatchdog) -> "_Disarmed":
    return _Disarmed(watchdog)


class _Disarmed:
    """`TimeoutWatchdog.disarm()`: while any is entered, the connection cannot time out."""

    def __init__(self, watchdog: TimeoutWatchdog) -> None:
        self._watchdog = watchdog

    def __enter__(self) -> None:
        self._watchdog.can_timeout.clear()
        self._watchdog.blocker += 1

    def __exit__(self, *_error: object) -> None:
        self._watchdog.blocker -= 1
        if self._watchdog.blocker == 0:
            self._watchdog.register_activity()
            self._watchdog.can_timeout.set()


def _map_where_asked(addon: MapLocal, flow: http.HTTPFlow) -> None:
    if addon.replacements:
        _map_local(addon, flow)
