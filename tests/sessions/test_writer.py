import queue
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from coatcheck.sessions import writer as writer_module
from coatcheck.sessions.body import Body
from coatcheck.sessions.lines import ClosedLine, EventLine, RequestLine, SessionLine, parse
from coatcheck.sessions.read import find_sessions, open_session
from coatcheck.sessions.writer import Job, OpenSession, Writer

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writes come short, then fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def opened(folder: Path, number: int) -> OpenSession:
    session_id = f"{number:016x}"
    head = SessionLine(session_id, "shop-ci", "github", "s", "shop", "https://shop.test/", AT, "p")
    return OpenSession(head, folder / "2026-11-24" / f"{session_id}.jsonl")


def asked(session: OpenSession, n: int = 1, size: int = 10) -> Job:
    line = RequestLine(n, AT, "POST", "https://shop.test/", (), Body.of(b"x" * size), (), "allow", ())
    return session, lambda: line, size


def closed(session: OpenSession) -> Job:
    return session, partial(ClosedLine, AT, "idle"), 0


@pytest.fixture
def jobs() -> queue.SimpleQueue[Job | None]:
    return queue.SimpleQueue()


@pytest.fixture
def writer(folder: Path, jobs: queue.SimpleQueue[Job | None]) -> Writer:
    return Writer(folder, jobs, None)


def run(writer: Writer, jobs: queue.SimpleQueue[Job | None], *given: Job) -> None:
    """Runs the thread's work here, to its end."""
    for job in given:
        jobs.put(job)
    jobs.put(None)
    writer.run()


def whole_lines(path: Path) -> int:
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return len([parse(line) for line in data.splitlines()])


def test_a_full_disk_loses_whole_lines_counts_them_and_raises_nothing(folder: Path, writer: Writer, jobs):
    session = opened(folder, 1)
    with full_after(4_000):
        run(writer, jobs, asked(session))
        run(writer, jobs, asked(session, 2, 9_000), asked(session, 3, 9_000))
    assert (writer.lost, writer.is_failing) == (2, True)
    assert whole_lines(session.path) == 2
    run(writer, jobs, asked(session, 4), closed(session))
    assert (writer.lost, writer.is_failing) == (2, False)
    recorded = open_session(session.path)
    assert list(recorded.numbers) == [1, 4]
    assert recorded.closed is not None
    assert recorded.closed.lost == 2


def test_a_session_that_began_on_a_full_disk_gets_its_first_line_later(folder: Path, writer: Writer, jobs):
    session = opened(folder, 1)
    with full_after(10):
        run(writer, jobs, asked(session))
    run(writer, jobs, asked(session, 2))
    assert list(open_session(session.path).numbers) == [2]


def test_a_writer_finds_out_by_itself_that_there_is_room_again(folder: Path, writer: Writer, jobs):
    session = opened(folder, 1)
    with full_after(10):
        run(writer, jobs, asked(session))
        writer._probe()
        assert writer.is_failing
    writer._probe()
    assert not writer.is_failing
    assert [path.name for path in folder.iterdir()] == ["2026-11-24"]


def test_a_folder_that_is_gone_is_a_failure_and_no_exception(folder: Path, writer: Writer, jobs):
    shutil.rmtree(folder)
    run(writer, jobs, asked(opened(folder, 1)))
    assert (writer.lost, writer.is_failing) == (1, True)


def test_a_file_that_others_can_read_or_a_link_is_not_written(folder: Path, writer: Writer, jobs, tmp_path: Path):
    shared, link = opened(folder, 1), opened(folder, 2)
    shared.path.parent.mkdir(mode=0o700)
    shared.path.touch(mode=0o644)
    link.path.symlink_to(tmp_path / "elsewhere")
    run(writer, jobs, asked(shared), asked(link))
    assert writer.lost == 2
    assert shared.path.read_bytes() == b""
    assert not (tmp_path / "elsewhere").exists()


def test_a_line_that_cannot_be_made_does_not_end_the_thread(folder: Path, writer: Writer, jobs):
    def fail() -> EventLine:
        raise TypeError

    bad, good = opened(folder, 1), opened(folder, 2)
    run(writer, jobs, (bad, fail, 0), asked(good))
    assert writer.lost == 1
    assert list(open_session(good.path).numbers) == [1]


def test_open_files_are_bounded_and_every_session_goes_on(folder: Path, jobs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer_module, "MAX_OPEN_FILES", 8)
    writer = Writer(folder, jobs, None)
    sessions = [opened(folder, number) for number in range(30)]
    for n in (1, 2):
        for session in sessions:
            assert writer._write([asked(session, n)])
            assert len(writer._files) <= 8
    run(writer, jobs, *map(closed, sessions))
    assert {tuple(open_session(session.path).numbers) for session in sessions} == {(1, 2)}
    assert {summary.state for summary in find_sessions(folder)} == {"closed"}


def test_lines_of_many_sessions_in_one_batch_keep_their_order(folder: Path, writer: Writer, jobs):
    sessions = [opened(folder, number) for number in range(3)]
    run(writer, jobs, *(asked(session, n) for n in range(1, 200) for session in sessions))
    for session in sessions:
        assert list(open_session(session.path).numbers) == list(range(1, 200))
