"""Where the master key comes from, and what is made of it."""

import base64
import os
import pickle
from pathlib import Path

import pytest

from coatcheck.errors import VaultError
from coatcheck.state import StateDirectory
from coatcheck.vault.keys import MasterKey, find_master_key, find_or_make_master_key, make_master_key

OTHER = bytes(range(1, 33))


def test_each_purpose_has_a_key_of_its_own(key: MasterKey) -> None:
    derived = [key.derive(purpose) for purpose in ("kek", "placeholder", "fingerprint")]
    assert len({*derived, bytes(range(32))}) == 4
    assert all(len(one) == 32 for one in derived)
    assert key.derive("kek") == MasterKey(bytes(range(32))).derive("kek")


def test_a_master_key_is_never_shown_or_serialised(key: MasterKey) -> None:
    assert repr(key) == f"{key}" == "MasterKey(***)"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_made_key_is_private_and_found_again(state: StateDirectory) -> None:
    old = os.umask(0)
    try:
        made = make_master_key(state.master_key)
    finally:
        os.umask(old)
    assert state.master_key.stat().st_mode & 0o777 == 0o600
    found, where = find_master_key(state, {})
    assert found.derive("kek") == made.derive("kek")
    assert where == str(state.master_key)


def test_a_key_that_exists_is_never_overwritten(state: StateDirectory) -> None:
    make_master_key(state.master_key)
    before = state.master_key.read_bytes()
    with pytest.raises(VaultError, match="File exists"):
        make_master_key(state.master_key)
    assert state.master_key.read_bytes() == before


def private(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OTHER.hex().encode(), id="hex"),
        pytest.param(OTHER.hex().upper().encode() + b"\r\n", id="upper hex and a line end"),
        pytest.param(base64.b64encode(OTHER) + b"\n", id="base64"),
    ],
)
def test_a_key_file_holds_hex_or_base64(state: StateDirectory, tmp_path: Path, text: bytes) -> None:
    path = private(tmp_path / "key", text)
    found, where = find_master_key(state, {"COATCHECK_KEY_FILE": str(path)})
    assert found.derive("kek") == MasterKey(OTHER).derive("kek")
    assert where == f"COATCHECK_KEY_FILE ({path})"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"correct horse battery staple", id="a passphrase"),
        pytest.param(OTHER.hex().encode()[:-2], id="one byte short"),
        pytest.param(OTHER.hex().encode() + b"00", id="one byte long"),
        pytest.param(OTHER, id="raw bytes"),
        pytest.param(b"zz" * 32, id="not hex"),
        pytest.param(b"ab " * 21 + b"a", id="hex with spaces"),
    ],
)
def test_anything_else_is_refused_without_showing_it(state: StateDirectory, tmp_path: Path, text: bytes) -> None:
    path = private(tmp_path / "key", text)
    with pytest.raises(VaultError, match="not a master key") as caught:
        find_master_key(state, {"COATCHECK_KEY_FILE": str(path)})
    shown = repr(caught.value) + repr(caught.value.lines())
    assert not text or text.decode("latin-1") not in shown


def test_sources_are_asked_in_order(state: StateDirectory, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    make_master_key(state.master_key)
    keys = {name: bytes([n]) * 32 for n, name in enumerate(("command", "file", "credential"))}
    private(tmp_path / "file", keys["file"].hex().encode())
    private(credentials / "coatcheck.key", keys["credential"].hex().encode())
    environ = {
        "COATCHECK_KEY_CMD": f"printf %s '{keys['command'].hex()}'",
        "COATCHECK_KEY_FILE": str(tmp_path / "file"),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "PATH": os.environ["PATH"],
    }
    for variable, name in (
        ("COATCHECK_KEY_CMD", "command"),
        ("COATCHECK_KEY_FILE", "file"),
        ("CREDENTIALS_DIRECTORY", "credential"),
    ):
        assert find_master_key(state, environ)[0].derive("kek") == MasterKey(keys[name]).derive("kek")
        del environ[variable]
    assert find_master_key(state, environ)[1] == str(state.master_key)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param("false", "exit status 1", id="fails"),
        pytest.param("/nonexistent/kms decrypt", "cannot run", id="missing"),
        pytest.param("printf 'half", "unbalanced quotes", id="unbalanced"),
        pytest.param("echo no-key", "not a master key", id="prints no key"),
        pytest.param("", "set but empty", id="empty"),
        pytest.param("echo $HOME; echo x", "not a master key", id="no shell looks at it"),
    ],
)
def test_a_source_that_fails_is_not_passed_over(state: StateDirectory, command: str, message: str) -> None:
    make_master_key(state.master_key)
    with pytest.raises(VaultError, match=message):
        find_master_key(state, {"COATCHECK_KEY_CMD": command, "PATH": os.environ["PATH"]})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_file_others_can_read_is_refused(state: StateDirectory, tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "key", OTHER.hex().encode())
    assert find_master_key(state, {"COATCHECK_KEY_FILE": str(path)})
    path.chmod(mode)
    with pytest.raises(VaultError, match="readable or owned by others") as caught:
        find_master_key(state, {"COATCHECK_KEY_FILE": str(path)})
    assert caught.value.problems[0].hint == f"chmod 0600 {path}"


def test_a_link_is_not_followed(state: StateDirectory, tmp_path: Path) -> None:
    private(tmp_path / "key", OTHER.hex().encode())
    state.master_key.symlink_to(tmp_path / "key")
    with pytest.raises(VaultError, match="cannot open"):
        find_master_key(state, {})


def test_a_systemd_credential_may_be_0440_but_not_world_readable(state: StateDirectory, tmp_path: Path) -> None:
    path = private(tmp_path / "coatcheck.key", OTHER.hex().encode())
    path.chmod(0o440)
    assert find_master_key(state, {"CREDENTIALS_DIRECTORY": str(tmp_path)})[1] == f"systemd credential ({path})"
    path.chmod(0o444)
    with pytest.raises(VaultError, match="readable or owned by others"):
        find_master_key(state, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_no_key_at_all_says_how_to_make_one(state: StateDirectory, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="no master key") as caught:
        find_master_key(state, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "coatcheck vault init" in str(caught.value.problems[0].hint)


def test_a_key_is_made_only_where_no_source_is_named(state: StateDirectory, tmp_path: Path) -> None:
    with pytest.raises(VaultError):
        find_or_make_master_key(state, {"COATCHECK_KEY_FILE": str(tmp_path / "gone")})
    assert not state.master_key.exists()
    assert find_or_make_master_key(state, {})[1:] == (str(state.master_key), True)
    assert find_or_make_master_key(state, {})[1:] == (str(state.master_key), False)
