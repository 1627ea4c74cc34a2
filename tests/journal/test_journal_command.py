import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from coatcheck.errors import JournalError
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.tape import Tape
from coatcheck.journal.verify import verify_journal
from coatcheck.state import StateDirectory
from coatcheck_cli.journal import Moment, journal


@pytest.fixture
def state(tmp_path, clock) -> StateDirectory:
    """A state directory with five records of two days."""
    state = StateDirectory(tmp_path / "state")
    state.create()
    tape = Tape(state.journal)
    tape.open(clock())
    call = {"method": "tools/call", "name": "refund_\x1b[31morder\u202e", "digest": "d"}
    decision = {"effect": "allow", "rules": ["ci-reads"]}
    for kind, fields in [
        ("request", {"caller": {"name": "shop-ci"}, "server": "shop", "calls": [call], "decision": decision}),
        ("outcome", {"exchange": "x1", "outcome": "answered"}),
        ("refusal", {"caller": "etl", "target": "POST https://h/", "reason": "policy-denied"}),
    ]:
        tape.append([(kind, encode_fields(fields))], clock())
        clock.move(hours=8)
    tape.close()
    return state


def run(state: StateDirectory, *arguments: str):
    return CliRunner().invoke(journal, [*arguments, "--state", str(state.root)], env={"COLUMNS": "200"})


def test_tail_shows_the_last_records_escaped(state):
    result = run(state, "tail", "-n", "4")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[1:]] == ["2", "3", "4", "5"]
    assert "tools/call refund_\\x1b[31morder\\u202e" in result.output
    assert "allow (ci-reads)" in result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_what_would_have_been_decided_stands_beside_what_was(state, clock):
    allow, deny = ({"effect": effect, "rules": [effect + "s"]} for effect in ("allow", "deny"))
    tape = Tape(state.journal)
    tape.open(clock())
    for kind, fields in [
        ("request", {"decision": {"effect": "allow", "rules": []}, "observed": deny}),
        ("request", {"decision": allow, "observed": allow, "shadow": deny}),
        ("refusal", {"reason": "policy-denied", "shadow": allow}),
    ]:
        tape.append([(kind, encode_fields(fields))], clock())
    tape.close()
    lines = run(state, "tail", "-n", "3").output.splitlines()[1:]
    assert [line.rstrip().split("  ")[-1] for line in lines] == [
        "allow; observed only, else deny (denys)",
        "allow (allows); with shadow rules deny (denys)",
        "policy-denied; with shadow rules allow (allows)",
    ]


def test_tail_as_json_gives_whole_records(state):
    (record,) = json.loads(run(state, "tail", "-n", "1", "--json").output)
    assert (record["kind"], record["reason"], len(record["hash"])) == ("refusal", "policy-denied", 64)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        pytest.param([], [1, 2, 3, 4, 5], id="everything"),
        pytest.param(["--kind", "request"], [2], id="a kind"),
        pytest.param(["--caller", "etl"], [5], id="a caller"),
        pytest.param(["--server", "shop"], [2], id="a server"),
        pytest.param(["--since", "2026-11-25"], [4, 5], id="a day"),
        pytest.param(["--since", "2026-11-24T18:15:00Z"], [3, 4, 5], id="a time"),
        pytest.param(["--kind", "request", "--caller", "etl"], [], id="nothing"),
    ],
)
def test_query_finds_what_matches_everything(state, options, found):
    result = run(state, "query", "--json", *options)
    assert [record["seq"] for record in json.loads(result.output)] == found


def test_query_says_when_there_is_nothing(state):
    assert run(state, "query", "--caller", "nobody").output == "no records\n"


@pytest.mark.parametrize("since", ["yesterday", "", "9999999w", "999999w", "2026-13-01"])
def test_a_moment_that_is_none_is_misuse(state, since):
    result = run(state, "query", "--since", since)
    assert result.exit_code == 2


@pytest.mark.parametrize(("age", "hours"), [("90m", 1.5), ("2h", 2), ("7d", 168), ("1w", 168), ("30s", 1 / 120)])
def test_an_age_is_counted_back_from_now(age, hours):
    before = datetime.now(UTC)
    moment = Moment().convert(age, None, None)
    assert before <= moment + timedelta(hours=hours) <= datetime.now(UTC)


def test_verify_tells_what_it_read(state):
    result = run(state, "verify")
    report = verify_journal(state.journal)
    assert result.exit_code == 0
    assert result.output == f"journal verifies: 5 records in 2 files, last hash {report.last_hash}\n"


def test_verify_of_a_journal_not_begun_says_so(tmp_path):
    state = StateDirectory(tmp_path / "fresh")
    state.create()
    assert run(state, "verify").output == "journal verifies: 0 records in 0 files, no last hash\n"


def test_verify_names_file_and_line_and_fails(state):
    path = state.journal / "2026-11-24.jsonl"
    path.write_bytes(path.read_bytes().replace(b"shop-ci", b"shop-cd"))
    result = run(state, "verify")
    assert result.exit_code == 1
    assert isinstance(result.exception, JournalError)
    assert result.exception.lines() == ["error: 2026-11-24.jsonl:2: hash does not match"]


def test_verify_as_json_fails_with_its_report(state):
    path = state.journal / "2026-11-24.jsonl"
    path.write_bytes(path.read_bytes().replace(b"shop-ci", b"shop-cd"))
    result = run(state, "verify", "--json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert (report["ok"], report["findings"][0]["line"]) == (False, 2)


def test_verify_warns_of_a_torn_line_and_succeeds(state):
    with (state.journal / "2026-11-25.jsonl").open("ab") as file:
        file.write(b'{"seq":6,')
    result = run(state, "verify")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: a last line is torn")
    assert result.stdout.startswith("journal verifies: 5 records")


def test_verify_finds_a_cut_end_by_the_checkpoint(state):
    last = verify_journal(state.journal).last_hash
    assert last is not None
    assert run(state, "verify", "--checkpoint", last).exit_code == 0
    assert run(state, "verify", "--checkpoint", "0" * 64).exit_code == 1


def test_without_a_state_directory_it_says_how_to_make_one(tmp_path):
    result = run(StateDirectory(tmp_path / "none"), "tail")
    assert result.exit_code == 1
    assert "coatcheck init" in str(result.exception.lines())
