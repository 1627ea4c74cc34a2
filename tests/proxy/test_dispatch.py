"""Hooks by table run as mitmproxy's own dispatch runs them: the same addons, in the same order, with the same end."""

import asyncio
import types
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import exceptions, hooks, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.proxy.server import TimeoutWatchdog
from mitmproxy.test import tflow

from coatcheck.proxy import dispatch

KINDS = {
    "nothing": None,
    "none": "attribute None",
    "module": "a module of the same name",
    "number": "a value that is no function",
    "zero": "a value that is false",
    "sync": "returns None",
    "value": "returns a value that cannot be awaited",
    "async": "a coroutine function",
    "late": "returns an awaitable that ends later",
    "raise": ValueError,
    "async raise": ValueError,
    "halt": exceptions.AddonHalt,
    "async halt": exceptions.AddonHalt,
    "options error": exceptions.OptionsError,
    "cancel": asyncio.CancelledError,
}


class Addon:
    """An addon whose `request` hook is of one kind; what runs is written into `ran`."""

    def __init__(self, name: str, kind: str, ran: list[str], children: Sequence["Addon"] = ()) -> None:
        self.name = name
        if children:
            self.addons = list(children)
        hook = self._hook(kind, ran)
        if kind != "nothing":
            self.request = hook

    def _hook(self, kind: str, ran: list[str]) -> object:
        plain = {"none": None, "module": types, "number": 7, "zero": 0}
        if kind in plain:
            return plain[kind]
        asynchronous, error = kind.startswith(("async", "late")), KINDS[kind.removeprefix("async ")]

        def end(flow: http.HTTPFlow) -> object:
            ran.append(f"{self.name}: {flow.request.method}")
            if isinstance(error, type):
                raise error("as asked")
            return 7 if kind == "value" else None

        async def end_later(flow: http.HTTPFlow) -> None:
            if kind == "late":
                await asyncio.sleep(0)
            end(flow)

        return end_later if asynchronous else end


def _chains():
    kinds = st.sampled_from(list(KINDS))
    trees = st.recursive(
        st.tuples(kinds, st.just(())), lambda inner: st.tuples(kinds, st.lists(inner, max_size=3)), max_leaves=6
    )
    return st.lists(trees, max_size=4)


def build(manager: AddonManager, chain: Sequence[tuple], ran: list[str]) -> None:
    def make(tree: tuple, name: str) -> Addon:
        kind, children = tree
        return Addon(name, kind, ran, [make(child, f"{name}.{at}") for at, child in enumerate(children)])

    for at, tree in enumerate(chain):
        manager.add(make(tree, f"a{at}"))


async def outcome(manager: AddonManager, ran: list[str], caplog) -> tuple[list[str], str, list[str]]:
    """What ran, what it ended with, and what was logged."""
    caplog.clear()
    try:
        await manager.trigger_event(HttpRequestHook(tflow.tflow()))
        end = "done"
    except BaseException as error:
        end = type(error).__name__
    return list(ran), end, [f"{record.levelname} {record.name} {record.getMessage()}" for record in caplog.records]


def both(new_manager, chain, caplog) -> list[tuple]:
    """The outcome by mitmproxy's own dispatch, and by ours."""
    outcomes = []
    for install in (lambda _manager: None, dispatch.install):
        ran: list[str] = []
        manager = new_manager()
        build(manager, chain, ran)
        install(manager)
        outcomes.append(asyncio.run(outcome(manager, ran, caplog)))
    return outcomes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(chain=_chains())
def test_any_chain_runs_as_in_mitmproxy(new_manager, caplog, chain) -> None:
    theirs, ours = both(new_manager, chain, caplog)
    assert ours[:2] == theirs[:2]
    assert len(ours[2]) == len(theirs[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
def test_each_kind_of_hook_runs_as_in_mitmproxy(new_manager, caplog, kind, nested) -> None:
    middle = ("sync", [(kind, ()), ("sync", ())]) if nested else (kind, [("sync", ())])
    theirs, ours = both(new_manager, [("sync", ()), middle, ("sync", ())], caplog)
    assert ours[:2] == theirs[:2]
    assert len(ours[2]) == len(theirs[2])


def test_an_exception_is_logged_in_mitmproxys_words_and_ends_only_that_addons_turn(new_manager, caplog) -> None:
    chain = [("sync", ()), ("sync", [("raise", ()), ("sync", ())]), ("sync", ())]
    theirs, ours = both(new_manager, chain, caplog)
    assert ours == theirs
    assert ours[0] == ["a0: GET", "a1: GET", "a1.0: GET", "a2: GET"]
    assert ours[2] == ["ERROR mitmproxy.addonmanager Addon error: as asked"]


def test_addon_halt_ends_the_hook(new_manager, caplog) -> None:
    ran = both(new_manager, [("sync", ()), ("async halt", [("sync", ())]), ("sync", ())], caplog)[1][0]
    assert ran == ["a0: GET", "a1: GET"]


def test_the_hooks_that_run_are_those_of_the_addons_of_now(new_manager) -> None:
    manager, ran = new_manager(), []
    parent = Addon("parent", "sync", ran)
    parent.addons = []
    manager.add(Addon("first", "sync", ran), parent)
    dispatch.install(manager)
    trigger = lambda: asyncio.run(manager.trigger_event(HttpRequestHook(tflow.tflow())))  # noqa: E731

    def names() -> list[str]:
        ran.clear()
        trigger()
        return [line.partition(":")[0] for line in ran]

    assert names() == ["first", "parent"]
    last = Addon("last", "async", ran)
    manager.add(last)
    assert names() == ["first", "parent", "last"]
    child = Addon("child", "sync", ran)
    manager.register(child)
    parent.addons.append(child)
    assert names() == ["first", "parent", "child", "last"]
    manager.remove(child)
    parent.addons.remove(child)
    assert names() == ["first", "parent", "last"]
    manager.remove(manager.get("first"))
    assert names() == ["parent", "last"]
    manager.clear()
    assert names() == []


def test_a_change_that_fails_renews_the_table_too(new_manager) -> None:
    manager, ran = new_manager(), []
    manager.add(Addon("first", "sync", ran))
    dispatch.install(manager)
    asyncio.run(manager.trigger_event(HttpRequestHook(tflow.tflow())))
    manager.get("first").addons = [Addon("late", "sync", ran)]
    with pytest.raises(exceptions.AddonManagerError):
        manager.add(Addon("first", "sync", ran))
    asyncio.run(manager.trigger_event(HttpRequestHook(tflow.tflow())))
    assert ran == ["first: GET", "first: GET", "late: GET"]


def test_an_addon_that_is_added_within_a_hook_is_asked_the_next_time(new_manager) -> None:
    manager, ran = new_manager(), []

    class Adds:
        name = "adds"

        def request(self, _flow: http.HTTPFlow) -> None:
            if "late" not in manager:
                manager.add(Addon("late", "sync", ran))

    manager.add(Adds())
    dispatch.install(manager)
    asyncio.run(manager.trigger_event(HttpRequestHook(tflow.tflow())))
    ran.clear()
    asyncio.run(manager.trigger_event(HttpRequestHook(tflow.tflow())))
    assert ran == ["late: GET"]


def test_a_flows_hook_is_followed_by_its_update(new_manager) -> None:
    manager, seen = new_manager(), []

    class Watches:
        def request(self, flow: http.HTTPFlow) -> None:
            seen.append("request")

        def update(self, flows: Sequence[http.HTTPFlow]) -> None:
            seen.append(f"update of {len(flows)}")

    manager.add(Watches())
    dispatch.install(manager)
    asyncio.run(manager.handle_lifecycle(HttpRequestHook(tflow.tflow())))
    assert seen == ["request", "update of 1"]
    assert hooks.UpdateHook in hooks.all_hooks.values()


def test_options_are_as_they_were(new_manager) -> None:
    """What is left out is a copy, never a value."""
    manager = new_manager()
    before = {name: getattr(manager.master.options, name) for name in set(manager.master.options.keys())}
    dispatch.install(manager)
    assert {name: getattr(manager.master.options, name) for name in before} == before


def test_an_option_that_is_a_list_is_still_a_copy(new_manager) -> None:
    manager = new_manager()
    dispatch.install(manager)
    names = [
        name for name in set(manager.master.options.keys()) if isinstance(getattr(manager.master.options, name), list)
    ]
    assert names
    for name in names:
        getattr(manager.master.options, name).append("spoilt")
        assert "spoilt" not in getattr(manager.master.options, name)


def test_a_connection_cannot_time_out_while_a_hook_runs(new_manager) -> None:
    dispatch.install(new_manager())

    async def enter_twice() -> list[bool]:
        watchdog = TimeoutWatchdog(60, asyncio.Event().wait)
        seen = [watchdog.can_timeout.is_set()]
        with watchdog.disarm():
            with watchdog.disarm():
                seen.append(watchdog.can_timeout.is_set())
            seen.append(watchdog.can_timeout.is_set())
        return [*seen, watchdog.can_timeout.is_set()]

    assert asyncio.run(enter_twice()) == [True, False, False, True]


def test_events_of_one_connection_are_handled_one_at_a_time_in_the_order_they_came() -> None:
    """As under mitmproxy's lock: an event that comes of another one waits for it, a failing one stops none."""
    done: list[str] = []

    class Connection:
        pass

    connection, other = Connection(), Connection()
    more = {"a": ["b", "c"], "b": ["d"], "other": ["b"]}

    async def handle(of: Connection, event: str) -> None:
        done.append(f"{event} begins")
        for caused in more.get(event, ()):
            await server_event(of, caused)
        if event == "a":
            await server_event(other, "other")
        done.append(f"{event} ends")
        if event == "c":
            raise ValueError("as asked")

    server_event = dispatch.in_order(handle)  # type: ignore[arg-type]

    async def run() -> None:
        with pytest.raises(ValueError, match="as asked"):
            await server_event(connection, "a")  # type: ignore[arg-type]
        await server_event(connection, "e")  # type: ignore[arg-type]

    asyncio.run(run())
    turns = [line.split()[0] for line in done if line.endswith("begins")]
    assert turns == ["a", "other", "b", "d", "b", "c", "d", "e"]
    assert done[-2:] == ["e begins", "e ends"]
    assert done.index("a ends") < [at for at, line in enumerate(done) if line == "b begins"][1]
