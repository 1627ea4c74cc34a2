"""The composition root: everything is made here, and the order of the stages is this file's.

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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from mitmproxy import ctx, hooks, http
from mitmproxy.addonmanager import Loader

from coatcheck import __version__
from coatcheck.approvals.store import ApprovalStore
from coatcheck.control.metrics import Metrics
from coatcheck.control.server import ControlPort
from coatcheck.control.tokens import TokenExchange
from coatcheck.errors import CoatcheckError
from coatcheck.exchange import Dialling, Exchanges, Tunnels
from coatcheck.identity.keys import KeySource
from coatcheck.identity.one_time import UsedTokens
from coatcheck.identity.saml import verify_assertion
from coatcheck.identity.session_store import IssuedToken, SessionStore
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.verify import Verifier
from coatcheck.journal.records import lifecycle_record, token_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live, utc_now
from coatcheck.pins.books import Books
from coatcheck.pins.store import PinStore
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.proxy import console, dispatch, lockdown, messages, one_write, read_answer
from coatcheck.proxy.authority import check_authority
from coatcheck.proxy.authorize import Authorize
from coatcheck.proxy.close_after import CloseAfter
from coatcheck.proxy.cut_changed import CutChanged
from coatcheck.proxy.cut_denied import CutDenied
from coatcheck.proxy.cut_revoked import CutRevoked
from coatcheck.proxy.discover import Discover
from coatcheck.proxy.fail_closed import FailClosed
from coatcheck.proxy.flow_file import export_closed
from coatcheck.proxy.forget_ended import ForgetEnded
from coatcheck.proxy.guard import Guard
from coatcheck.proxy.hang_up import HangUp, handler_of, handlers
from coatcheck.proxy.hold import HoldCall
from coatcheck.proxy.identify import Identify
from coatcheck.proxy.inspect import Inspect
from coatcheck.proxy.journal_request import JournalRequest
from coatcheck.proxy.keep_back import KeepBack
from coatcheck.proxy.keep_pins import KeepPins
from coatcheck.proxy.legacy_sse import LegacySse
from coatcheck.proxy.limit import Limit
from coatcheck.proxy.limit_rate import LimitRate
from coatcheck.proxy.mask import Mask, Maskers
from coatcheck.proxy.open_tunnel import OpenTunnel
from coatcheck.proxy.pin import Pin
from coatcheck.proxy.read_body import ReadBody
from coatcheck.proxy.read_head import ReadHead
from coatcheck.proxy.record import Record
from coatcheck.proxy.relay import Relay
from coatcheck.proxy.release import ReleaseRequest
from coatcheck.proxy.self_test import self_test
from coatcheck.proxy.wire import WireGate
from coatcheck.sessions.recorder import SessionRecorder
from coatcheck.settings import OPTIONS, Settings, read_settings
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.store import Vault
from coatcheck.watch import PolicyWatch, watch_idle, watch_vault

logger = logging.getLogger("coatcheck")

DRAIN_SECONDS = 5.0
SWITCH_SECONDS = 0.001
"""How long a thread that works on a large body keeps the event loop waiting, each time that it wants to go on."""
MOST_OPEN_FILES = 65536
OBSERVING = "observing only: NOTHING IS DENIED OR HELD but for its token; what would have been is in the journal"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the gateway is made of, in the order it was made."""

    settings: Settings
    vault: Vault
    keys: KeySource
    live: Live
    sessions: SessionTokens
    cut_revoked: CutRevoked
    watch: PolicyWatch
    journal: JournalWriter
    recorder: SessionRecorder
    approvals: ApprovalStore
    metrics: Metrics
    exchanges: Exchanges
    scrubbers: ScrubberCache
    hold: HoldCall
    keep_pins: KeepPins
    control: ControlPort
    stages: FailClosed


def build(settings: Settings) -> Parts:
    """Opens the state and makes every part. Raises `CoatcheckError`; nothing listens yet."""
    engine = settings.state.open_database()
    key, _ = find_master_key(settings.state, os.environ)
    vault = Vault.open(engine, key)
    snapshot = vault.snapshot()
    policy = load_policy(settings.policy, secrets=snapshot.names(), sha256=settings.policy_sha256)
    for entry in settings.reverse:
        if entry.server not in policy.servers:
            raise CoatcheckError(f"no server {entry.server!r} in the policy", where="coatcheck_reverse")
    keys = KeySource()
    live = Live(policy, Verifier(policy.issuers, policy.audience, keys), snapshot, settings.observe)
    sessions = SessionTokens(SessionStore(engine), Sealer(key.derive("session-tokens")), vault.id)
    exchanges: Exchanges = WeakKeyDictionary()
    tunnels: Tunnels = WeakKeyDictionary()
    metrics = Metrics()
    maskers = Maskers(key.derive("mask"))
    journal = JournalWriter(
        settings.state.journal, clock=utc_now, marks={"enforced": False} if settings.observe else {}
    )
    recorder = SessionRecorder(settings.state.sessions, clock=utc_now, on_closed=export_closed)
    approvals = ApprovalStore(engine)
    relay, limit_rate = Relay(utc_now), LimitRate(exchanges, time.monotonic)
    hold = HoldCall(live, exchanges, approvals, journal, maskers, metrics, _show, sessions, relay, limit_rate.count)
    dialling: Dialling = WeakKeyDictionary()
    scrubbers = ScrubberCache()
    WireGate(exchanges, scrubbers, dialling).install()
    pin_store = PinStore(engine)
    books = Books(pin_store.load())
    keep_pins = KeepPins(live, books, pin_store, approvals, journal, maskers, metrics)
    hang_up = HangUp(handler_of)
    legacy_sse = LegacySse(exchanges, relay.streams, maskers, handler_of, hang_up.cut)
    mask = Mask(exchanges, maskers, utc_now, relay, books, legacy_sse.begin)
    pin = Pin(exchanges, books)
    record = Record(exchanges, journal, recorder, maskers, metrics)
    relay.on_denied = record.refused_ask
    # The way of one request. Each stage implements the hooks it needs; every hook runs them in this order.
    read_head = ReadHead(hang_up.cut, record.refused_head)
    read_head.install()
    ReadBody(record.refused_head).install()
    read_answer.install()
    identify = Identify(live, exchanges, tunnels, sessions)
    cut_changed, cut_denied = CutChanged(handlers, hang_up.cut), CutDenied(live, exchanges, tunnels, hang_up.cut)
    stages = [
        hang_up,
        read_head,
        Guard(live, exchanges, tunnels, dialling, settings.reverse, relay.streams),
        Discover(exchanges),
        identify,
        Limit(exchanges),
        OpenTunnel(exchanges, tunnels, journal),
        KeepBack(exchanges),
        Inspect(exchanges, relay),
        Authorize(exchanges),
        pin,
        limit_rate,
        hold,
        pin,  # again: a tool may have changed while its call was held
        JournalRequest(live, exchanges, journal, scrubbers),
        legacy_sse,
        mask,
        cut_denied,
        record,
        ReleaseRequest(exchanges),
        CloseAfter(exchanges),
    ]
    cut_revoked = CutRevoked(live, exchanges, tunnels, sessions, hang_up.cut)
    used, note = UsedTokens(engine), _note("issued", journal)
    exchange = TokenExchange(live, sessions, used, note, record.refused_token, verify_assertion)
    control = ControlPort(live, approvals, metrics, hold.vote, exchange.routes())

    def changed(old: Policy, new: Policy) -> None:
        """What was remembered goes with the policy it was remembered under."""
        sessions.forget()
        identify.forget()
        cut_changed.run(old, new)
        cut_denied.run()

    watch = PolicyWatch(settings, live, keys, journal, lockdown.same_gateway_urls(settings, policy), changed)
    return Parts(
        settings, vault, keys, live, sessions, cut_revoked, watch, journal, recorder, approvals, metrics, exchanges,
        scrubbers, hold, keep_pins, control, FailClosed(stages, exchanges),
    )  # fmt: skip


class Gateway:
    """The one addon that `addons/gateway.py` gives to mitmproxy."""

    name = "coatcheck"

    def __init__(self) -> None:
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
        given = {option.name: getattr(ctx.options, option.key) for option in OPTIONS}
        settings = read_settings(given, os.environ)
        given_names = lockdown.given_names(sys.argv[1:], lockdown.config_texts(ctx.options.confdir))
        lockdown.check_given(ctx.options, given_names)
        settings.state.check()
        check_authority(settings.state.ca, now=utc_now())
        self._parts = parts = build(settings)
        lockdown.force(ctx.options, lockdown.computed(ctx.options, settings, parts.live.policy.servers))
        parts.journal.start()
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
        note = _note("revoked", parts.journal)
        watch_sessions = parts.sessions.watch(parts.live.problems, note, parts.cut_revoked.run)
        watches = (
            parts.hold.watch(),
            parts.keep_pins.watch(),
            watch_sessions,
            watch_vault(parts.live, parts.vault, parts.scrubbers),
            watch_idle(parts.live, parts.journal, parts.recorder, parts.metrics),
            parts.watch.run(),
        )
        view = getattr(ctx.master, "view", None)  # mitmweb's
        forgetting = () if view is None else (ForgetEnded(view, parts.settings.web_flows).run(),)
        for work in (*watches, *forgetting, self._warm(parts)):
            task = asyncio.create_task(work)
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

    @staticmethod
    async def _warm(parts: Parts) -> None:
        """Fetches the issuers' keys before the first token comes."""
        await parts.keys.warm(parts.live.policy.issuers.values())


def gateway() -> Gateway:
    """The addon for `addons/gateway.py`."""
    return Gateway()


async def _listen(parts: Parts) -> None:
    """Opens the control port, then the proxy's: mitmproxy chose its listeners before this script had set them."""
    parts.control.listen(*parts.settings.control)
    if not await ctx.master.addons.get("proxyserver").setup_servers():
        hint = "the lines above say why; --listen-host, --listen-port and coatcheck_reverse choose addresses"
        raise CoatcheckError("cannot listen", where="proxy", hint=hint)


def _note(event: Literal["issued", "revoked"], journal: JournalWriter) -> Callable[[IssuedToken], Awaitable[None]]:
    """Journals what became of a session token."""

    async def note(token: IssuedToken) -> None:
        await journal.append("token", token_record(event=event, token=token))

    return note


def _in_flight(parts: Parts) -> bool:
    return not parts.hold.is_empty or any(
        exchange.release is not None and not exchange.finished for exchange in list(parts.exchanges.values())
    )


def _show(flow: http.HTTPFlow) -> None:
    """Tells mitmweb that a flow changed."""
    ctx.master.addons.trigger(hooks.UpdateHook([flow]))


def _allow_open_files() -> None:
    """As many as the system lets this process have: a call takes two, and the usual limit is for interactive use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _refuse_start(error: CoatcheckError) -> None:
    _end(1, error.lines())


def _end(code: int, lines: Sequence[str]) -> None:
    """Ends the process at once: nothing that mitmproxy would still do may happen without the gateway."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
    os._exit(code)
