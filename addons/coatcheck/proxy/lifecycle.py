"""The life of the process: start up whole, run, shut down in order.

Law: the gateway is whole or it does not start. A start-up problem is `error: …` and `hint: …` on standard error and
exit 1; being unloaded while running ends the process with 70 (EX_SOFTWARE), since mitmproxy would go on without it.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader

from coatcheck import __version__
from coatcheck.control.server import ControlPort
from coatcheck.errors import CoatcheckError
from coatcheck.exchange import Exchanges
from coatcheck.journal.records import lifecycle_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live, utc_now
from coatcheck.proxy import console, dispatch, lockdown, messages, one_write
from coatcheck.proxy.authority import check_authority
from coatcheck.proxy.fail_closed import FailClosed
from coatcheck.proxy.forget_ended import ForgetEnded
from coatcheck.proxy.hold import HoldCall
from coatcheck.proxy.keep_pins import KeepPins
from coatcheck.proxy.self_test import self_test
from coatcheck.sessions.recorder import SessionRecorder
from coatcheck.settings import OPTIONS, Settings, read_settings
from coatcheck.watch import PolicyWatch

logger = logging.getLogger("coatcheck")

DRAIN_SECONDS = 5.0
SWITCH_SECONDS = 0.001
"""How long a thread that works on a large body keeps the event loop waiting, each time that it wants to go on."""
MOST_OPEN_FILES = 65536
OBSERVING = "observing only: NOTHING IS DENIED OR HELD but for its token; what would have been is in the journal"


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a built gateway has to be started, waited for or closed. `works` run side by side for its life."""

    settings: Settings
    live: Live
    watch: PolicyWatch
    journal: JournalWriter
    recorder: SessionRecorder
    exchanges: Exchanges
    hold: HoldCall
    keep_pins: KeepPins
    control: ControlPort
    stages: FailClosed
    works: Sequence[Callable[[], Coroutine[Any, Any, None]]]


class Gateway:
    """The one addon that mitmproxy is given. `build` makes every part of it, or raises `CoatcheckError`."""

    name = "coatcheck"

    def __init__(self, build: Callable[[Settings], Parts]) -> None:
        self._build = build
        self._parts: Parts | None = None
        self._locked: Mapping[str, object] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self, loader: Loader) -> None:
        """Adds the `coatcheck_…` options."""
        for option in OPTIONS:
            loader.add_option(option.key, str, "", f"{option.help} ({option.variable})")

    def configure(self, updated: set[str]) -> None:
        """First: start up, or exit. Later: veto."""
        if self._locked:
            lockdown.veto(ctx.options, updated, self._locked)
        elif self._parts is None:
            try:
                self._start_up()
            except CoatcheckError as error:
                _refuse_start(error)

    def _start_up(self) -> None:
        scripts = ctx.master.addons.get("scriptloader").addons
        lockdown.check_scripts(self, scripts)
        if len(scripts) == 1:  # the options of later scripts are not declared yet; `running` looks then
            lockdown.check_unknown(ctx.options)
        lockdown.check_environment(os.environ)
        _forbid_core_dumps()
        given = {option.name: getattr(ctx.options, option.key) for option in OPTIONS}
        settings = read_settings(given, os.environ)
        given_names = lockdown.given_names(sys.argv[1:], lockdown.config_texts(ctx.options.confdir))
        lockdown.check_given(ctx.options, given_names)
        settings.state.check()
        check_authority(settings.state.ca, now=utc_now())
        self._parts = parts = self._build(settings)
        parts.journal.start()  # before anything is written: another gateway may be at work on this state
        lockdown.force(ctx.options, lockdown.computed(ctx.options, settings, parts.live.policy.servers))
        parts.recorder.start()
        dispatch.install(ctx.master.addons)
        messages.install()
        one_write.install()
        self_test(parts.exchanges, ctx.options)  # of what will run: after everything that changes mitmproxy
        # the hooks become this addon's own: mitmproxy cannot unload it without asking `done`
        vars(self).update(parts.stages.hooks)
        sys.setswitchinterval(SWITCH_SECONDS)
        _allow_open_files()
        self._locked = lockdown.snapshot(ctx.options)

    async def running(self) -> None:
        """The proxy listens: journal the start, open the control port, begin to watch."""
        if self._parts is None:
            return
        parts = self._parts
        await _end_error_check()
        if not os.isatty(0):  # at a terminal SIGHUP says that it is gone; taken before anybody is told of readiness
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.watch.look_now)
        try:
            lockdown.check_unknown(ctx.options)
            await parts.journal.append(
                "lifecycle",
                lifecycle_record(event="started", version=__version__, policy=parts.live.policy.sha256),
            )
            await _listen(parts)
        except CoatcheckError as error:
            _refuse_start(error)
        if app := getattr(ctx.master, "app", None):
            console.lock(app, ctx.options.web_host)
        view = getattr(ctx.master, "view", None)  # mitmweb's
        forgetting = () if view is None else (ForgetEnded(view, parts.settings.web_flows).run,)
        for work in (*parts.works, *forgetting):
            task = asyncio.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for script in ctx.options.scripts[1:]:
            logger.warning("also loaded: %s: code in the gateway's process, trusted like it", script)
        gc.freeze()  # what was made until now stays: to look through it again and again would hold the event loop
        if parts.live.observes:
            logger.warning("%s", OBSERVING)
        logger.info("coatcheck %s is ready, policy %s", __version__, parts.live.policy.sha256[:12])

    def done(self) -> Awaitable[None] | None:
        """Orderly shutdown, or the end of a process that somebody took the gateway out of."""
        if not ctx.master.should_exit.is_set():
            _end(70, ["error: the gateway was unloaded; the process ends with it"])
        return self._shut_down(self._parts) if self._parts is not None else None

    async def _shut_down(self, parts: Parts) -> None:
        parts.live.is_draining = True
        await ctx.master.addons.get("proxyserver").servers.update([])  # stops listening; connections go on
        parts.hold.let_all_go()
        deadline = time.monotonic() + DRAIN_SECONDS
        # flows end in several places, and none of them knows of the end
        while _in_flight(parts) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        parts.control.close()
        parts.recorder.close()
        with suppress(CoatcheckError):
            await parts.keep_pins.write()
        parts.journal.append_later(
            "lifecycle", lifecycle_record(event="stopped", version=__version__, policy=parts.live.policy.sha256)
        )
        parts.journal.close()


async def _end_error_check() -> None:
    """Ends mitmproxy's check for errors at its start-up before anybody can connect: it ends the process for an error
    that is logged until all addons are running, also for one that is somebody's who came early.
    """
    check = ctx.master.addons.get("errorcheck")
    if check is not None:
        await check.shutdown_if_errored()
        check.finish()


async def _listen(parts: Parts) -> None:
    """Opens the control port, then the proxy's: mitmproxy chose its listeners before this script had set them."""
    parts.control.listen(*parts.settings.control)
    if not await ctx.master.addons.get("proxyserver").setup_servers():
        hint = "the lines above say why; --listen-host, --listen-port and coatcheck_reverse choose addresses"
        raise CoatcheckError("cannot listen", where="proxy", hint=hint)


def _in_flight(parts: Parts) -> bool:
    return not parts.hold.is_empty or any(
        exchange.release is not None and not exchange.finished for exchange in list(parts.exchanges.values())
    )


def _allow_open_files() -> None:
    """As many as the system lets this process have: a call takes two, and the usual limit is for interactive use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _forbid_core_dumps() -> None:
    """What a crash leaves on disk would hold the master key, secrets and tokens; the system's own switch for it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refuse_start(error: CoatcheckError) -> None:
    _end(1, error.lines())


def _end(code: int, lines: Sequence[str]) -> None:
    """Ends the process at once: nothing that mitmproxy would still do may happen without the gateway."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
    os._exit(code)
