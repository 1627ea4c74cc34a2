"""What is watched while the gateway runs: the vault, the sinks, and the policy's files.

Law: a changed policy is taken whole, after its record is on disk, or not at all; while what lies there cannot be
taken, the policy in force goes on and `/readyz` says why.
Law: policy and verifier are replaced together, without giving the event loop away in between.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coatcheck import __version__
from coatcheck.control.metrics import Metrics
from coatcheck.errors import CoatcheckError, JournalError, PolicyError, Problem
from coatcheck.identity.keys import KeySource
from coatcheck.identity.verify import Verifier
from coatcheck.journal.records import LifecycleEvent, lifecycle_record
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live
from coatcheck.mcp.call import Json
from coatcheck.policy.fingerprint import Fingerprint, files_read, fingerprint, links_in
from coatcheck.policy.index import index_of
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.sessions.recorder import SessionRecorder
from coatcheck.settings import Settings
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.snapshot import Snapshot
from coatcheck.vault.store import Vault

logger = logging.getLogger("coatcheck")

VAULT_POLL_SECONDS = 2.0
IDLE_POLL_SECONDS = 5.0
POLICY_POLL_SECONDS = 1.0
REFUSED_LOOKS = 5
"""Looks until a refused policy that did not change is tried again: what it lacks may lie elsewhere."""
PROBLEMS_TOLD = 20
"""Problems of a refused policy in one record of the journal; the log has them all."""

PART = "policy"
"""The key in `Live.problems`."""


async def watch_vault(live: Live, vault: Vault, scrubbers: ScrubberCache) -> None:
    """Takes over changes of the vault within a few seconds.

    While it cannot be read, what was read last goes on, and `Live.problems` says so.
    """
    while True:
        await asyncio.sleep(VAULT_POLL_SECONDS)
        try:
            if await asyncio.to_thread(vault.generation) != live.snapshot.generation:
                snapshot = await asyncio.to_thread(vault.snapshot)
                ready = await asyncio.to_thread(ScrubberCache.ready_for, snapshot, tuple(live.policy.servers))
                live.snapshot = snapshot
                scrubbers.replace(ready)  # the old ones hold values in clear
            live.problems.pop("vault", None)
        except Exception as error:  # noqa: BLE001 - whatever fails must not end the watching
            if "vault" not in live.problems:
                what = str(error) if isinstance(error, CoatcheckError) else type(error).__name__  # others may quote
                logger.error("the vault cannot be read, what it held goes on: %s", what)  # noqa: TRY400 - as above
            live.problems["vault"] = "cannot be read; what it held before goes on"


async def watch_idle(live: Live, journal: JournalWriter, recorder: SessionRecorder, metrics: Metrics) -> None:
    """Closes idle sessions, measures the loop's lag, keeps readiness true to the sinks, journals lost recordings."""
    told = 0
    while True:
        began = time.monotonic()
        await asyncio.sleep(IDLE_POLL_SECONDS)
        metrics.loop_lag.set(max(0.0, time.monotonic() - began - IDLE_POLL_SECONDS))
        recorder.close_idle()
        for part, is_healthy in (("journal", journal.healthy), ("sessions", recorder.healthy)):
            if is_healthy:
                live.problems.pop(part, None)
            else:
                live.problems[part] = "cannot be written"
        if (lost := recorder.lost) > told:
            details: dict[str, Json] = {"lost": lost - told, "in_all": lost}
            record = lifecycle_record(
                event="recording-lost", version=__version__, policy=live.policy.sha256, details=details
            )
            journal.append_later("lifecycle", record)
            told = lost


@dataclass(frozen=True, slots=True)
class _Draft:
    """What lies at the policy's path: loaded, or the problems that keep it from being."""

    policy: Policy | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class PolicyWatch:
    """Takes over changes of the policy's files.

    `check` raises `CoatcheckError` for a policy that only a restart can bring into force; `changed` is told the old
    and the new policy right after a change.
    """

    settings: Settings
    live: Live
    keys: KeySource
    journal: JournalWriter
    check: Callable[[Policy], None]
    changed: Callable[[Policy, Policy], None]
    _links: frozenset[Path] = field(init=False)
    _loaded: Fingerprint | None = None
    _last: Fingerprint | None = None
    _told: tuple[Problem, ...] = ()
    _refused: tuple[Fingerprint, Snapshot] | None = None
    _looks: int = 0
    """Since what is `_refused` was tried."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _is_asked: bool = False
    _warming: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._links = links_in(self.settings.policy)

    def look_now(self) -> None:
        """Reads the policy at the next look, changed or not; called on SIGHUP."""
        self._is_asked = True
        self._wake.set()

    async def run(self) -> None:
        """Runs for the gateway's life."""
        while True:
            try:
                await self.look()
            except JournalError as error:
                self.live.problems[PART] = "a change cannot be written to the journal, so it is not taken"
                logger.warning("policy: %s", error)
            except Exception as error:  # noqa: BLE001 - a fault in loading must not end the watching
                self.live.problems[PART] = "the policy's files cannot be looked at"
                logger.error("policy: looking at its files failed: %s", type(error).__name__)  # noqa: TRY400 - may quote
            self._wake.clear()
            try:
                async with asyncio.timeout(POLICY_POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """One look at the files. What differs from the last look is left alone: it may be half-written.

        Raises `JournalError` where the change cannot be journaled; then it is not taken.
        """
        now = await asyncio.to_thread(fingerprint, self.settings.policy, files_read(self.live.policy))
        is_settled, self._last = now == self._last, now
        if not is_settled or self.live.is_draining:
            return
        if now == self._loaded and PART not in self.live.problems and not self._is_asked:
            return
        if self._was_just_refused(now) and not self._is_asked:
            return
        draft = await asyncio.to_thread(self._load)
        if await asyncio.to_thread(fingerprint, self.settings.policy, files_read(self.live.policy)) != now:
            return  # it changed while it was read
        self._is_asked = False
        if draft.policy is None:
            self._refused, self._looks = (now, self.live.snapshot), 0
            await self._refuse(draft)
        else:
            self._refused = None
            watched = files_read(self.live.policy)
            await self._take(draft.policy)
            # files that this policy is the first to name are looked at once more
            self._loaded = now if files_read(draft.policy) == watched else None

    def _was_just_refused(self, now: Fingerprint) -> bool:
        """Whether the same files were refused with the same secrets, a few looks ago: to read them costs its time."""
        if self._refused is None or self._refused[0] != now or self._refused[1] is not self.live.snapshot:
            return False
        self._looks += 1
        return self._looks < REFUSED_LOOKS

    def _load(self) -> _Draft:
        """In a thread: the files as a policy, ready to decide by."""
        try:
            for part in sorted(map(str, links_in(self.settings.policy) - self._links)):
                hint = "put a folder or file back in its place, or restart the gateway to follow the link"
                raise PolicyError("was replaced by a symbolic link", where=part, hint=hint)
            policy = load_policy(
                self.settings.policy, secrets=self.live.snapshot.names(), sha256=self.settings.policy_sha256
            )
            self.check(policy)
            index_of(policy)
        except CoatcheckError as error:
            return _Draft(problems=tuple(error.problems))
        return _Draft(policy)

    async def _take(self, policy: Policy) -> None:
        live, old = self.live, self.live.policy
        if policy.sha256 != old.sha256 or policy.files != old.files:
            verifier = Verifier(policy.issuers, policy.audience, self.keys)
            await self._journal("policy-loaded", policy.sha256, {"old": old.sha256, "new": policy.sha256})
            live.policy, live.verifier = policy, verifier
            self.changed(old, policy)
            added = [spec for name, spec in policy.issuers.items() if old.issuers.get(name) != spec]
            task = asyncio.create_task(self.keys.warm(added))
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)
            logger.warning("policy %s is in force now, in place of %s", policy.sha256[:12], old.sha256[:12])
        elif PART in live.problems:
            await self._journal("policy-loaded", policy.sha256, {"old": old.sha256, "new": policy.sha256})
            logger.warning("policy %s is what its files say again", old.sha256[:12])
        live.problems.pop(PART, None)
        self._told = ()

    async def _refuse(self, draft: _Draft) -> None:
        count, first = len(draft.problems), draft.problems[0]
        more = f", and {count - 1} more" if count > 1 else ""
        self.live.problems[PART] = f"what lies there is refused, an older one is in force: {first}{more}"
        if draft.problems == self._told:
            return
        details: dict[str, Json] = {
            "old": self.live.policy.sha256,
            "problems": [str(problem) for problem in draft.problems[:PROBLEMS_TOLD]],
        }
        logger.error("the changed policy is refused; %s stays in force", self.live.policy.sha256[:12])
        for line in CoatcheckError(list(draft.problems)).lines():
            logger.error("%s", line)
        await self._journal("policy-refused", self.live.policy.sha256, details)
        self._told = draft.problems

    async def _journal(self, event: LifecycleEvent, sha256: str, details: Mapping[str, Json]) -> None:
        record = lifecycle_record(event=event, version=__version__, policy=sha256, details=details)
        await self.journal.append("lifecycle", record)
