"""The gateway signs with the authority that its clients were given, or does not start."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coatcheck.errors import StateError
from coatcheck.proxy.authority import KEY_FILE, check_authority, make_authority

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "ca"
    folder.mkdir(mode=0o700)
    make_authority(folder)
    return folder


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("another") / "ca"
    folder.mkdir(mode=0o700)
    make_authority(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ca"))


def test_what_init_made_is_good_until_it_ends(folder) -> None:
    check_authority(folder, now=NOW)
    for moment in (NOW + timedelta(days=20_000), NOW - timedelta(days=20_000)):
        with pytest.raises(StateError, match="not valid now"):
            check_authority(folder, now=moment)


def joined(folder: Path, another: Path) -> None:
    """The one's key with the other's certificate."""
    key = (folder / KEY_FILE).read_text().partition("-----BEGIN CERTIFICATE-----")[0]
    (folder / KEY_FILE).write_text(key + (another / "ca.pem").read_text())
    shutil.copy(another / "ca.pem", folder / "ca.pem")


SPOILT: dict[str, Callable[[Path, Path], object]] = {
    "no key": lambda folder, _: (folder / KEY_FILE).unlink(),
    "no certificate for clients": lambda folder, _: (folder / "ca.pem").unlink(),
    "no folder": lambda folder, _: shutil.rmtree(folder),
    "an empty key": lambda folder, _: (folder / KEY_FILE).write_text(""),
    "a key that is none": lambda folder, _: (folder / KEY_FILE).write_text("x"),
    "a certificate that is none": lambda folder, _: (folder / "ca.pem").write_text("x"),
    "a certificate without its key": lambda folder, _: shutil.copy(folder / "ca.pem", folder / KEY_FILE),
    "a key cut in half": lambda folder, _: os.truncate(folder / KEY_FILE, 600),
    "a key that others can read": lambda folder, _: (folder / KEY_FILE).chmod(0o644),
    "another's key": lambda folder, another: shutil.copy(another / KEY_FILE, folder / KEY_FILE),
    "another's certificate for clients": lambda folder, another: shutil.copy(another / "ca.pem", folder / "ca.pem"),
    "another's certificate with this key": joined,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_anything_else_is_refused_and_nothing_is_made_in_its_place(folder, another, spoil) -> None:
    check_authority(folder, now=NOW)
    spoil(folder, another)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(StateError) as caught:
        check_authority(folder, now=NOW)
    assert str(folder) in caught.value.problems[0].where
    assert sorted(folder.parent.rglob("*")) == before


def test_a_link_in_its_place_is_refused(folder, another) -> None:
    (folder / KEY_FILE).unlink()
    (folder / KEY_FILE).symlink_to(another / KEY_FILE)
    with pytest.raises(StateError):
        check_authority(folder, now=NOW)
