from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from coatcheck.approvals.model import Question, Verdict, Vote
from coatcheck.approvals.store import ApprovalStore
from coatcheck.state import StateDirectory

NOW = datetime(2026, 11, 24, 10, 15, 0, 123_456, tzinfo=UTC)
QUESTION = Question(
    caller="shop-ci",
    issuer="github",
    subject="repo:acme/shop:ref:refs/heads/main",
    server="shop",
    call_title="tools/call refund_order",
    call_digest="c" * 64,
    request_digest="r" * 64,
    arguments='{\n  "order": "A-1"\n}',
    rules=("refunds",),
    reviewers=("sre", "support"),
    quorum=1,
    message="Refunds need a person.",
    policy="p" * 64,
)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def ask_for() -> Callable[..., Question]:
    """The question, with some of it changed."""
    return lambda **changes: replace(QUESTION, **changes)


@pytest.fixture
def vote_of() -> Callable[..., Vote]:
    """A vote by a person."""

    def vote_of(person: str, verdict: Verdict = "approve", *, reviewer: str = "sre", reason: str | None = None) -> Vote:
        return Vote(reviewer, person, verdict, NOW, reason)

    return vote_of


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.create()
    return directory


@pytest.fixture
def engine(state: StateDirectory):
    engine = state.open_database()
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> ApprovalStore:
    return ApprovalStore(engine)


@pytest.fixture
def asked(store: ApprovalStore):
    """The id of an approval that waits."""
    return store.ask(QUESTION, now=NOW, expires=timedelta(minutes=15)).id
