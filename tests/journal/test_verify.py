import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coatcheck.errors import JournalError
from coatcheck.journal.chain import MAX_LINE, read_link, seal
from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.verify import MAX_FINDINGS, Finding, verify_journal

TEXTS = [f"record {number}" for number in range(8)]
DAY = "2026-11-24.jsonl"


def edit(lines):
    lines[3] = lines[3].replace(b"record 2", b"record 9")


def delete(lines):
    del lines[3]


def reorder(lines):
    lines[3], lines[4] = lines[4], lines[3]


def insert(lines):
    lines.insert(3, b"made up\n")


def repeat(lines):
    lines.insert(3, lines[3])


def behead(lines):
    del lines[0]


def empty_line(lines):
    lines.insert(3, b"\n")


def overlong(lines):
    lines.insert(3, b"x" * (2 * MAX_LINE) + b"\n")


@pytest.mark.parametrize(
    ("tamper", "line", "what"),
    [
        pytest.param(edit, 4, "hash does not match", id="edited"),
        pytest.param(delete, 4, "sequence gap: record 3 is followed by 5", id="deleted"),
        pytest.param(reorder, 4, "sequence gap: record 3 is followed by 5", id="reordered"),
        pytest.param(insert, 4, "not JSON", id="inserted"),
        pytest.param(repeat, 5, "sequence gap: record 4 is followed by 4", id="repeated"),
        pytest.param(behead, 1, "file missing: the journal begins with record 2", id="first line cut"),
        pytest.param(empty_line, 4, "not JSON", id="an empty line"),
        pytest.param(overlong, 4, "not JSON", id="a line over the limit"),
    ],
)
def test_the_first_bad_line_is_named(folder, fill, tamper, line, what):
    path = fill(*TEXTS)
    assert verify_journal(folder).ok
    content = path.read_bytes().splitlines(keepends=True)
    tamper(content)
    path.write_bytes(b"".join(content))
    report = verify_journal(folder)
    assert not report.ok
    assert report.findings[0] == Finding(DAY, line, what)


def test_one_edited_line_is_one_finding(folder, fill):
    path = fill(*TEXTS)
    path.write_bytes(path.read_bytes().replace(b"record 2", b"record 9"))
    assert verify_journal(folder).findings == (Finding(DAY, 4, "hash does not match"),)


def test_a_line_written_anew_with_its_hash_breaks_the_next(folder, fill, clock):
    path = fill(*TEXTS)
    content = path.read_bytes().splitlines(keepends=True)
    old = read_link(content[3][:-1])
    content[3], _ = seal(seq=old.seq, at=old.at, kind=old.kind, body=encode_fields({"text": "forged"}), prev=old.prev)
    path.write_bytes(b"".join(content))
    assert verify_journal(folder).findings == (Finding(DAY, 5, "previous hash does not match"),)


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_a_journal_can_change_unseen(folder, fill, data):
    path = next(iter(folder.glob("*.jsonl")), None) or fill("a", "b", "c")
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
    try:
        report = verify_journal(folder)
        assert report.findings or report.torn
        if not report.torn:
            assert report.findings[0].line == good[:place].count(b"\n") + 1
    finally:
        path.write_bytes(good)
    assert verify_journal(folder).ok


@given(cut=st.integers(1, 10_000))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_line_cut_by_a_crash_is_torn_and_no_finding(folder, fill, cut):
    path = next(iter(folder.glob("*.jsonl")), None) or fill("a", "b", "c")
    good = path.read_bytes()
    last = good.splitlines(keepends=True)[-1]
    path.write_bytes(good[: -(1 + cut % (len(last) - 1))])
    try:
        report = verify_journal(folder)
        assert (report.ok, report.torn, report.records) == (True, True, 3)
    finally:
        path.write_bytes(good)


def test_a_good_journal_of_several_files_verifies(folder, fill, clock):
    fill("a", "b")
    clock.move(days=1)
    path = fill("c")
    report = verify_journal(folder)
    assert (report.ok, report.torn, report.files, report.records) == (True, False, 2, 5)
    assert report.last_hash == json.loads(path.read_bytes().splitlines()[-1])["hash"]


def test_a_journal_not_begun_verifies(folder):
    report = verify_journal(folder)
    assert (report.ok, report.files, report.records, report.last_hash) == (True, 0, 0, None)


def test_a_renamed_file_is_no_finding(folder, fill, clock):
    fill("a").rename(folder / "2026-11-24.jsonl.1")
    clock.move(days=1)
    fill("b")
    assert verify_journal(folder).ok


@pytest.mark.parametrize(
    ("gone", "what"),
    [
        pytest.param("2026-11-25.jsonl", "record 2 is followed by 5, after 2026-11-25.jsonl", id="in the middle"),
        pytest.param("2026-11-24.jsonl", "the journal begins with record 3, after 2026-11-24.jsonl", id="the first"),
    ],
)
def test_a_missing_file_is_named(folder, fill, clock, gone, what):
    for text in "abc":
        fill(text)
        clock.move(days=1)
    (folder / gone).unlink()
    report = verify_journal(folder)
    assert [finding.what for finding in report.findings] == [f"file missing: {what}"]


def test_a_file_put_in_another_s_place_is_found(folder, fill, clock, tmp_path):
    first = fill("a", "b")
    kept = first.read_bytes()
    clock.move(days=1)
    fill("c")
    content = kept.splitlines(keepends=True)
    first.write_bytes(b"".join(content[:2]))
    assert verify_journal(folder).findings[0].what.startswith("file missing: record 2 is followed by 4")


def test_a_clock_set_back_is_flagged_and_a_small_step_is_not(folder, fill, clock):
    fill("a")
    clock.move(milliseconds=-900)
    fill("b")
    assert verify_journal(folder).ok
    clock.move(hours=-1)
    fill("c", "d")
    report = verify_journal(folder)
    assert report.findings == (
        Finding(DAY, 4, "clock went back from 2026-11-24T10:14:59.100Z to 2026-11-24T09:14:59.100Z"),
    )


def test_a_cut_end_is_shown_by_the_checkpoint_alone(folder, fill):
    path = fill("a", "b", "c")
    kept = verify_journal(folder).last_hash
    assert verify_journal(folder, checkpoint=kept).ok
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify_journal(folder).ok
    report = verify_journal(folder, checkpoint=kept)
    assert [finding.what for finding in report.findings] == ["the checkpoint is not in the journal"]


def test_a_journal_of_garbage_is_given_up_after_enough_findings(folder):
    (folder / DAY).write_bytes(b"{}\n" * 10_000)
    assert len(verify_journal(folder).findings) == MAX_FINDINGS


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"seq":"x","at":"now","kind":1,"prev":null,"hash":2}', id="wrong types"),
        pytest.param(b'{"seq":2,"at":"2026-11-24","kind":"x","prev":"","hash":"y"}', id="a naive time"),
        pytest.param(b'{"seq":true,"at":"2026-11-24T00:00:00+00:00","kind":[],"prev":{},"hash":"y"}', id="odd types"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1" * 5000, id="a huge number"),
    ],
)
def test_forged_lines_are_findings_and_never_a_crash(folder, fill, line):
    path = fill("a", "b", "c")
    content = path.read_bytes().splitlines(keepends=True)
    content[2] = line + b"\n"
    path.write_bytes(b"".join(content))
    assert verify_journal(folder).findings[0].line == 3


def test_a_folder_that_is_gone_is_an_operator_s_error(folder):
    with pytest.raises(JournalError):
        verify_journal(folder / "gone")


@pytest.mark.parametrize(
    ("at", "what"),
    [
        pytest.param("2026-99-99T99:99:99.999Z", "clock went back from 2026-99-99T99:99:99.999Z to ", id="no date"),
        pytest.param("0000-00-00T00:00:00.000Z", "clock went back from ", id="before all dates"),
    ],
)
def test_a_forged_time_is_a_finding_and_never_a_crash(folder, fill, at, what):
    path = fill("a")
    seq, prev, lines = 2, "", []
    first = read_link(path.read_bytes().splitlines()[0])
    prev = first.hash
    for moment in (at, first.at):
        line, prev = seal(seq=seq, at=moment, kind="request", body='"x":1', prev=prev)
        lines.append(line)
        seq += 1
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + b"".join(lines))
    assert verify_journal(folder).findings[0].what.startswith(what)


def test_a_forged_link_that_is_no_json_is_a_finding_and_never_a_crash(folder):
    line, _ = seal(seq=2, at="2026-11-24T10:15:00.000Z", kind="file", body="not json", prev="0" * 64)
    (folder / DAY).write_bytes(line)
    assert verify_journal(folder).findings[0].what == "file missing: the journal begins with record 2"
