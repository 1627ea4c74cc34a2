import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coatcheck.errors import JournalError
from coatcheck.journal.chain import MAX_LINE
from coatcheck.journal.files import in_order, last_link, lines, lines_backwards


def names(folder: Path) -> list[str]:
    return [file.path.name for file in in_order(folder)]


def test_files_are_ordered_by_their_records_and_not_by_their_names(folder, fill, clock):
    fill("a").rename(folder / "z.jsonl.1")
    clock.move(days=1)
    fill("b")
    assert names(folder) == ["z.jsonl.1", "2026-11-25.jsonl"]


def test_a_file_that_cannot_be_placed_comes_last(folder, fill):
    fill("a")
    (folder / "0.jsonl").write_bytes(b"garbage\n" * 200)
    assert names(folder) == ["2026-11-24.jsonl", "0.jsonl"]


def test_a_damaged_first_line_does_not_lose_a_file_its_place(folder, fill, clock):
    first = fill("a", "b")
    clock.move(days=1)
    fill("c")
    first.write_bytes(b"x" + first.read_bytes()[1:])
    assert names(folder) == ["2026-11-24.jsonl", "2026-11-25.jsonl"]


def test_links_and_other_names_are_passed_over(folder, fill, tmp_path):
    fill("a")
    (folder / "notes.txt").write_text("x")
    (folder / "link.jsonl").symlink_to(tmp_path / "elsewhere")
    (folder / "dir.jsonl").mkdir()
    assert names(folder) == ["2026-11-24.jsonl"]


def test_a_missing_folder_is_an_operator_s_error(folder):
    with pytest.raises(JournalError, match="cannot read the journal: No such file"):
        in_order(folder / "gone")


@given(data=st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), block=st.integers(1, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_backwards_are_the_whole_lines_from_the_end(data, block, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(data)
    whole = [line.data for line in lines(path) if line.whole]
    assert list(lines_backwards(path, block=block)) == whole[::-1]
    assert whole == data.split(b"\n")[:-1]


def test_a_line_without_end_is_read_in_bounded_pieces(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), 5 * MAX_LINE)
        file.seek(0, os.SEEK_END)
        file.write(b"\nshort\n")
    found = list(lines(path))
    assert [(line.number, len(line.data), line.whole) for line in found] == [(1, MAX_LINE, True), (2, 5, True)]
    assert [len(line) for line in lines_backwards(path)] == [5, MAX_LINE]


@pytest.mark.parametrize(
    ("behind", "is_end"),
    [
        pytest.param(b"", True, id="nothing"),
        pytest.param(b'{"seq":4,"at":"20', False, id="a torn line"),
        pytest.param(b"garbage\n", False, id="a whole line of garbage"),
        pytest.param(b"garbage\n{", False, id="both"),
    ],
)
def test_the_last_record_is_found_whatever_stands_behind_it(folder, fill, behind, is_end):
    path = fill("a", "b")
    with path.open("ab") as file:
        file.write(behind)
    link, found_end = last_link(path)
    assert link is not None
    assert (link.seq, found_end) == (3, is_end)
