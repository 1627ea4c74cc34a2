"""Keys that sign session tokens: sealed, changed with age, and kept while what they signed is good."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from sqlalchemy import update

from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tables import KEYS
from coatcheck.identity.signing_keys import ANNOUNCED, ROTATE_AFTER, SigningKeys
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield engine
    engine.dispose()


@pytest.fixture
def open_keys(engine):
    return lambda key=b"k" * 32: SigningKeys(SessionStore(engine), Sealer(key), "v" * 32)


def test_one_key_signs_until_it_is_old_and_another_was_announced(open_keys) -> None:
    keys = open_keys()
    first = keys.current(now=NOW)
    assert keys.current(now=NOW + ROTATE_AFTER - timedelta(seconds=1)) == first
    assert [key["kid"] for key in keys.jwks()["keys"]] == [first.kid]
    assert keys.current(now=NOW + ROTATE_AFTER) == first
    (second,) = {key["kid"] for key in keys.jwks()["keys"]} - {first.kid}
    assert keys.current(now=NOW + ROTATE_AFTER + ANNOUNCED - timedelta(seconds=1)) == first
    assert keys.current(now=NOW + ROTATE_AFTER + ANNOUNCED).kid == second
    assert keys.current(now=NOW + 2 * ROTATE_AFTER - timedelta(seconds=1)).kid == second


def test_an_old_key_is_kept_for_as_long_as_what_it_signed_can_be_good(open_keys) -> None:
    keys = open_keys()
    first = keys.current(now=NOW)
    keys.current(now=NOW + ROTATE_AFTER)
    second = keys.current(now=NOW + ROTATE_AFTER + ANNOUNCED)
    assert keys.find(first.kid) == first
    keys.current(now=NOW + 2 * ROTATE_AFTER)
    assert keys.find(first.kid) is None
    assert keys.find(second.kid) == second
    assert ANNOUNCED + timedelta(hours=24) <= ROTATE_AFTER


def test_after_a_long_silence_a_new_key_signs_at_once_and_no_ancient_one(open_keys) -> None:
    keys = open_keys()
    first = keys.current(now=NOW)
    assert keys.current(now=NOW + 3 * ROTATE_AFTER).kid != first.kid


def test_a_restart_signs_with_the_same_key(open_keys) -> None:
    assert open_keys().current(now=NOW).kid == open_keys().current(now=NOW + timedelta(days=1)).kid


def test_the_published_keys_are_public_and_verify(open_keys) -> None:
    keys = open_keys()
    key = keys.current(now=NOW)
    (published,) = keys.jwks()["keys"]
    assert set(published) == {"crv", "kty", "x", "y", "kid", "alg", "use"}
    token = jwt.encode({"a": 1}, key.private, algorithm="ES256")
    assert jwt.decode(token, jwt.PyJWK(published), algorithms=["ES256"]) == {"a": 1}
    assert "PrivateKey" not in repr(key)


def test_the_name_is_the_thumbprint_of_rfc_7638(open_keys) -> None:
    from jwt.algorithms import ECAlgorithm

    key = open_keys().current(now=NOW)
    as_jwk = ECAlgorithm.to_jwk(key.public, as_dict=True)
    assert {name: as_jwk[name] for name in ("crv", "kty", "x", "y")}.items() <= key.jwk.items()
    assert len(key.kid) == 43


@pytest.mark.parametrize("change", [{"created_at": 1}, {"private": b"x" * 200}, {"kid": "another"}], ids=str)
def test_a_key_that_was_changed_in_the_database_is_not_used(open_keys, engine, change) -> None:
    kid = open_keys().current(now=NOW).kid
    with engine.begin() as connection:
        connection.execute(update(KEYS).values(change))
    keys = open_keys()
    keys.load()
    assert keys.jwks() == {"keys": []}
    assert keys.current(now=NOW).kid != kid


def test_nothing_on_disk_holds_a_private_key_in_clear(open_keys, engine, tmp_path) -> None:
    number = open_keys().current(now=NOW).private.private_numbers().private_value.to_bytes(32, "big")
    engine.dispose()
    content = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("state.db*"))
    assert content
    assert number not in content
    assert b"PRIVATE KEY" not in content
