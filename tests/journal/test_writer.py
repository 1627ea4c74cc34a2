import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from coatcheck.errors import JournalError
from coatcheck.journal import writer as writer_module
from coatcheck.journal.read import records
from coatcheck.journal.verify import verify_journal
from coatcheck.journal.writer import JournalWriter


class Disk:
    """A disk that can be broken, and one whose syncs can be held up."""

    def __init__(self) -> None:
        self.is_broken = False
        self.syncs = 0
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_syncing = threading.Event()

    def write(self, descriptor: int, data) -> int:
        if self.is_broken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.is_syncing.set()
        self.may_sync.wait(10)
        self.syncs += 1
        os.fdatasync(descriptor)

    def hold(self) -> None:
        self.may_sync.clear()
        self.is_syncing.clear()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def writer(folder, clock, disk):
    """An open writer that does not try again by itself while a test looks."""
    writer = JournalWriter(folder, clock=clock, fsync=disk.fsync, write=disk.write, retry_seconds=60)
    writer.start()
    yield writer
    disk.may_sync.set()
    disk.is_broken = False
    writer.close()


def of_kind(folder: Path, kind: str) -> list:
    return [record.get("text") for record in records(folder, kind=kind)]


async def test_append_returns_the_number_of_a_record_that_is_on_disk(folder, writer):
    seq = await writer.append("request", {"text": "a"})
    (record,) = records(folder, kind="request")
    assert (record["seq"], record["text"]) == (seq, "a")


SYNCED = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
synced, really = [], os.fdatasync
os.fdatasync = lambda descriptor: (synced.append(os.fstat(descriptor).st_size), really(descriptor))
from coatcheck.journal.writer import JournalWriter
folder = Path(sys.argv[1])
writer = JournalWriter(folder, clock=lambda: datetime.now(UTC))
writer.start()
asyncio.run(writer.append("request", {"text": "a"}))
assert synced[-1] == sum(file.stat().st_size for file in folder.glob("*.jsonl")), synced
"""


def test_a_writer_that_is_told_of_no_disk_syncs_before_append_returns(folder):
    """In a process of its own, since what a default is bound to cannot be seen in this one."""
    subprocess.run([sys.executable, "-c", SYNCED, str(folder)], check=True, timeout=60)


async def test_append_does_not_return_before_the_sync(writer, disk):
    disk.hold()
    waiting = asyncio.ensure_future(writer.append("request", {"text": "a"}))
    await asyncio.to_thread(disk.is_syncing.wait, 5)
    done, _ = await asyncio.wait([waiting], timeout=0.02)
    assert not done
    disk.may_sync.set()
    assert await waiting == 2


async def test_many_callers_share_a_sync_and_keep_their_order(folder, writer, disk):
    disk.hold()
    first = asyncio.ensure_future(writer.append("request", {"text": "0"}))
    await asyncio.to_thread(disk.is_syncing.wait, 5)
    before = disk.syncs
    others = [asyncio.ensure_future(writer.append("request", {"text": str(number)})) for number in range(1, 101)]
    await asyncio.sleep(0)
    disk.may_sync.set()
    assert await asyncio.gather(first, *others) == list(range(2, 103))
    assert disk.syncs - before == 2
    assert of_kind(folder, "request") == [str(number) for number in range(101)]
    assert verify_journal(folder).ok


async def test_fields_may_change_once_append_was_called(folder, writer, disk):
    fields: dict = {"text": "as it was"}
    waiting = asyncio.ensure_future(writer.append("request", fields))
    await asyncio.sleep(0)
    fields["text"] = "changed"
    await waiting
    assert of_kind(folder, "request") == ["as it was"]


async def test_a_caller_that_is_cancelled_leaves_its_record(folder, writer, disk):
    disk.hold()
    waiting = asyncio.ensure_future(writer.append("request", {"text": "a"}))
    await asyncio.to_thread(disk.is_syncing.wait, 5)
    waiting.cancel()
    disk.may_sync.set()
    await writer.append("request", {"text": "b"})
    assert of_kind(folder, "request") == ["a", "b"]


async def test_a_full_disk_refuses_those_who_wait_and_owns_up_when_it_is_over(folder, writer, disk, caplog):
    caplog.set_level(logging.WARNING)
    assert writer.healthy
    disk.is_broken = True
    for _ in range(2):
        with pytest.raises(JournalError, match="No space left"):
            await writer.append("request", {"text": "refused"})
    assert not writer.healthy
    disk.is_broken = False
    assert await writer.append("request", {"text": "served"}) == 3
    assert writer.healthy
    assert of_kind(folder, "request") == ["served"]
    (gap,) = records(folder, kind="gap")
    assert (gap["seq"], gap["refused"], gap["lost"]) == (2, 2, 0)
    assert gap["error"] == "cannot write the journal: No space left on device"
    assert verify_journal(folder).ok
    assert len([entry for entry in caplog.records if entry.levelname == "ERROR"]) == 1


async def test_what_nobody_waits_for_is_kept_and_written_when_it_can_be(folder, writer, disk):
    disk.is_broken = True
    writer.append_later("outcome", {"text": "1"})
    writer.append_later("outcome", {"text": "2"})
    with pytest.raises(JournalError):
        await writer.append("request", {})
    assert not writer.healthy
    disk.is_broken = False
    await writer.append("request", {"text": "3"})
    assert of_kind(folder, "outcome") == ["1", "2"]
    assert verify_journal(folder).ok


async def test_the_thread_tries_again_by_itself(folder, clock, disk):
    writer = JournalWriter(folder, clock=clock, fsync=disk.fsync, write=disk.write, retry_seconds=0.01)
    writer.start()
    disk.is_broken = True
    with pytest.raises(JournalError):
        await writer.append("request", {})
    disk.hold()
    disk.is_broken = False
    assert await asyncio.to_thread(disk.is_syncing.wait, 5)
    disk.may_sync.set()
    writer.close()
    assert len(list(records(folder, kind="gap"))) == 1


async def test_a_removed_folder_refuses_those_who_wait(folder, writer, tmp_path):
    await writer.append("request", {"text": "a"})
    folder.rename(tmp_path / "away")
    with pytest.raises(JournalError, match="No such file"):
        await writer.append("request", {"text": "b"})
    (tmp_path / "away").rename(folder)
    await writer.append("request", {"text": "c"})
    assert of_kind(folder, "request") == ["a", "c"]


async def test_records_over_the_limit_are_refused_and_counted(folder, writer, disk, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_WAITING", 3)
    disk.hold()
    writer.append_later("outcome", {"text": "0"})
    await asyncio.to_thread(disk.is_syncing.wait, 5)
    for number in range(1, 6):
        writer.append_later("outcome", {"text": str(number)})
    with pytest.raises(JournalError, match="too far behind"):
        await writer.append("request", {})
    assert not writer.healthy
    disk.may_sync.set()
    while True:
        try:
            await writer.append("request", {})
            break
        except JournalError:
            await asyncio.sleep(0)
    await writer.append("request", {})
    assert of_kind(folder, "outcome") == ["0", "1", "2", "3"]
    assert [gap["lost"] for gap in records(folder, kind="gap")] == [2]
    assert writer.healthy


async def test_a_clock_that_fails_refuses_the_record_and_not_the_thread(folder, disk, clock):
    failing = False

    def moody():
        if failing:
            raise ZeroDivisionError
        return clock()

    writer = JournalWriter(folder, clock=moody)
    writer.start()
    failing = True
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        await writer.append("request", {})
    failing = False
    assert await writer.append("request", {}) == 3
    writer.close()


def test_close_writes_what_is_queued(folder, clock):
    writer = JournalWriter(folder, clock=clock)
    writer.start()
    for number in range(1000):
        writer.append_later("outcome", {"text": str(number)})
    writer.close()
    writer.close()
    assert of_kind(folder, "outcome") == [str(number) for number in range(1000)]
    assert not writer.healthy


def test_close_says_what_could_not_be_written(folder, clock, disk):
    writer = JournalWriter(folder, clock=clock, write=disk.write)
    writer.start()
    disk.is_broken = True
    writer.append_later("outcome", {})
    with pytest.raises(JournalError, match="1 records could not be written: cannot write the journal: No space"):
        writer.close()


def test_close_does_not_wait_for_a_disk_that_hangs(folder, clock, disk, monkeypatch):
    monkeypatch.setattr(writer_module, "CLOSE_SECONDS", 0.05)
    writer = JournalWriter(folder, clock=clock, fsync=disk.fsync)
    writer.start()
    disk.hold()
    writer.append_later("outcome", {})
    with pytest.raises(JournalError, match="the disk did not answer"):
        writer.close()
    disk.may_sync.set()
    writer.close()


async def test_a_writer_that_is_not_open_refuses(folder, clock):
    writer = JournalWriter(folder, clock=clock)
    assert not writer.healthy
    with pytest.raises(JournalError, match="not open"):
        await writer.append("request", {})
    writer.start()
    assert await writer.append("request", {}) == 2
    writer.close()
    with pytest.raises(JournalError, match="not open"):
        await writer.append("request", {})
    writer.append_later("request", {})
    assert not writer.healthy


def test_a_second_writer_is_refused_until_the_first_has_closed(folder, clock):
    first, second = (JournalWriter(folder, clock=clock) for _ in range(2))
    first.start()
    with pytest.raises(JournalError, match="in use") as raised:
        second.start()
    assert "another gateway" in (raised.value.problems[0].hint or "")
    first.close()
    second.start()
    second.close()
    assert verify_journal(folder).ok


def test_a_missing_folder_is_refused_with_a_hint(folder, clock):
    with pytest.raises(JournalError, match="No such file") as raised:
        JournalWriter(folder / "gone", clock=clock).start()
    assert raised.value.problems[0].hint == "make the state directory with: coatcheck init"


def test_a_start_that_failed_leaves_the_folder_free(folder, clock, disk):
    disk.is_broken = True
    writer = JournalWriter(folder, clock=clock, write=disk.write)
    with pytest.raises(JournalError, match="No space"):
        writer.start()
    disk.is_broken = False
    writer.start()
    writer.close()
    assert [path.name for path in folder.glob("*.jsonl")] == ["2026-11-24.jsonl"]


KILLED = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from coatcheck.journal.writer import JournalWriter

async def one(writer):
    while True:
        print(await writer.append("request", {"text": "x" * 500}), flush=True)

async def main():
    writer = JournalWriter(Path(sys.argv[1]), clock=lambda: datetime.now(UTC))
    writer.start()
    await asyncio.gather(*(one(writer) for _ in range(8)))

asyncio.run(main())
"""


def test_a_kill_amid_writing_loses_nothing_that_was_acknowledged(folder):
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        report = verify_journal(folder)
        assert report.ok
        assert {record["seq"] for record in records(folder)} >= set(acknowledged)


async def test_marks_stand_on_every_record_whatever_its_fields_say(folder, clock):
    writer = JournalWriter(folder, clock=clock, marks={"enforced": False})
    writer.start()
    await writer.append("request", {"n": 1, "enforced": True})
    writer.append_later("outcome", {"n": 2})
    writer.close()
    found = [record for record in records(folder) if record["kind"] != "file"]
    assert [(record["n"], record["enforced"]) for record in found] == [(1, False), (2, False)]
