import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import CoatcheckError
from coatcheck.sessions import read as read_module
from coatcheck.sessions.lines import EndLine, ResponseLine, encode, parse
from coatcheck.sessions.read import Session, find_sessions, open_session, read_session
from coatcheck.sessions.recorder import Recording, SessionKey, SessionRecorder

BODY = b'{"jsonrpc":"2.0"}'


def begin(recorder: SessionRecorder, caller: str = "shop-ci") -> Recording:
    return recorder.begin(
        SessionKey(caller, "t", "shop"), issuer="github", subject="s", url="https://shop.test/mcp", policy="p"
    )


def say(recording: Recording) -> None:
    recording.request("POST", "https://shop.test/mcp?q=1", [("A", "b")], BODY, [], "allow", ["r"], None)
    recording.event('{"jsonrpc":"2.0","id":1,"result":{}}', "message", "7")
    recording.response(200, [("Content-Type", "text/event-stream")], b"")
    recording.end("answered")


@pytest.fixture
def session(folder: Path, recorder: SessionRecorder) -> Session:
    recording = begin(recorder)
    say(recording)
    recorder.close()
    return read_session(folder, recording.session)


@pytest.fixture(scope="module")
def written() -> bytes:
    """A closed session of id `00000000000000aa` as bytes."""
    with tempfile.TemporaryDirectory() as made:
        from datetime import UTC, datetime

        recorder = SessionRecorder(Path(made), clock=lambda: datetime(2026, 11, 24, tzinfo=UTC))
        recorder.start()
        recording = begin(recorder)
        say(recording)
        recorder.close()
        (path,) = Path(made).rglob("*.jsonl")
        return path.read_bytes().replace(recording.session.encode(), b"00000000000000aa")


def test_an_exchange_is_told_whole(session: Session):
    (exchange,) = session.exchanges()
    assert session.exchange(1) == exchange
    assert (exchange.title, exchange.path) == ("POST /mcp", "/mcp")
    assert exchange.answer() == b'event: message\nid: 7\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    assert exchange.end is not None
    assert exchange.end.outcome == "answered"


def test_an_exchange_that_is_not_there_is_an_error(session: Session):
    with pytest.raises(CoatcheckError, match="no exchange 9"):
        session.exchange(9)


def test_exchanges_that_overlapped_come_in_the_order_they_began(folder: Path, recorder: SessionRecorder):
    first, second = begin(recorder), begin(recorder)
    first.request("GET", "https://shop.test/1", [], b"", [], "allow", [], None)
    second.request("GET", "https://shop.test/2", [], b"", [], "allow", [], None)
    second.response(200, [], b"2")
    first.response(200, [], b"1")
    recorder.close()
    told = read_session(folder, first.session).exchanges()
    assert [(exchange.n, exchange.answer()) for exchange in told] == [(1, b"1"), (2, b"2")]


def test_lines_whose_request_was_lost_are_passed_over(session: Session):
    at = session.head.started
    with session.path.open("ab") as file:
        file.write(encode(ResponseLine(2, at, 200, (), parse_body())) + encode(EndLine(2, at, "answered")))
    assert list(open_session(session.path).numbers) == [1]


def parse_body():
    from coatcheck.sessions.body import Body

    return Body.of(b"")


def test_a_session_is_found_by_the_beginning_of_its_id(folder: Path, session: Session):
    assert read_session(folder, session.id[:5]).id == session.id


@pytest.mark.parametrize(
    "asked", ["", "zz", "../../etc/passwd", "*", "0" * 17, "0000000000000000", "[0-9a-f]", "a\0"], ids=repr
)
def test_an_id_that_names_no_session_is_an_error_with_a_hint(folder: Path, session: Session, asked: str):
    with pytest.raises(CoatcheckError, match="no such session") as error:
        read_session(folder, asked)
    assert error.value.problems[0].hint == "see: coatcheck sessions list"


def test_a_beginning_that_two_ids_share_names_them(folder: Path, written: bytes):
    for session_id in ("00000000000000aa", "00000000000000ab"):
        (folder / "2026-11-24").mkdir(mode=0o700, exist_ok=True)
        path = folder / "2026-11-24" / f"{session_id}.jsonl"
        path.touch(mode=0o600)
        path.write_bytes(written.replace(b"00000000000000aa", session_id.encode()))
    with pytest.raises(CoatcheckError) as error:
        read_session(folder, "0000")
    assert error.value.problems[0].hint == "one of 00000000000000aa, 00000000000000ab"
    assert read_session(folder, "00000000000000ab").id == "00000000000000ab"


def test_sessions_are_listed_newest_first_with_their_state(folder: Path, recorder: SessionRecorder, clock):
    ids = []
    for caller in ("one", "two"):
        recording = begin(recorder, caller)
        say(recording)
        ids.append(recording.session)
        clock.at += timedelta(days=1)
    recorder.close()
    found = find_sessions(folder)
    assert [summary.id for summary in found] == ids[::-1]
    assert [(s.caller, s.server, s.exchanges, s.state) for s in found] == [
        ("two", "shop", 1, "closed"),
        ("one", "shop", 1, "closed"),
    ]
    assert all(summary.ended is not None and summary.ended > summary.started for summary in found)


def test_no_folder_holds_no_session(tmp_path: Path):
    assert find_sessions(tmp_path / "none") == []


def put(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "2026-11-24" / "00000000000000aa.jsonl"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch()
    path.chmod(mode)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("cut", "state", "exchanges"),
    [
        pytest.param(lambda data: data, "closed", 1, id="whole"),
        pytest.param(lambda data: data[:-1], "torn", 1, id="the last newline is missing"),
        pytest.param(lambda data: b"".join(data.splitlines(keepends=True)[:-1]), "open", 1, id="not closed"),
        pytest.param(lambda data: b"".join(data.splitlines(keepends=True)[:1]), "open", 0, id="only begun"),
        pytest.param(lambda data: b"".join(data.splitlines(keepends=True)[:2])[:-9], "torn", 0, id="the first request"),
    ],
)
def test_a_torn_last_line_is_passed_over(
    folder: Path, written: bytes, cut: Callable[[bytes], bytes], state: str, exchanges: int
):
    session = open_session(put(folder, cut(written)))
    assert (session.state, len(session.numbers)) == (state, exchanges)
    assert find_sessions(folder)[0].state == state


@pytest.mark.parametrize(
    "craft",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\n", id="an empty line"),
        pytest.param(lambda _: b"\0" * 1000, id="zeros"),
        pytest.param(lambda _: b"[" * 100_000 + b"\n", id="deep"),
        pytest.param(lambda data: data.replace(b"aa", b"ab", 1), id="the id of another"),
        pytest.param(lambda data: data + data, id="two sessions in one file"),
        pytest.param(lambda data: b"".join(data.splitlines(keepends=True)[1:]), id="no first line"),
        pytest.param(lambda data: data.replace(b'"n":1', b'"n":"1"'), id="a wrong type"),
        pytest.param(lambda data: data[:200] + b"\n" + data[200:], id="a line broken in the middle"),
        pytest.param(lambda _: b"999999999999:" + b"x" * 50, id="a flow file"),
    ],
)
def test_a_crafted_file_is_refused_and_does_not_hide_the_others(folder: Path, written: bytes, craft):
    path = put(folder, craft(written))
    with pytest.raises(CoatcheckError):
        open_session(path)
    (summary,) = find_sessions(folder)
    assert summary.path == path


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_raises_anything_but_our_error(written: bytes, data: st.DataObject):
    damaged = bytearray(written[: data.draw(st.integers(0, len(written)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=4)):
        damaged[place : place + 1] = data.draw(st.binary(max_size=3))
    with tempfile.TemporaryDirectory() as made:
        path = put(Path(made), bytes(damaged))
        assert len(find_sessions(Path(made))) == 1
        with suppress(CoatcheckError):
            for exchange in open_session(path).exchanges():
                exchange.answer()


def test_a_line_without_an_end_is_refused_before_it_is_held(
    folder: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_module, "MAX_LINE", 10_000)
    path = put(folder, written + b"x" * 20_000 + b"\n")
    with pytest.raises(CoatcheckError, match=r"jsonl:7: a line is longer than 10000 bytes"):
        open_session(path)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_record_that_is_open_to_others_is_refused(folder: Path, written: bytes, mode: int):
    path = put(folder, written, mode)
    with pytest.raises(CoatcheckError, match="readable or owned by others"):
        open_session(path)
    path.chmod(0o600)
    assert open_session(path).state == "closed"


def test_a_link_is_not_followed(folder: Path, written: bytes, tmp_path: Path):
    path = put(folder, written)
    path.rename(tmp_path / "elsewhere.jsonl")
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(CoatcheckError):
        read_session(folder, "00000000000000aa")
    assert find_sessions(folder)[0].state == "torn"


def test_a_file_that_shrank_while_it_was_read_is_an_error(folder: Path, written: bytes):
    session = open_session(put(folder, written))
    put(folder, written[:300])
    with pytest.raises(CoatcheckError):
        list(session.exchanges())


def test_what_is_written_while_a_session_is_read_is_not_in_it(folder: Path, recorder: SessionRecorder):
    recording = begin(recorder)
    say(recording)
    recorder.close()
    session = read_session(folder, recording.session)
    more = parse(session.path.read_bytes().splitlines()[1])
    with session.path.open("ab") as file:
        file.write(encode(more))
    assert len(list(session.exchanges())) == 1
