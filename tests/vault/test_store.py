"""The vault: what is stored, what opens again, and what must not."""

import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from coatcheck.errors import VaultError
from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding, bindings_text
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.secret import Secret
from coatcheck.vault.store import Vault
from coatcheck.vault.tables import METADATA, SECRETS, VAULT, VERSIONS

VALUE = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"
HERE = (Binding("github"),)
OTHER_KEY = MasterKey(b"\x07" * 32)


def test_a_stored_secret_opens_with_what_was_put_in(vault: Vault, now: datetime) -> None:
    info = vault.set("github-pat", Secret(VALUE), HERE, now=now)
    assert (info.version, info.placeholder, info.bindings, info.created_at) == (1, "coat_github_pat", HERE, now)
    snapshot = vault.snapshot()
    credential = snapshot.open("github-pat")
    assert credential.secret.reveal() == VALUE
    assert credential.info == info == snapshot.info("github-pat")
    assert (credential.name, credential.placeholder, credential.bindings) == ("github-pat", "coat_github_pat", HERE)
    assert snapshot.placeholders() == {b"coat_github_pat": "github-pat"}
    assert snapshot.names() == {"github-pat"}


def test_an_unknown_name_is_a_key_error(vault: Vault) -> None:
    assert vault.snapshot().info("nobody") is None
    with pytest.raises(KeyError):
        vault.snapshot().open("nobody")


def test_nothing_on_disk_or_in_a_repr_holds_the_value(vault: Vault, state: StateDirectory, now: datetime) -> None:
    info = vault.set("github-pat", Secret(VALUE), HERE, now=now)
    snapshot = vault.snapshot()
    shown = repr((info, vault, snapshot, snapshot.open("github-pat"))).encode()
    for content in (shown, *(file.read_bytes() for file in state.root.glob("state.db*"))):
        assert VALUE not in content
        assert VALUE.hex().encode() not in content


def test_a_new_version_is_active_at_once_and_keeps_the_placeholder(vault: Vault, now: datetime) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now, placeholder="ghp_stand_in")
    before = vault.snapshot()
    info = vault.set("github-pat", Secret(b"another-value"), HERE, now=now)
    assert (info.version, info.placeholder) == (2, "ghp_stand_in")
    assert vault.list() == [info]
    assert vault.snapshot().open("github-pat").secret.reveal() == b"another-value"
    assert before.open("github-pat").secret.reveal() == VALUE


def test_the_generation_grows_with_every_change_only(vault: Vault, now: datetime) -> None:
    start = vault.generation()
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    with pytest.raises(VaultError):
        vault.set("other", Secret(VALUE), HERE, now=now, placeholder="coat_github_pat")
    vault.snapshot()
    assert vault.generation() == vault.snapshot().generation == start + 1


def test_fingerprints_tell_values_apart_and_depend_on_the_key(vault: Vault, tmp_path: Path, now: datetime) -> None:
    one = vault.set("one-secret", Secret(VALUE), HERE, now=now)
    same = vault.set("two-secret", Secret(VALUE), HERE, now=now)
    other = vault.set("three-secret", Secret(VALUE + b"x"), HERE, now=now)
    elsewhere = Vault.create(create_engine(f"sqlite:///{tmp_path}/other.db"), OTHER_KEY)
    foreign = elsewhere.set("one-secret", Secret(VALUE), HERE, now=now)
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, foreign.fingerprint}) == 3
    assert len(one.fingerprint) == 16


def test_times_come_back_in_utc_whatever_zone_they_went_in(vault: Vault, now: datetime) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now.astimezone(timezone(timedelta(hours=5))))
    (info,) = vault.list()
    assert info.created_at == now
    assert info.created_at.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="timezone-aware"):
        vault.set("github-pat", Secret(VALUE), HERE, now=now.replace(tzinfo=None))


# Opening -----------------------------------------------------------------------------------------------------------


def test_no_vault_a_wrong_key_and_the_right_key_are_told_apart(state: StateDirectory, key: MasterKey) -> None:
    engine = state.open_database()
    with pytest.raises(VaultError, match=r"^no vault$"):
        Vault.open(engine, key)
    Vault.create(engine, key)
    assert Vault.open(engine, key).list() == []
    with pytest.raises(VaultError, match=r"^wrong master key$"):
        Vault.open(engine, OTHER_KEY)


def test_creating_again_keeps_what_is_there_and_refuses_another_key(
    state: StateDirectory, vault: Vault, key: MasterKey, now: datetime
) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    again = Vault.create(state.open_database(), key)
    assert again.snapshot().open("github-pat").secret.reveal() == VALUE
    with pytest.raises(VaultError, match="wrong master key"):
        Vault.create(state.open_database(), OTHER_KEY)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        pytest.param({"format": 2}, "format 2 is not known", id="newer format"),
        pytest.param({"sentinel": b"x" * 40}, "damaged", id="sentinel"),
        pytest.param({"vault_id": "0" * 32}, "damaged", id="another vault's id"),
    ],
)
def test_a_changed_vault_row_is_refused(
    state: StateDirectory, vault: Vault, key: MasterKey, column: dict[str, object], message: str
) -> None:
    engine = state.open_database()
    assert Vault.open(engine, key)
    with engine.begin() as connection:
        connection.execute(update(VAULT).values(column))
    with pytest.raises(VaultError, match=message):
        Vault.open(engine, key)


def test_a_database_cut_anywhere_is_refused_and_left_alone(
    state: StateDirectory, vault: Vault, key: MasterKey, tmp_path: Path, now: datetime
) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    with sqlite3.connect(state.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = state.database.read_bytes()
    copy = tmp_path / "copy.db"
    copy.write_bytes(whole)
    assert Vault.open(create_engine(f"sqlite:///{copy}"), key).snapshot().open("github-pat")
    for size in range(0, len(whole), 1361):
        copy.write_bytes(whole[:size])
        with pytest.raises(VaultError):
            Vault.open(create_engine(f"sqlite:///{copy}"), key).snapshot().open("github-pat")
        assert copy.read_bytes() == whole[:size]


# Edited rows: without the key nothing can be changed and still open ------------------------------------------------

WIDER = bindings_text([Binding("evil")])


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(update(VERSIONS).values(bindings=WIDER), id="binding"),
        pytest.param(update(VERSIONS).values(bindings=bindings_text([*HERE, Binding("evil")])), id="binding added"),
        pytest.param(update(SECRETS).values(placeholder="coat_innocent"), id="placeholder"),
        pytest.param(update(VERSIONS).values(version=5), id="version"),
        pytest.param(update(VAULT).values(vault_id="f" * 32), id="vault"),
        pytest.param(update(VERSIONS).values(value=VERSIONS.c.wrapped_key), id="value"),
        pytest.param(update(VERSIONS).values(wrapped_key=VERSIONS.c.value), id="data key"),
        pytest.param(update(VERSIONS).values(value=b""), id="value emptied"),
    ],
)
def test_an_edited_row_does_not_decrypt(
    state: StateDirectory, vault: Vault, now: datetime, edit: object, key: MasterKey
) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    assert vault.snapshot().open("github-pat").secret.reveal() == VALUE
    engine = create_engine(f"sqlite:///{state.database}")  # no foreign keys: an attacker would not turn them on
    with engine.begin() as connection:
        connection.execute(edit)  # type: ignore[call-overload]
        connection.execute(update(SECRETS).values(active_version=text("(SELECT version FROM vault_versions)")))
    reopened = Vault(engine, key, _vault_id(engine))
    with pytest.raises(VaultError, match="does not decrypt"):
        reopened.snapshot().open("github-pat")


def _vault_id(engine: object) -> str:
    with engine.connect() as connection:  # type: ignore[attr-defined]
        return str(connection.execute(text("SELECT vault_id FROM vault")).scalar())


@pytest.mark.parametrize("with_placeholders", [False, True])
@pytest.mark.parametrize("swapped", [("value", "wrapped_key"), ("value", "wrapped_key", "bindings")])
def test_the_rows_of_two_secrets_cannot_be_exchanged(
    state: StateDirectory, vault: Vault, now: datetime, swapped: tuple[str, ...], with_placeholders: bool
) -> None:
    vault.set("alpha", Secret(VALUE), HERE, now=now)
    vault.set("beta-2", Secret(b"a much better secret"), [Binding("warehouse")], now=now)
    with state.open_database().begin() as connection:
        rows = {row.name: row for row in connection.execute(VERSIONS.select())}
        for name, other in (("alpha", "beta-2"), ("beta-2", "alpha")):
            values = {column: getattr(rows[other], column) for column in swapped}
            connection.execute(update(VERSIONS).where(VERSIONS.c.name == name).values(values))
        if with_placeholders:
            for name, placeholder in (("alpha", "coat_meanwhile"), ("beta-2", "coat_alpha"), ("alpha", "coat_beta_2")):
                connection.execute(update(SECRETS).where(SECRETS.c.name == name).values(placeholder=placeholder))
    for name in ("alpha", "beta-2"):
        with pytest.raises(VaultError, match="does not decrypt"):
            vault.snapshot().open(name)


def test_every_flipped_bit_is_noticed(state: StateDirectory, vault: Vault, now: datetime) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    engine = state.open_database()
    with engine.begin() as connection:
        row = connection.execute(VERSIONS.select()).one()
    for column in ("value", "wrapped_key"):
        good: bytes = getattr(row, column)
        for place in range(0, len(good), 7):
            bad = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
            with engine.begin() as connection:
                connection.execute(update(VERSIONS).values({column: bad}))
            with pytest.raises(VaultError, match="does not decrypt"):
                vault.snapshot().open("github-pat")
        with engine.begin() as connection:
            connection.execute(update(VERSIONS).values({column: good}))
    assert vault.snapshot().open("github-pat").secret.reveal() == VALUE


@pytest.mark.parametrize(
    "bindings", ["", "{}", "[1]", '[{"server":"x","surprise":1}]', '[{"server":"x","header":"host"}]']
)
def test_bindings_that_are_none_are_damage(state: StateDirectory, vault: Vault, now: datetime, bindings: str) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    with state.open_database().begin() as connection:
        connection.execute(update(VERSIONS).values(bindings=bindings))
    with pytest.raises(VaultError, match="'github-pat' is damaged"):
        vault.snapshot()


@pytest.mark.parametrize("column", ["value = 'text'", "created_at = 'yesterday'", "wrapped_key = 5"])
def test_a_column_of_another_type_is_damage(state: StateDirectory, vault: Vault, now: datetime, column: str) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    with state.open_database().begin() as connection:
        connection.execute(text(f"UPDATE vault_versions SET {column}"))  # noqa: S608 - the table above
    with pytest.raises(VaultError, match=r"damaged|does not decrypt"):
        vault.snapshot().open("github-pat")


def test_a_deleted_version_is_damage_and_not_an_older_value(state: StateDirectory, vault: Vault, now: datetime) -> None:
    vault.set("github-pat", Secret(VALUE), HERE, now=now)
    vault.set("github-pat", Secret(b"the new value"), HERE, now=now)
    with state.open_database().begin() as connection:
        connection.execute(VERSIONS.delete().where(VERSIONS.c.version == 2))
    with pytest.raises(VaultError, match="'github-pat' is damaged"):
        vault.snapshot()


# What may be stored ------------------------------------------------------------------------------------------------

QUERY = (Binding("github", header=None, query="key"),)
POINTER = (Binding("github", header=None, pointer="/key"),)


@pytest.mark.parametrize(
    ("value", "bindings", "message"),
    [
        pytest.param(b"", HERE, "too short", id="empty"),
        pytest.param(b"seven77", HERE, "too short", id="seven bytes"),
        pytest.param(b"long enough\r\nX-Evil: 1", HERE, "control characters", id="line end in a header"),
        pytest.param(b"long enough\n", HERE, "control characters", id="line feed at the end"),
        pytest.param(b"long\x00enough", HERE, "control characters", id="NUL in a header"),
        pytest.param(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", POINTER, "not UTF-8", id="bytes in JSON"),
        pytest.param(b"x" * 16385, HERE, "longer than", id="huge"),
    ],
)
def test_a_value_its_place_cannot_take_is_refused_without_showing_it(
    vault: Vault, now: datetime, value: bytes, bindings: tuple[Binding, ...], message: str
) -> None:
    vault.set("good", Secret(VALUE), bindings, now=now)
    with pytest.raises(VaultError, match=message) as caught:
        vault.set("bad-secret", Secret(value), bindings, now=now)
    assert not value or value.decode("latin-1") not in repr(caught.value.lines())


def test_line_ends_and_bytes_are_fine_where_no_header_is(vault: Vault, now: datetime) -> None:
    value = b"-----BEGIN KEY-----\nxyz\n\xff"
    vault.set("pem", Secret(value), QUERY, now=now)
    assert vault.snapshot().open("pem").secret.reveal() == value


def test_a_short_value_goes_in_only_on_request_and_never_an_empty_one(vault: Vault, now: datetime) -> None:
    assert vault.set("pin", Secret(b"1234"), HERE, now=now, unsafe_short=True)
    with pytest.raises(VaultError, match="too short"):
        vault.set("pin", Secret(b""), HERE, now=now, unsafe_short=True)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "é", "x" * 101, "a\n"])
def test_a_name_is_plain(vault: Vault, now: datetime, name: str) -> None:
    assert vault.set("Plain.name_1-2", Secret(VALUE), HERE, now=now)
    with pytest.raises(VaultError, match="not a secret's name"):
        vault.set(name, Secret(VALUE), HERE, now=now)


@pytest.mark.parametrize(
    ("placeholder", "message"),
    [
        pytest.param("seven77", "8 to 200", id="short"),
        pytest.param("has space", "8 to 200", id="space"),
        pytest.param("per%20cent", "8 to 200", id="escape"),
        pytest.param("coat_first", "cannot be told from", id="taken"),
        pytest.param("coat_first_more", "cannot be told from", id="contains another"),
        pytest.param("oat_firs", "cannot be told from", id="inside another"),
    ],
)
def test_a_placeholder_is_plain_and_unmistakable(vault: Vault, now: datetime, placeholder: str, message: str) -> None:
    vault.set("first", Secret(VALUE), HERE, now=now)
    with pytest.raises(VaultError, match=message):
        vault.set("second", Secret(VALUE), HERE, now=now, placeholder=placeholder)
    assert vault.set("second", Secret(VALUE), HERE, now=now).placeholder == "coat_second"


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        pytest.param((), "bound to no server", id="none"),
        pytest.param((Binding("github"), Binding("github", header="x-api-key")), "two bindings", id="ambiguous"),
    ],
)
def test_bindings_must_be_there_and_clear(
    vault: Vault, now: datetime, bindings: tuple[Binding, ...], message: str
) -> None:
    clear = (Binding("github", identities=("a",)), Binding("github", header="x-api-key", identities=("b",)))
    assert vault.set("clear", Secret(VALUE), clear, now=now)
    with pytest.raises(VaultError, match=message):
        vault.set("unclear", Secret(VALUE), bindings, now=now)


# Databases ---------------------------------------------------------------------------------------------------------


def test_two_processes_writing_at_once_lose_nothing(vault: Vault, state: StateDirectory) -> None:
    program = (
        "import sys, datetime, pathlib\n"
        "from coatcheck.state import StateDirectory\n"
        "from coatcheck.vault.store import Vault\n"
        "from coatcheck.vault.keys import MasterKey\n"
        "from coatcheck.vault.secret import Secret\n"
        "from coatcheck.vault.bindings import Binding\n"
        "vault = Vault.open(StateDirectory(pathlib.Path(sys.argv[1])).open_database(), MasterKey(bytes(range(32))))\n"
        "for n in range(20):\n"
        "    vault.set('shared', Secret(b'value of ' + sys.argv[2].encode()), [Binding('github')],"
        " now=datetime.datetime.now(datetime.UTC))\n"
    )
    command = [sys.executable, "-c", program, str(state.root)]
    running = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [process.wait(60) for process in running] == [0, 0]
    assert vault.list()[0].version == vault.generation() == 40


def test_a_failing_database_is_a_vault_error_without_parameters(
    state: StateDirectory, vault: Vault, now: datetime
) -> None:
    with state.open_database().begin() as connection:
        connection.execute(text("DROP TABLE vault_versions"))
    with pytest.raises(VaultError, match="database failed: no such table") as caught:
        vault.set("github-pat", Secret(VALUE), HERE, now=now)
    assert caught.value.__cause__ is None
    assert "INSERT" not in str(caught.value)


def test_the_tables_are_postgresql_too() -> None:
    made = [str(CreateTable(table).compile(dialect=postgresql.dialect())) for table in METADATA.sorted_tables]
    assert list(METADATA.tables) == ["vault", "vault_secrets", "vault_versions"]
    assert any("BYTEA" in statement and "TIMESTAMP WITH TIME ZONE" in statement for statement in made)
