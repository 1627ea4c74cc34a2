"""What cannot be stored is not passed off as stored, and what another version stored is left as it is."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from ground import Ground, denied, wait_until
from raw import call
from server import good
from test_faults import FAULTY

from story.part import clean_environment
from story.processes import Gateway, run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]


@pytest.fixture
def disk(tmp_path) -> Path:
    """A folder whose files say which sink finds the disk full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def filling(place: Ground, disk):
    with place.running(script=FAULTY, COATCHECK_TEST_DISK=str(disk)) as ground:
        yield ground


class FullBefore:
    """The good answer to each call; before that to `mark` the disk is full, and a second call found it so."""

    def __init__(self, ground: Ground, full: Path, mark: str) -> None:
        self._ground, self._full, self._mark = ground, full, mark
        self.refused = None

    def __call__(self, peer, heard) -> None:
        if self._mark.encode() in heard.body:
            self._full.touch()
            with self._ground.tunnel() as client:
                self.refused = client.outcome(self._ground.post(call("get_order", {"order_id": "while-full"})))
        good(peer, heard)


@pytest.mark.attack("STOR-14")
def test_an_answer_whose_record_cannot_be_written_is_withheld_and_its_outcome_told_when_it_can_be(
    filling, disk
) -> None:
    full = disk / "journal"
    filling.is_well()
    before, records = filling.api.mark(), len(filling.journal())
    answering = FullBefore(filling, full, "sent-before")
    with filling.api.answering(answering), filling.tunnel() as client:
        reply = client.outcome(filling.post(call("get_order", {"order_id": "sent-before"})))
    denied(reply, 502, "outcome-unrecorded")
    denied(answering.refused, 503, "journal-unavailable")
    assert len(filling.api.requests_since(before)) == 1
    (sent,) = [one for one in filling.journal()[records:] if one["kind"] == "request"]
    log = (filling.folder / "gateway.out").read_text()
    assert f"exchange {sent['exchange']}: outcome unknown" in log

    def told() -> list[str]:
        """What became of it, by the journal."""
        mine = [one for one in filling.journal() if one.get("exchange") == sent["exchange"]]
        return [one.get("reason") or one["outcome"] for one in mine if one["kind"] in ("refusal", "outcome")]

    assert told() == []
    full.unlink()
    assert wait_until(lambda: told() == ["outcome-unrecorded", "refused"])
    assert "gap" in [one["kind"] for one in filling.journal()]
    filling.is_well()
    assert run_cli("journal", "verify", "--state", str(filling.state)).returncode == 0


@pytest.mark.attack("STOR-22")
def test_a_recording_whose_disk_fills_leaves_the_call_alone_and_the_journal_says_what_is_lost(filling, disk) -> None:
    full = disk / "sessions"

    def recorded() -> str:
        return "".join(file.read_text() for file in (filling.state / "sessions").rglob("*.jsonl"))

    def lost() -> list[dict]:
        return [one["details"] for one in filling.journal() if one.get("event") == "recording-lost"]

    with filling.tunnel() as client:  # one token, so one session
        for mark in ("ordinary", "lost", "kept"):
            full.touch() if mark == "lost" else full.unlink(missing_ok=True)
            assert client.outcome(filling.post(call("get_order", {"order_id": mark}))).status == 200
            assert wait_until(lambda mark=mark: (lost() != []) if mark == "lost" else (mark in recorded()))
    filling.gateway.stop()
    assert '"lost"}' not in recorded()
    closed = [json.loads(line) for line in recorded().splitlines() if '"closed"' in line]
    assert [one["lost"] for one in closed if one.get("lost")] == [sum(one["lost"] for one in lost())]


SET_FORMAT = {
    "the vault": "UPDATE vault SET format = ? WHERE 'the vault' = ?",
    **dict.fromkeys(("approvals", "tool pins", "session tokens"), "UPDATE formats SET format = ? WHERE part = ?"),
}


@pytest.mark.attack("STOR-07")
@pytest.mark.parametrize("part", SET_FORMAT)
def test_state_of_a_newer_format_is_refused_and_left_as_it_is(place, tmp_path, part) -> None:
    def stored(new_format: int | None = None) -> list[str]:
        with closing(sqlite3.connect(place.state / "state.db")) as database, database:
            if new_format is not None:
                assert database.execute(SET_FORMAT[part], (new_format, part)).rowcount == 1
            return list(database.iterdump())

    with place.running() as ground:
        ground.is_well()
    newer = stored(2)
    command = Gateway(place.policy, place.state, output=tmp_path / "out").command
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    where = ("--server", "api", "--state", str(place.state))
    written = run_cli("vault", "set", "api-key", *where, stdin="of-an-older-coatcheck\n") if "vault" in part else None
    left = stored()
    stored(1)
    assert done.returncode == 1, done.stdout
    assert "format 2" in done.stderr
    assert part in done.stderr
    assert "hint: use the coatcheck that made it" in done.stderr
    assert written is None or (written.returncode, "format 2" in written.stderr) == (1, True), written
    assert left == newer
    with place.running() as ground:
        ground.is_well()
