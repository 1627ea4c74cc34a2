import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.identity.one_time import KEEP_BEYOND_EXPIRY, UsedTokens

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EXPIRES = NOW + timedelta(minutes=5)


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'state.db'}", connect_args={"timeout": 10})
    yield engine
    engine.dispose()


def refusal(used: UsedTokens, token_id: str, now: datetime = NOW) -> tuple[int, str]:
    with pytest.raises(Refusal) as refused:
        used.use(token_id, expires_at=EXPIRES, now=now)
    return refused.value.status, refused.value.reason


def test_a_token_counts_once_and_another_counts_too(engine):
    used = UsedTokens(engine)
    used.use("a", expires_at=EXPIRES, now=NOW)
    assert refusal(used, "a") == (401, "token-replayed")
    used.use("b", expires_at=EXPIRES, now=NOW)


def test_a_used_token_stays_used_after_a_restart(engine, tmp_path):
    UsedTokens(engine).use("a", expires_at=EXPIRES, now=NOW)
    engine.dispose()
    again = create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    used = UsedTokens(again)
    assert refusal(used, "a") == (401, "token-replayed")
    used.use("b", expires_at=EXPIRES, now=NOW)
    again.dispose()


def test_a_token_stays_used_beyond_its_expiry_and_is_forgotten_in_the_end(engine):
    used = UsedTokens(engine)
    used.use("a", expires_at=EXPIRES, now=NOW)
    assert refusal(used, "a", EXPIRES + KEEP_BEYOND_EXPIRY) == (401, "token-replayed")
    used.use("b", expires_at=EXPIRES + timedelta(days=1), now=EXPIRES + KEEP_BEYOND_EXPIRY + timedelta(seconds=1))
    with engine.begin() as connection:
        assert connection.execute(text("select token_id from used_tokens")).scalars().all() == ["b"]


def test_of_many_who_show_one_token_at_once_one_succeeds(engine):
    used, won, lost = UsedTokens(engine), [], []

    def show() -> None:
        try:
            used.use("a", expires_at=EXPIRES, now=NOW)
            won.append(1)
        except Refusal as refused:
            lost.append(refused.reason)

    threads = [threading.Thread(target=show) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), set(lost)) == (1, {"token-replayed"})


def test_a_full_table_refuses_and_forgets_nothing(engine):
    used = UsedTokens(engine, limit=2)
    for token_id in "ab":
        used.use(token_id, expires_at=EXPIRES, now=NOW)
    assert refusal(used, "c") == (503, "token-store-failed")
    used.use("c", expires_at=EXPIRES, now=EXPIRES + KEEP_BEYOND_EXPIRY + timedelta(seconds=1))


def test_no_database_no_use(engine):
    used = UsedTokens(engine)
    with engine.begin() as connection:
        connection.execute(text("drop table used_tokens"))
    assert refusal(used, "a") == (503, "token-store-failed")
    with pytest.raises(CoatcheckError, match="used tokens: the database failed"):
        UsedTokens(create_engine("sqlite:////nonexistent/folder/state.db"))
