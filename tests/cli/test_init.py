"""`coatcheck init` makes a state that a gateway starts on, private to its user, and keeps what is there."""

import stat

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from coatcheck.errors import CoatcheckError
from coatcheck.state import StateDirectory
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.store import Vault
from coatcheck_cli.main import cli


def init(state, **environment: str) -> Result:
    clean = {
        "COATCHECK_STATE": None,
        "COATCHECK_KEY_CMD": None,
        "COATCHECK_KEY_FILE": None,
        "CREDENTIALS_DIRECTORY": None,
    }
    return CliRunner().invoke(cli, ["init", "--state", str(state)], env=clean | environment)


@pytest.fixture
def state(tmp_path):
    result = init(tmp_path / "state")
    assert result.exit_code == 0, result.output
    return tmp_path / "state"


def test_it_says_what_it_made_and_warns_about_the_key(tmp_path) -> None:
    result = init(tmp_path / "state")
    root = tmp_path / "state"
    assert result.stdout.splitlines() == [
        f"state: {root}",
        f"master key: {root / 'master.key'}",
        f"CA certificate for clients: {root / 'ca' / 'ca.pem'}",
    ]
    assert result.stderr.startswith("warning: the master key lies beside what it protects")


def test_everything_is_private_to_its_user(state) -> None:
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert (state / "master.key").stat().st_mode & 0o777 == 0o600


def test_the_state_opens_with_its_key(state) -> None:
    directory = StateDirectory(state)
    directory.check()
    engine = directory.open_database()
    key, where = find_master_key(directory, {})
    assert str(state) in str(where)
    assert Vault.open(engine, key).snapshot().names() == frozenset()
    engine.dispose()


def test_clients_get_the_certificate_and_no_key(state) -> None:
    pem = (state / "ca" / "ca.pem").read_bytes()
    assert pem.count(b"BEGIN") == 1
    assert b"PRIVATE KEY" not in pem
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_second_time_keeps_key_and_authority(state) -> None:
    before = {path: path.read_bytes() for path in (state / "master.key", *(state / "ca").iterdir())}
    again = init(state)
    assert again.exit_code == 0
    assert "warning" not in again.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_two_states_share_neither_key_nor_authority(tmp_path) -> None:
    for name in ("one", "other"):
        assert init(tmp_path / name).exit_code == 0
    for file in ("master.key", "ca/ca.pem", "ca/mitmproxy-ca.pem"):
        assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()


def test_a_key_that_lies_elsewhere_is_used_and_none_is_made(tmp_path, state) -> None:
    key = tmp_path / "elsewhere.key"
    key.write_bytes((state / "master.key").read_bytes())
    key.chmod(0o600)
    result = init(tmp_path / "second", COATCHECK_KEY_FILE=str(key))
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "second" / "master.key").exists()
    assert "warning" not in result.stderr
    assert "BEGIN" not in result.output


def test_the_key_is_never_printed(tmp_path) -> None:
    result = init(tmp_path / "state")
    assert (tmp_path / "state" / "master.key").read_text().strip() not in result.output


@pytest.mark.parametrize("spoil", ["open to others", "a link", "a file"])
def test_a_place_that_is_not_safe_is_refused(tmp_path, state, spoil) -> None:
    target = tmp_path / "target"
    match spoil:
        case "open to others":
            target.mkdir(mode=0o755)
        case "a link":
            target.symlink_to(state)
        case "a file":
            target.write_text("")
    result = init(target)
    assert isinstance(result.exception, CoatcheckError)
    if spoil == "open to others":
        assert list(target.glob("master.key")) == []


def test_the_environment_names_the_state(tmp_path) -> None:
    result = CliRunner().invoke(cli, ["init"], env={"COATCHECK_STATE": str(tmp_path / "named")})
    assert result.exit_code == 0
    assert (tmp_path / "named" / "ca" / "ca.pem").is_file()
