"""A fingerprint tells every change of what a load would read."""

import os

import pytest

from coatcheck.policy.fingerprint import Fingerprint, files_read, fingerprint, links_in
from coatcheck.policy.load import load_policy

POLICY = "coatcheck: 1\ngateway: {audience: https://gateway.acme.dev}\n"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text(POLICY)
    return folder


def test_what_nobody_touched_has_the_same_fingerprint(folder) -> None:
    assert fingerprint(folder, ()) == fingerprint(folder, ())
    assert fingerprint(folder, ()).files


def replace_by_other_bytes_of_one_size_and_time(folder) -> None:
    file = folder / "a.yaml"
    before = file.stat()
    file.write_text(POLICY.replace("acme", "evil"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        replace_by_other_bytes_of_one_size_and_time,
        lambda folder: (folder / "b.yml").write_text(POLICY),
        lambda folder: (folder / "a.yaml").rename(folder / "c.yaml"),
        lambda folder: (folder / "a.yaml").unlink(),
        lambda folder: folder.rename(folder.parent / "away"),
    ],
    ids=["same-size-and-time", "added", "renamed", "removed", "no-folder"],
)
def test_every_change_shows(folder, change) -> None:
    before = fingerprint(folder, ())
    change(folder)
    assert fingerprint(folder, ()) != before


def test_what_is_no_policy_changes_nothing(folder) -> None:
    before = fingerprint(folder, ())
    (folder / "README.md").write_text("about")
    (folder / "a.test.yaml").write_text("coatcheck-test: 1\n")
    assert fingerprint(folder, ()) == before


def test_no_policy_at_all_is_a_fingerprint_too(tmp_path) -> None:
    assert fingerprint(tmp_path / "nowhere", ()) == Fingerprint()


def test_included_files_belong_to_a_policy(folder) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "gateway.yaml").write_text(POLICY)
    (folder / "a.yaml").write_text("coatcheck: 1\ninclude: [more/gateway.yaml]\n")
    known = files_read(load_policy(folder))
    before = fingerprint(folder, known)
    (folder / "more" / "gateway.yaml").write_text(POLICY + "# later\n")
    assert fingerprint(folder, known) != before
    assert fingerprint(folder, ()) == fingerprint(folder, ())


def test_a_folder_that_became_a_link_is_seen_as_one(folder) -> None:
    assert folder not in links_in(folder)
    folder.rename(folder.parent / "real")
    folder.symlink_to(folder.parent / "real")
    assert folder in links_in(folder)
