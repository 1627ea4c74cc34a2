import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.mcp.call import Call
from coatcheck.sessions import recorder as recorder_module
from coatcheck.sessions import writer as writer_module
from coatcheck.sessions.body import Body
from coatcheck.sessions.lines import CallLine
from coatcheck.sessions.read import find_sessions, read_session
from coatcheck.sessions.recorder import Recording, SessionKey, SessionRecorder

KEY = SessionKey("shop-ci", "a1b2", "shop")


def begin(recorder: SessionRecorder, key: SessionKey = KEY, *, policy: str = "p1") -> Recording:
    return recorder.begin(key, issuer="github", subject="repo:acme/shop", url="https://shop.test/mcp", policy=policy)


def ask(recording: Recording, body: bytes = b"{}") -> None:
    call = Call("mcp", "tools/call", "lookup", id=7)
    recording.request("POST", "https://shop.test/mcp", [("A", "1"), ("A", "2")], body, [call], "allow", ["r1"], None)


@given(st.binary(max_size=300), st.binary(max_size=300), st.lists(st.text(max_size=20), max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_is_recorded_is_read_back(asked: bytes, answered: bytes, events: list[str]):
    with tempfile.TemporaryDirectory() as made:
        recorder = SessionRecorder(Path(made), clock=lambda: datetime.now(UTC))
        recorder.start()
        recording = begin(recorder)
        ask(recording, asked)
        for event in events:
            recording.event(event, "message", "e1")
        recording.response(200, [("Content-Type", "x")], answered)
        recording.end("answered")
        recorder.close()
        (exchange,) = read_session(Path(made), recording.session).exchanges()
    assert exchange.request.body.content == asked
    assert exchange.request.calls == (CallLine("tools/call", "lookup", 7),)
    assert exchange.request.headers == (("A", "1"), ("A", "2"))
    assert exchange.response is not None
    assert exchange.response.body.content == answered
    assert [event.data for event in exchange.events] == [Body.of(event.encode()) for event in events]
    assert exchange.end is not None


def test_the_same_token_at_the_same_server_is_one_session(recorder: SessionRecorder):
    first, second = begin(recorder), begin(recorder)
    assert (first.session, first.n, second.session, second.n) == (first.session, 1, first.session, 2)


@pytest.mark.parametrize(
    "key",
    [
        SessionKey("other", "a1b2", "shop"),
        SessionKey("shop-ci", "other", "shop"),
        SessionKey("shop-ci", "a1b2", "other"),
    ],
    ids=["caller", "token", "server"],
)
def test_another_caller_token_or_server_is_another_session(recorder: SessionRecorder, key: SessionKey):
    assert begin(recorder).session != begin(recorder, key).session


def test_files_and_day_folders_are_private(folder: Path, recorder: SessionRecorder):
    ask(begin(recorder))
    recorder.close()
    (path,) = folder.rglob("*.jsonl")
    assert path.parent.name == "2026-11-24"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path)] == [0o700, 0o600]


def test_a_policy_that_changed_within_a_session_is_told_with_the_request(folder: Path, recorder: SessionRecorder):
    for policy in ("p1", "p2"):
        ask(begin(recorder, policy=policy))
    recorder.close()
    session = read_session(folder, find_sessions(folder)[0].id)
    assert session.head.policy == "p1"
    assert [exchange.request.policy for exchange in session.exchanges()] == [None, "p2"]


def idle_recorder(folder: Path, clock) -> tuple[SessionRecorder, list[Path]]:
    closed: list[Path] = []
    recorder = SessionRecorder(folder, clock=clock, idle=timedelta(minutes=5), on_closed=closed.append)
    recorder.start()
    return recorder, closed


def test_an_idle_session_is_closed_and_handed_on_whole(folder: Path, clock):
    done = threading.Event()
    states: list[str] = []

    def on_closed(path: Path) -> None:
        states.append(read_session(folder, path.stem).state)
        done.set()

    recorder = SessionRecorder(folder, clock=clock, on_closed=on_closed)
    recorder.start()
    recording = begin(recorder)
    ask(recording)
    recording.end("answered")
    clock.at += timedelta(minutes=6)
    recorder.close_idle()
    assert done.wait(5)
    assert states == ["closed"]
    assert begin(recorder).session != recording.session
    recorder.close()


@pytest.mark.parametrize(
    ("ends", "minutes", "is_closed"),
    [
        pytest.param(True, 6, True, id="idle"),
        pytest.param(True, 4, False, id="not long enough"),
        pytest.param(False, 600, False, id="an exchange is under way"),
    ],
)
def test_a_session_is_idle_when_nothing_is_said_and_nothing_under_way(
    folder: Path, clock, ends: bool, minutes: int, is_closed: bool
):
    recorder, closed = idle_recorder(folder, clock)
    recording = begin(recorder)
    ask(recording)
    if ends:
        recording.end("answered")
    clock.at += timedelta(minutes=minutes)
    recorder.close_idle()
    assert (begin(recorder).session != recording.session) is is_closed
    recorder.close()
    assert len(closed) == (2 if is_closed else 1)


def test_an_exchange_that_was_dropped_without_an_end_does_not_keep_its_session_open(folder: Path, clock):
    recorder, _ = idle_recorder(folder, clock)
    session = begin(recorder).session
    clock.at += timedelta(minutes=6)
    recorder.close_idle()
    assert begin(recorder).session != session
    recorder.close()


def test_an_export_that_fails_stops_nothing(folder: Path, clock, caplog: pytest.LogCaptureFixture):
    def on_closed(path: Path) -> None:
        raise RuntimeError("secret-in-a-message")

    recorder = SessionRecorder(folder, clock=clock, on_closed=on_closed)
    recorder.start()
    for key in (KEY, SessionKey("other", "c3d4", "shop")):
        ask(begin(recorder, key))
    recorder.close()
    assert [summary.state for summary in find_sessions(folder)] == ["closed", "closed"]
    assert "RuntimeError" in caplog.text
    assert "secret-in-a-message" not in caplog.text


def test_the_end_does_not_wait_for_the_export_of_every_session(folder: Path, clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer_module, "CLOSING_SECONDS", 0)
    goes_on, exported = threading.Event(), []

    def on_closed(path: Path) -> None:
        exported.append(path)
        assert goes_on.wait(10)

    recorder = SessionRecorder(folder, clock=clock, on_closed=on_closed)
    recorder.start()
    for number in range(20):
        ask(begin(recorder, SessionKey("job", f"token {number}", "shop")))
    shutdown = ThreadPoolExecutor.shutdown

    def let_go(self: ThreadPoolExecutor, **how: bool) -> None:
        shutdown(self, wait=False, **how)
        goes_on.set()
        shutdown(self)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", let_go)
    recorder.close()
    assert len(exported) <= 1
    assert [summary.state for summary in find_sessions(folder)] == ["closed"] * 20


def test_what_comes_after_the_end_is_counted_and_not_written(folder: Path, recorder: SessionRecorder):
    recording = begin(recorder)
    ask(recording)
    recorder.close()
    assert recorder.lost == 0
    recording.response(200, [], b"late")
    assert recorder.lost == 1
    assert [e.response for e in read_session(folder, recording.session).exchanges()] == [None]


def test_a_disk_that_cannot_keep_up_loses_lines_and_says_so(folder: Path, clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder_module, "MAX_BACKLOG", 10_000)
    recorder = SessionRecorder(folder, clock=clock)  # its thread is not started yet: nothing is taken
    recording = begin(recorder)
    ask(recording, b"x" * 6_000)
    ask(recording, b"x" * 6_000)
    assert recorder.lost == 1
    recorder.start()
    recorder.close()
    session = read_session(folder, recording.session)
    assert session.closed is not None
    assert session.closed.lost == 1


def test_a_recorder_is_healthy_while_it_runs(folder: Path, clock):
    recorder = SessionRecorder(folder, clock=clock)
    assert not recorder.healthy
    recorder.start()
    assert recorder.healthy
    recorder.close()
    assert not recorder.healthy
