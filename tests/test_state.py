"""A state directory that others could have written is refused, never repaired."""

import os
import stat
from pathlib import Path

import pytest

from coatcheck.errors import StateError
from coatcheck.state import StateDirectory, open_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.create()
    return directory


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_made_is_open_to_its_user_alone_whatever_the_umask(tmp_path, umask) -> None:
    state = StateDirectory(tmp_path / "deep" / "state")
    before = os.umask(umask)
    try:
        state.create()
        state.open_database().dispose()
    finally:
        os.umask(before)
    for folder in (state.root, state.journal, state.sessions, state.ca):
        assert mode_of(folder) == 0o700
    assert mode_of(state.database) == 0o600


def test_making_it_again_keeps_what_is_there(state) -> None:
    (state.journal / "kept").write_text("x")
    state.create()
    assert (state.journal / "kept").read_text() == "x"


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777, 0o750, 0o702])
def test_a_directory_open_to_others_is_refused_and_left_as_it_is(state, mode) -> None:
    state.check()
    state.root.chmod(mode)
    for use in (state.check, state.open_database, state.create):
        with pytest.raises(StateError, match="open to others") as caught:
            use()
        assert "chmod 0700" in (caught.value.problems[0].hint or "")
    assert mode_of(state.root) == mode


def test_a_missing_directory_says_how_to_make_one(tmp_path) -> None:
    with pytest.raises(StateError) as caught:
        StateDirectory(tmp_path / "none").check()
    assert caught.value.problems[0].hint == f"make it with: coatcheck init --state {tmp_path / 'none'}"


def test_a_link_to_a_directory_is_refused(state, tmp_path) -> None:
    link = StateDirectory(tmp_path / "link")
    link.root.symlink_to(state.root)
    for use in (link.check, link.open_database, link.create):
        with pytest.raises(StateError, match="not a directory"):
            use()


def test_a_file_in_its_place_is_refused(tmp_path) -> None:
    (tmp_path / "state").write_text("")
    for use in (StateDirectory(tmp_path / "state").check, StateDirectory(tmp_path / "state").create):
        with pytest.raises(StateError):
            use()


def test_a_place_that_cannot_be_made_is_an_operators_error() -> None:
    with pytest.raises(StateError, match="cannot make"):
        StateDirectory(Path("/proc/none/state")).create()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_user_is_refused(state) -> None:
    os.chown(state.root, 12345, 12345)
    with pytest.raises(StateError, match="another user"):
        state.check()


@pytest.mark.parametrize("name", ["journal", "sessions", "ca"])
def test_a_folder_that_is_a_link_is_refused(state, tmp_path, name) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (state.root / name).rmdir()
    (state.root / name).symlink_to(elsewhere)
    with pytest.raises(StateError):
        state.create()


def test_a_database_that_is_a_link_is_refused(state, tmp_path) -> None:
    state.open_database().dispose()
    state.database.rename(tmp_path / "elsewhere.db")
    state.database.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StateError, match="cannot open"):
        state.open_database()


def test_a_database_open_to_others_is_refused(state) -> None:
    state.open_database().dispose()
    state.database.chmod(0o666)
    with pytest.raises(StateError):
        state.open_database()


def test_the_database_is_durable_and_keeps_its_references(state) -> None:
    engine = state.open_database()
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_what_the_database_keeps_beside_it_is_private_too(state) -> None:
    before = os.umask(0)
    try:
        engine = state.open_database()
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (x)")
            found = {path.name: mode_of(path) for path in state.root.glob("state.db*")}
        engine.dispose()
    finally:
        os.umask(before)
    assert "state.db-wal" in found
    assert set(found.values()) == {0o600}


# -- private files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("x")
    path.chmod(0o600)
    return path


def test_a_private_file_opens(private) -> None:
    descriptor = open_private(private)
    assert os.read(descriptor, 10) == b"x"
    assert os.get_inheritable(descriptor) is False
    os.close(descriptor)


def test_a_new_private_file_is_0600_whatever_the_umask(tmp_path) -> None:
    before = os.umask(0)
    try:
        os.close(open_private(tmp_path / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "new") == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o666, 0o777])
def test_a_file_open_to_others_is_refused(private, mode) -> None:
    private.chmod(mode)
    with pytest.raises(StateError, match="readable or owned by others"):
        open_private(private)
    assert mode_of(private) == mode


def test_a_link_is_refused(private, tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to(private)
    with pytest.raises(StateError, match="cannot open"):
        open_private(link)


def test_a_missing_file_is_an_operators_error(tmp_path) -> None:
    with pytest.raises(StateError, match="No such file"):
        open_private(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(private) -> None:
    os.chown(private, 12345, 12345)
    with pytest.raises(StateError, match="owned by others"):
        open_private(private)


def test_no_descriptor_is_left_open_where_a_file_is_refused(private) -> None:
    private.chmod(0o644)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(StateError):
            open_private(private)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
