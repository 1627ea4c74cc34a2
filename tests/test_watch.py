"""A changed policy is taken whole and written down first, or not at all."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from coatcheck.errors import CoatcheckError, JournalError
from coatcheck.identity.keys import KeySource
from coatcheck.identity.verify import Verifier
from coatcheck.journal.read import records
from coatcheck.journal.writer import JournalWriter
from coatcheck.live import Live
from coatcheck.policy.load import load_policy
from coatcheck.settings import Settings
from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Snapshot
from coatcheck.vault.store import Vault
from coatcheck.watch import REFUSED_LOOKS, PolicyWatch, watch_vault

ONE = "coatcheck: 1\ngateway: {audience: https://one.acme.dev}\n"
TWO = ONE.replace("one", "two")


class Watched:
    """A watch over a real file, with a real journal."""

    def __init__(self, folder) -> None:
        self.file = folder / "policy.yaml"
        self.file.write_text(ONE)
        self.state = StateDirectory(folder / "state")
        self.state.create()
        self.disk_works = True
        self.journal = JournalWriter(self.state.journal, clock=lambda: datetime.now(UTC), fsync=self.fsync)
        self.journal.start()
        policy = load_policy(self.file)
        self.live = Live(
            policy, Verifier({}, policy.audience, KeySource()), Snapshot((), Sealer(b"k" * 32), "v" * 32, 0)
        )
        self.settings = Settings(self.file, self.state, ("127.0.0.1", 1), ())
        self.changes: list[tuple[str, str]] = []
        self.refuses = ""
        self.tries = 0
        self.watch = PolicyWatch(self.settings, self.live, KeySource(), self.journal, self.check, self.changed)

    def fsync(self, fd: int) -> None:
        if not self.disk_works:
            raise OSError(5, "no disk")
        os.fdatasync(fd)

    def check(self, _policy) -> None:
        self.tries += 1
        if self.refuses:
            raise CoatcheckError(self.refuses)

    def changed(self, old, new) -> None:
        assert self.live.policy is new
        self.changes.append((old.audience, new.audience))

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.watch.look()

    def events(self) -> list[tuple[str, str]]:
        found = (record for record in records(self.state.journal) if record["kind"] == "lifecycle")
        return [(record["event"], record["policy"]) for record in found]


@pytest.fixture
async def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.disk_works = True
    watched.journal.close()


async def test_what_did_not_change_is_not_taken_again(watched) -> None:
    before = watched.live.policy
    await watched.look(4)
    assert watched.live.policy is before
    assert watched.changes == []
    assert watched.events() == []


async def test_policy_and_verifier_change_together(watched) -> None:
    verifier = watched.live.verifier
    watched.file.write_text(TWO)
    await watched.look()
    assert watched.live.policy.audience == "https://two.acme.dev"
    assert watched.live.verifier is not verifier
    assert watched.live.verifier._audience == "https://two.acme.dev"
    assert watched.changes == [("https://one.acme.dev", "https://two.acme.dev")]
    assert watched.events() == [("policy-loaded", watched.live.policy.sha256)]


async def test_a_file_that_is_still_being_written_is_left_alone(watched) -> None:
    await watched.look(3)
    with watched.file.open("w") as file:
        file.write(TWO)  # a policy by itself, and not what the editor means
        file.flush()
        await watched.look(1)
        file.write("masks: [")
        file.flush()
        await watched.look(1)
        assert watched.live.policy.audience == "https://one.acme.dev"
        assert watched.live.problems == {}
        file.seek(0)
        file.truncate()
        file.write(TWO)
    await watched.look()
    assert watched.live.policy.audience == "https://two.acme.dev"


async def test_a_refused_policy_shows_once_in_the_journal_and_until_it_is_good_again(watched) -> None:
    before = watched.live.policy
    watched.file.write_text(TWO + "mask: []\n")
    await watched.look(5)
    assert watched.live.policy is before
    assert "unknown key 'mask'" in watched.live.problems["policy"]
    assert watched.events() == [("policy-refused", before.sha256)]
    watched.file.write_text(ONE)
    await watched.look()
    assert watched.live.problems == {}
    assert watched.live.policy is before
    assert watched.events()[1:] == [("policy-loaded", before.sha256)]


async def test_a_policy_that_needs_a_restart_is_refused(watched) -> None:
    watched.refuses = "its gateway URL is at another address"
    watched.file.write_text(TWO)
    await watched.look()
    assert watched.live.policy.audience == "https://one.acme.dev"
    assert watched.refuses in watched.live.problems["policy"]


async def test_what_cannot_be_journaled_is_not_taken(watched) -> None:
    watched.disk_works = False
    watched.file.write_text(TWO)
    with pytest.raises(JournalError):
        await watched.look()
    assert watched.live.policy.audience == "https://one.acme.dev"
    assert watched.changes == []


async def test_nothing_is_taken_while_the_gateway_shuts_down(watched) -> None:
    watched.live.is_draining = True
    watched.file.write_text(TWO)
    await watched.look(3)
    assert watched.live.policy.audience == "https://one.acme.dev"


async def test_a_secret_that_is_gone_refuses_a_policy_that_needs_it(watched) -> None:
    servers = "servers:\n  shop: {url: https://shop.acme.dev/mcp, credential: shop-key}\n"
    watched.file.write_text(ONE + servers)
    await watched.look()
    assert "shop-key" in watched.live.problems["policy"]
    assert watched.live.policy.servers == {}


async def test_a_refused_policy_is_not_read_at_every_look_but_with_each_thing_that_may_help(watched) -> None:
    watched.refuses = "not like this"
    watched.file.write_text(TWO)
    await watched.look()
    assert watched.tries == 1
    await watched.look(REFUSED_LOOKS - 1)
    assert watched.tries == 1
    await watched.look(1)
    assert watched.tries == 2
    watched.live.snapshot = Snapshot((), Sealer(b"k" * 32), "v" * 32, 1)  # another secret, say
    await watched.look(1)
    assert watched.tries == 3
    watched.watch.look_now()
    await watched.look(1)
    assert watched.tries == 4
    watched.refuses = ""
    await watched.look(REFUSED_LOOKS)
    assert watched.live.policy.audience == "https://two.acme.dev"


async def test_a_vault_that_cannot_be_read_is_told_of_and_read_again_when_it_can_be(watched, monkeypatch) -> None:
    monkeypatch.setattr("coatcheck.watch.VAULT_POLL_SECONDS", 0.01)
    engine = watched.state.open_database()
    vault = Vault.create(engine, MasterKey(bytes(range(32))))
    live = watched.live
    live.snapshot = vault.snapshot()
    watching = asyncio.create_task(watch_vault(live, vault, ScrubberCache()))

    async def comes(condition) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the watch tells nobody
                await asyncio.sleep(0.01)

    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE vault RENAME TO away")
    await comes(lambda: "vault" in live.problems)
    assert live.snapshot.names() == set()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO vault")
    await comes(lambda: "vault" not in live.problems)
    vault.set("token", Secret(b"a secret that is new"), (Binding("here"),), now=datetime.now(UTC))
    await comes(lambda: live.snapshot.names() == {"token"})
    assert not watching.done()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
