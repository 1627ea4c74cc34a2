"""`coatcheck identities tokens` and `revoke`: what is out, told by its run, and taken back by id or identity."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck.identity.session_store import IssuedToken, SessionStore
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealed
from coatcheck_cli.identities import identities

AT = int(datetime.now(UTC).timestamp())
ONE = IssuedToken("1" * 32, "bot", "https://idp", "sub", "d" * 32, {"run_id": "7\x1b[2J"}, AT, AT + 3600)


@pytest.fixture
def state(tmp_path) -> StateDirectory:
    state = StateDirectory(tmp_path / "state")
    state.create()
    return state


@pytest.fixture
def store(state):
    engine = state.open_database()
    store = SessionStore(engine)
    for token in (
        ONE,
        replace(ONE, jti="2" * 32, identity="other"),
        replace(ONE, jti="3" * 32, issued_at=AT - 7200, expires_at=AT - 3600),
    ):
        store.add(token, Sealed(b"k", b"v"), now=datetime.now(UTC))
    yield store
    engine.dispose()


@pytest.fixture
def run(state):
    def run(*arguments: str, fails: bool = False):
        done = CliRunner().invoke(identities, [*arguments, "--state", str(state.root)])
        if fails:
            assert isinstance(done.exception, CoatcheckError), done.output
            return done.exception.lines()
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    return run


def jtis(printed: str) -> list[str]:
    return sorted(row["jti"][0] for row in json.loads(printed))


def test_what_can_still_be_shown_is_listed_and_the_rest_on_demand(run, store) -> None:
    assert jtis(run("tokens", "--json")) == ["1", "2"]
    assert jtis(run("tokens", "--json", "--all")) == ["1", "2", "3"]
    assert jtis(run("tokens", "--json", "--identity", "other")) == ["2"]


def test_a_row_says_when_whose_and_which_run(run, store) -> None:
    row = next(row for row in json.loads(run("tokens", "--json")) if row["jti"] == ONE.jti)
    assert row["issued"] == datetime.fromtimestamp(AT, UTC).isoformat()
    assert (row["identity"], row["state"], row["revoked"], row["run"]) == ("bot", "active", None, ONE.run)


def test_a_claim_cannot_write_to_the_terminal(run, store) -> None:
    assert "\x1b" not in run("tokens")


def test_a_state_without_tokens_says_so(run) -> None:
    assert run("tokens") == "no session tokens are out\n"


def test_one_is_revoked_by_its_id_and_told_to_be(run, store) -> None:
    before = store.generation()
    assert run("revoke", ONE.jti) == f"revoked {ONE.jti} (bot)\n"
    assert store.generation() > before
    row = next(row for row in json.loads(run("tokens", "--json")) if row["jti"] == ONE.jti)
    assert row["state"] == "revoked"
    assert row["revoked"] is not None


def test_all_of_an_identity_are_revoked(run, store) -> None:
    assert jtis(run("revoke", "--identity", "bot", "--json")) == ["1"]
    assert run("revoke", "--identity", "bot") == "nothing to revoke\n"
    assert store.find("2" * 32)[0].revoked_at is None


@pytest.mark.parametrize(("jti", "what"), [("9" * 32, "no session token"), (ONE.jti, "is revoked already")])
def test_what_cannot_be_revoked_is_an_error_with_a_hint(run, store, jti, what) -> None:
    store.revoke(jti=ONE.jti, now=datetime.now(UTC))
    error, hint = run("revoke", jti, fails=True)
    assert what in error
    assert hint == "hint: list them with: coatcheck identities tokens"


@pytest.mark.parametrize("arguments", [[], ["x", "--identity", "bot"]], ids=["neither", "both"])
def test_it_is_one_way_or_the_other(state, arguments) -> None:
    assert CliRunner().invoke(identities, ["revoke", *arguments, "--state", str(state.root)]).exit_code == 2
