"""What a request costs inside the pinned mitmproxy, cut down in three places.

Law: hooks: the same addons run in the same order with the same outcome as `AddonManager.trigger_event`: an exception
is logged and ends only that top-level addon's turn, `AddonHalt` ends the hook, nested addons follow their parent.
The table of hooks is made anew after every change of the addons. Should it ever be stale, the gate in `wire.py` still
lets nothing pass: what the table decides is speed.

mitmproxy enters a context manager and awaits a coroutine for each of some forty addons in each of some eight hooks
of a request (40 % of its time), checks the type of every field of every message it parsed itself (10 %), and copies
an option deeply whenever it reads it (5 %).
"""

import copy
import inspect
import logging
import types
from collections.abc import Callable

from mitmproxy import exceptions, hooks, optmanager
from mitmproxy.addonmanager import AddonManager
from mitmproxy.http import MessageData

logger = logging.getLogger("mitmproxy.addonmanager")

type Function = Callable[..., object]


def install(manager: AddonManager) -> None:
    """Replaces `trigger_event` of this manager, the field check of messages, and the copying of plain options."""
    table: dict[str, list[list[Function]]] = {}
    for change in ("register", "remove", "add", "clear"):
        _clear_after(manager, change, table)

    async def trigger_event(event: hooks.Hook) -> None:
        turns = table.get(event.name)
        if turns is None:
            turns = table[event.name] = _turns(manager, event.name)
        args = event.args()
        for turn in turns:
            try:
                for function in turn:
                    result = function(*args)
                    if result is not None and inspect.isawaitable(result):
                        await result
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as error:
                logger.exception("Addon error: %s", error)  # noqa: TRY401 - mitmproxy's own words

    manager.trigger_event = trigger_event  # type: ignore[method-assign]
    MessageData.__post_init__ = _no_check  # type: ignore[method-assign]
    optmanager._Option.current = _current  # type: ignore[method-assign,assignment] # noqa: SLF001 - no public way


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


def _no_check(_self: MessageData) -> None:
    """In place of a check for addons that make messages of the wrong types."""


def _current(option: optmanager._Option) -> object:
    """The option's value; only what could be changed in place is copied."""
    value = option._default if option.value is optmanager.unset else option.value  # noqa: SLF001 - as above
    return value if value is None or isinstance(value, str | int | float) else copy.deepcopy(value)
