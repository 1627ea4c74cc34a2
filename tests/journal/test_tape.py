import errno
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import JournalError
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.files import in_order
from coatcheck.journal.read import records
from coatcheck.journal.tape import Tape
from coatcheck.journal.verify import verify_journal


class Disk:
    """A disk that fails as it is told: `room` bytes until it is full, `syncs` that fail before one succeeds."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.syncs = 0

    def write(self, descriptor: int, data) -> int:
        if self.room is None:
            return os.write(descriptor, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written

    def fsync(self, descriptor: int) -> None:
        if self.syncs > 0:
            self.syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def tape(folder, disk, clock):
    tape = Tape(folder, fsync=disk.fsync, write=disk.write)
    tape.open(clock())
    yield tape
    tape.close()


def put(tape: Tape, clock, *texts: str) -> int:
    return tape.append([("request", encode_fields({"text": text})) for text in texts], clock())


def texts(folder: Path) -> list[str]:
    return [str(record["text"]) for record in records(folder, kind="request")]


def links(folder: Path) -> list[tuple[object, object]]:
    return [(record["previous"], record["ending"]) for record in records(folder, kind="file")]


def test_a_new_journal_begins_with_a_link_to_nothing(folder, tape):
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())
    assert path.name == "2026-11-24.jsonl"
    assert (record["seq"], record["kind"], record["previous"], record["prev"]) == (1, "file", None, "0" * 64)


def test_files_are_private_whatever_the_umask(folder, clock):
    before = os.umask(0)
    try:
        tape = Tape(folder)
        tape.open(clock())
        tape.close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_a_batch_is_numbered_in_its_order(folder, tape, clock):
    assert put(tape, clock, "a", "b") == 2
    assert put(tape, clock, "c") == 4
    assert [record["seq"] for record in records(folder)] == [1, 2, 3, 4]


def test_the_same_file_goes_on_after_a_restart(folder, fill):
    assert fill("a") == fill("b")
    assert texts(folder) == ["a", "b"]
    assert verify_journal(folder).ok


def test_a_new_day_begins_a_new_file_that_names_the_one_before(folder, tape, clock):
    put(tape, clock, "a")
    clock.move(days=1)
    put(tape, clock, "b")
    assert links(folder) == [(None, "complete"), ("2026-11-24.jsonl", "complete")]
    assert verify_journal(folder).ok


def test_a_full_file_is_followed_by_another_of_the_day(folder, clock):
    tape = Tape(folder, max_file=1000)
    tape.open(clock())
    for text in "abcdefgh":
        put(tape, clock, text)
    tape.close()
    assert (folder / "2026-11-24.1.jsonl").exists()
    assert texts(folder) == list("abcdefgh")
    assert verify_journal(folder).ok


def test_a_clock_set_back_keeps_the_file_and_the_count(folder, tape, clock):
    put(tape, clock, "a")
    clock.move(days=-1)
    assert put(tape, clock, "b") == 3
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(b'{"seq":3,"at":"2026', id="a torn record"),
        pytest.param(b"garbage\nmore", id="garbage"),
    ],
)
def test_a_torn_end_stays_in_its_file_and_the_next_one_says_so(folder, fill, behind):
    path = fill("a")
    with path.open("ab") as file:
        file.write(behind)
    before = path.read_bytes()
    fill("b")
    assert path.read_bytes() == before
    assert links(folder)[1:] == [("2026-11-24.jsonl", "torn")]
    assert texts(folder) == ["a", "b"]
    report = verify_journal(folder)
    assert report.torn
    assert report.ok == (b"\n" not in behind)


def test_an_empty_file_that_a_crash_left_is_stepped_over(folder, fill, clock):
    fill("a")
    clock.move(days=1)
    (folder / "2026-11-25.jsonl").touch(mode=0o600)
    fill("b")
    assert (folder / "2026-11-25.1.jsonl").exists()
    assert links(folder)[1:] == [("2026-11-24.jsonl", "complete")]
    assert verify_journal(folder).ok


def test_a_journal_open_to_others_is_refused(folder, fill, clock):
    fill("a").chmod(0o644)
    with pytest.raises(JournalError, match="readable or owned by others"):
        Tape(folder).open(clock())


def test_a_name_taken_by_a_link_is_not_followed(folder, clock, tmp_path):
    (folder / "2026-11-24.jsonl").symlink_to(tmp_path / "elsewhere")
    tape = Tape(folder)
    tape.open(clock())
    tape.close()
    assert not (tmp_path / "elsewhere").exists()
    assert (folder / "2026-11-24.1.jsonl").exists()


def test_a_full_disk_raises_and_leaves_no_trace(folder, tape, disk, clock):
    put(tape, clock, "a")
    (path,) = folder.iterdir()
    before = path.read_bytes()
    disk.room = 40
    with pytest.raises(JournalError, match="No space left") as raised:
        put(tape, clock, "b", "c")
    assert path.read_bytes() == before
    assert raised.value.problems[0].hint is not None
    disk.room = None
    assert put(tape, clock, "d") == 3
    assert texts(folder) == ["a", "d"]
    assert verify_journal(folder).ok


def test_a_disk_that_fails_to_sync_raises_and_the_batch_is_taken_back(folder, tape, disk, clock):
    disk.syncs = 1
    with pytest.raises(JournalError, match="Input/output error"):
        put(tape, clock, "a")
    put(tape, clock, "b")
    assert texts(folder) == ["b"]
    assert verify_journal(folder).ok


def test_where_taking_back_fails_too_the_chain_goes_on_in_a_new_file(folder, tape, disk, clock):
    put(tape, clock, "a")
    disk.syncs = 3
    for text in "bc":
        with pytest.raises(JournalError):
            put(tape, clock, text)
    put(tape, clock, "d")
    assert texts(folder) == ["a", "d"]
    assert links(folder)[1:] == [("2026-11-24.jsonl", "complete")]
    assert verify_journal(folder).ok


def test_a_partial_write_that_cannot_be_taken_back_is_a_torn_end(folder, clock):
    class Stuck(Disk):
        def fsync(self, descriptor: int) -> None:
            if self.room is not None:
                self.room = None
                os.write(descriptor, b'{"seq":3,"at"')
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            os.fdatasync(descriptor)

    disk = Stuck()
    tape = Tape(folder, fsync=disk.fsync, write=disk.write)
    tape.open(clock())
    put(tape, clock, "a")
    disk.room = 40
    with pytest.raises(JournalError):
        put(tape, clock, "b")
    put(tape, clock, "c")
    tape.close()
    assert links(folder)[1:] == [("2026-11-24.jsonl", "torn")]
    report = verify_journal(folder)
    assert (report.ok, report.torn) == (True, True)
    assert texts(folder) == ["a", "c"]


def test_a_disk_full_at_a_new_file_leaves_none_behind(folder, tape, disk, clock):
    put(tape, clock, "a")
    clock.move(days=1)
    disk.room = 0
    for _ in range(3):
        with pytest.raises(JournalError):
            put(tape, clock, "b")
    assert [path.name for path in folder.iterdir()] == ["2026-11-24.jsonl"]
    disk.room = None
    assert put(tape, clock, "c") == 4
    assert verify_journal(folder).ok


def test_a_removed_folder_raises_and_the_chain_goes_on_when_it_is_back(folder, tape, clock, tmp_path):
    put(tape, clock, "a")
    folder.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(JournalError, match="No such file"):
            put(tape, clock, "b")
    (tmp_path / "away").rename(folder)
    put(tape, clock, "c")
    assert texts(folder) == ["a", "c"]
    assert links(folder)[1:] == [("2026-11-24.jsonl", "moved")]
    assert verify_journal(folder).ok


def test_a_folder_removed_for_good_is_missed_by_verify(folder, tape, clock):
    put(tape, clock, "a")
    (folder / "2026-11-24.jsonl").unlink()
    assert put(tape, clock, "b") == 4
    assert verify_journal(folder).findings[0].what.startswith("file missing: the journal begins with record 3")


def test_a_renamed_file_is_followed_by_a_new_one(folder, tape, clock):
    put(tape, clock, "a")
    (folder / "2026-11-24.jsonl").rename(folder / "2026-11-24.jsonl.1")
    put(tape, clock, "b")
    assert texts(folder) == ["a", "b"]
    assert links(folder)[1:] == [("2026-11-24.jsonl", "moved")]
    assert verify_journal(folder).ok


def test_a_file_copied_and_truncated_is_told_by_the_next_and_by_verify(folder, tape, clock):
    put(tape, clock, "a")
    path = folder / "2026-11-24.jsonl"
    (folder / "2026-11-24.jsonl.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    put(tape, clock, "b")
    assert texts(folder) == ["a", "b"]
    report = verify_journal(folder)
    assert [finding.what for finding in report.findings] == ["the file before was changed while it was being written"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("fill the disk after"), st.integers(0, 900)),
        st.tuples(st.just("empty the disk"), st.just(0)),
        st.tuples(st.just("fail to sync"), st.integers(1, 4)),
        st.tuples(st.just("days pass"), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("crash, torn"), st.integers(1, 30)),
    ),
    max_size=14,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_fails_all_that_was_acknowledged_is_there_in_order_and_verifies(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("journal", numbered=True)
    disk = Disk()
    now = datetime(2026, 11, 24, 10, 15, tzinfo=UTC)
    tape = Tape(folder, fsync=disk.fsync, write=disk.write, max_file=1500)
    tape.open(now)
    acknowledged: list[str] = []
    for number, (step, amount) in enumerate(steps):
        match step:
            case "append":
                batch = [f"{number}.{place}" for place in range(amount)]
                try:
                    tape.append([("request", encode_fields({"text": text})) for text in batch], now)
                except JournalError:
                    continue
                acknowledged += batch
            case "fill the disk after":
                disk.room = amount
            case "empty the disk":
                disk.room = None
            case "fail to sync":
                disk.syncs = amount
            case "days pass":
                now += timedelta(days=amount)
            case "restart" | "crash, torn":
                tape.close()
                if step == "crash, torn":
                    tear(folder, amount)
                disk.room, disk.syncs = None, 0
                tape = Tape(folder, fsync=disk.fsync, write=disk.write, max_file=1500)
                tape.open(now)
    tape.close()
    report = verify_journal(folder)
    assert report.findings == ()
    found = texts(folder)
    assert [text for text in found if text in set(acknowledged)] == acknowledged
    assert len(set(found)) == len(found)


def tear(folder: Path, amount: int) -> None:
    """A crash amid a write: the last file ends in the beginning of a record."""
    with in_order(folder)[-1].path.open("ab") as file:
        file.write(b'{"seq":99,"at":"2026-11-24T10:15:00'[:amount])
