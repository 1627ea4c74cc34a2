"""The composition root: everything is made here, and the order of the stages is this file's."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Literal
from weakref import WeakKeyDictionary

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
from coatcheck.journal.records import token_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live, utc_now
from coatcheck.pins.books import Books
from coatcheck.pins.store import PinStore
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.proxy import console, lockdown, read_answer
from coatcheck.proxy.authorize import Authorize
from coatcheck.proxy.close_after import CloseAfter
from coatcheck.proxy.cut_changed import CutChanged
from coatcheck.proxy.cut_denied import CutDenied
from coatcheck.proxy.cut_revoked import CutRevoked
from coatcheck.proxy.decode_body import DecodeBody
from coatcheck.proxy.discover import Discover
from coatcheck.proxy.fail_closed import FailClosed
from coatcheck.proxy.flow_file import export_closed
from coatcheck.proxy.guard import Guard
from coatcheck.proxy.hang_up import HangUp, handler_of, handlers
from coatcheck.proxy.hold import HoldCall
from coatcheck.proxy.identify import Identify
from coatcheck.proxy.inspect import Inspect
from coatcheck.proxy.journal_request import JournalRequest
from coatcheck.proxy.journaled import JournaledApprovals
from coatcheck.proxy.keep_back import KeepBack
from coatcheck.proxy.keep_pins import KeepPins
from coatcheck.proxy.legacy_sse import LegacySse
from coatcheck.proxy.lifecycle import Gateway, Parts
from coatcheck.proxy.limit import Limit
from coatcheck.proxy.limit_rate import LimitRate
from coatcheck.proxy.mask import Mask
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.open_tunnel import OpenTunnel
from coatcheck.proxy.pin import Pin
from coatcheck.proxy.read_body import ReadBody
from coatcheck.proxy.read_head import ReadHead
from coatcheck.proxy.read_slowly import ReadSlowly
from coatcheck.proxy.record import Record
from coatcheck.proxy.relay import Relay
from coatcheck.proxy.release import ReleaseRequest
from coatcheck.proxy.wire import WireGate
from coatcheck.sessions.recorder import SessionRecorder
from coatcheck.settings import Settings
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.snapshot import Snapshot
from coatcheck.vault.store import Vault
from coatcheck.watch import PolicyWatch, watch_idle, watch_vault


def build(settings: Settings) -> Parts:
    """Opens the state and makes every part. Raises `CoatcheckError`; nothing listens yet."""
    engine = settings.state.open_database()
    key, _ = find_master_key(settings.state, os.environ)
    vault = Vault.open(engine, key)
    snapshot = vault.snapshot()
    policy = _load_policy(settings, snapshot)
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
    journaled = JournaledApprovals(approvals, journal)
    hold = HoldCall(live, exchanges, journaled, maskers, metrics, console.show, sessions, relay, limit_rate.count)
    dialling: Dialling = WeakKeyDictionary()
    scrubbers = ScrubberCache.ready_for(snapshot, policy.servers)
    WireGate(exchanges, scrubbers, dialling).install()
    books = Books((pin_store := PinStore(engine)).load())
    keep_pins = KeepPins(live, books, pin_store, journaled, journal, maskers, metrics)
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
        DecodeBody(exchanges),
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
        ReadSlowly(exchanges, tunnels, handler_of),
        cut_denied,
        record,
        ReleaseRequest(exchanges),
        CloseAfter(exchanges),
    ]
    cut_revoked = CutRevoked(live, exchanges, tunnels, sessions, hang_up.cut)
    used, issued = UsedTokens(engine), _note("issued", journal)
    tokens = TokenExchange(live, sessions, used, issued, record.refused_token, verify_assertion)
    control = ControlPort(live, approvals, metrics, hold.vote, tokens.routes())

    def changed(old: Policy, new: Policy) -> None:
        """What was remembered goes with the policy it was remembered under."""
        sessions.forget()
        identify.forget()
        cut_changed.run(old, new)
        cut_denied.run()

    watch = PolicyWatch(settings, live, keys, journal, lockdown.same_gateway_urls(settings, policy), changed)
    works = (
        hold.watch,
        keep_pins.watch,
        lambda: sessions.watch(live.problems, _note("revoked", journal), cut_revoked.run),
        lambda: watch_vault(live, vault, scrubbers),
        lambda: watch_idle(live, journal, recorder, metrics),
        watch.run,
        lambda: keys.warm(live.policy.issuers.values()),  # before the first token comes
    )
    return Parts(
        settings, live, watch, journal, recorder, exchanges, hold, keep_pins, control,
        FailClosed(stages, exchanges, hang_up.cut), works,
    )  # fmt: skip


def gateway() -> Gateway:
    """The addon for `addons/gateway.py`."""
    return Gateway(build)


def _load_policy(settings: Settings, snapshot: Snapshot) -> Policy:
    policy = load_policy(settings.policy, secrets=snapshot.names(), sha256=settings.policy_sha256)
    for entry in settings.reverse:
        if entry.server not in policy.servers:
            raise CoatcheckError(f"no server {entry.server!r} in the policy", where="coatcheck_reverse")
    return policy


def _note(event: Literal["issued", "revoked"], journal: JournalWriter) -> Callable[[IssuedToken], Awaitable[None]]:
    """Journals what became of a session token."""

    async def note(token: IssuedToken) -> None:
        await journal.append("token", token_record(event=event, token=token))

    return note
