"""Session tokens in the database: listed, bounded, revoked once, forgotten when nobody could show them any more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coatcheck.errors import Refusal, StateError
from coatcheck.identity.session_store import KEEP_SECONDS, IssuedToken, SessionStore
from coatcheck.identity.session_tables import TOKENS
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealed

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
SEALED = Sealed(b"key", b"claims")
ONE = IssuedToken("1" * 32, "bot", "https://idp", "sub", "d" * 32, {"run_id": "1"}, AT, AT + 3600)


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine) -> SessionStore:
    return SessionStore(engine)


def add(store: SessionStore, count: int = 3, **changes: object) -> list[IssuedToken]:
    tokens = [replace(ONE, jti=f"{number:032x}", **changes) for number in range(count)]
    for token in tokens:
        store.add(token, SEALED, now=NOW)
    return tokens


def test_what_was_added_is_found_and_listed(store) -> None:
    tokens = add(store)
    assert store.find(tokens[1].jti) == (tokens[1], SEALED)
    assert store.find("nobody's") is None
    assert sorted(store.list(), key=lambda token: token.jti) == tokens
    assert store.list(identity="another") == []


def test_a_token_is_revoked_once_and_no_other_with_it(store) -> None:
    tokens = add(store)
    before = store.generation()
    (revoked,) = store.revoke(jti=tokens[0].jti, now=NOW)
    assert (revoked.jti, revoked.revoked_at) == (tokens[0].jti, AT)
    assert store.generation() == before + 1
    assert store.revoke(jti=tokens[0].jti, now=NOW + timedelta(hours=1)) == []
    assert store.generation() == before + 1
    assert [token.revoked_at for token in sorted(store.list(), key=lambda token: token.jti)] == [AT, None, None]


def test_all_of_an_identity_are_revoked_and_nobody_elses(store) -> None:
    add(store)
    store.add(replace(ONE, jti="f" * 32, identity="other"), SEALED, now=NOW)
    assert len(store.revoke_all(identity="bot", now=NOW)) == 3
    assert [token.jti for token in store.list() if token.revoked_at is None] == ["f" * 32]


@pytest.mark.parametrize(
    ("revoked_at", "seconds", "state"),
    [(None, 0, "active"), (None, 3600, "expired"), (AT, 0, "revoked"), (AT, 3600, "revoked")],
)
def test_its_state_is_told(revoked_at, seconds, state) -> None:
    assert replace(ONE, revoked_at=revoked_at).state(now=NOW + timedelta(seconds=seconds)) == state


def test_an_identity_has_a_limit_of_tokens_that_are_not_expired(store) -> None:
    add(store)
    with pytest.raises(Refusal, match="too-many-tokens") as caught:
        store.add(replace(ONE, jti="f" * 32), SEALED, now=NOW, limit=3)
    assert caught.value.status == 429
    store.add(replace(ONE, jti="f" * 32, identity="other"), SEALED, now=NOW, limit=3)
    later = NOW + timedelta(hours=1)
    store.add(replace(ONE, jti="f" * 31 + "0"), SEALED, now=later, limit=3)


def test_a_token_is_forgotten_a_day_after_it_expired_and_not_before(store) -> None:
    add(store, 1)
    over = ONE.expires_at + KEEP_SECONDS
    for seconds, left in ((over - 1, 2), (over, 2)):
        store.add(
            replace(ONE, jti=f"{seconds:032}", expires_at=seconds + 9), SEALED, now=datetime.fromtimestamp(seconds, UTC)
        )
        assert len(store.list()) == left


def test_a_revocation_is_due_for_the_journal_until_it_is_there(store) -> None:
    tokens = add(store)
    assert store.unjournaled() == []
    store.revoke_all(identity="bot", now=NOW)
    assert len(store.unjournaled()) == 3
    store.set_journaled([tokens[0].jti, tokens[2].jti], now=NOW)
    assert [token.jti for token in store.unjournaled()] == [tokens[1].jti]


def test_a_failing_database_is_told_without_what_was_asked(store, engine) -> None:
    with engine.begin() as connection:
        TOKENS.drop(connection)
    with pytest.raises(StateError, match="the database of session tokens failed") as caught:
        store.find("the-jti")
    assert "the-jti" not in str(caught.value)
