from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from coatcheck.approvals.model import MAX_ARGUMENTS, MAX_REASON, ApprovalError
from coatcheck.approvals.store import ApprovalStore
from coatcheck.approvals.tables import approvals

QUARTER = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)


def test_a_question_is_kept_as_it_was_asked_and_survives_a_restart(state, store, ask_for, now):
    approval = store.ask(ask_for(), now=now, expires=QUARTER)
    assert (approval.state, approval.created_at, approval.expires_at) == ("pending", now, now + QUARTER)
    assert ApprovalStore(state.open_database()).get(approval.id) == approval
    assert store.pending() == [approval]


def test_an_unknown_approval_is_none(store):
    assert store.get("0000000000") is None


ODD = st.text(st.characters(exclude_categories=()), max_size=30)


@given(text=ODD, person=ODD)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_kept(store, ask_for, vote_of, now, text, person):
    question = ask_for(caller=text, arguments=text, message=text, rules=(text, text), quorum=3)
    approval = store.ask(question, now=now, expires=QUARTER)
    voted = store.vote(approval.id, vote_of(person + "!", reason=text), now=now)
    assert store.get(approval.id) == voted
    assert voted.question == question


def test_long_arguments_and_reasons_are_cut_and_say_so(store, ask_for, vote_of, now):
    approval = store.ask(ask_for(arguments="x" * 1_000_000), now=now, expires=QUARTER)
    assert approval.question.arguments == "x" * MAX_ARGUMENTS + "… (1000000 characters)"
    voted = store.vote(approval.id, vote_of("ada", reason="y" * 5000), now=now)
    assert voted.votes[0].reason == "y" * MAX_REASON + "… (5000 characters)"


def test_an_approval_decides_and_is_written_down(store, asked, vote_of, now):
    approval = store.vote(asked, vote_of("ada", reason="fine"), now=now + MINUTE)
    assert (approval.state, approval.decided_at) == ("approved", now + MINUTE)
    assert approval.votes == (vote_of("ada", reason="fine"),)
    assert store.get(asked) == approval
    assert store.pending() == []


def test_a_quorum_needs_different_people(store, ask_for, vote_of, now):
    approval = store.ask(ask_for(quorum=2), now=now, expires=QUARTER)
    assert store.vote(approval.id, vote_of("ada"), now=now).state == "pending"
    with pytest.raises(ApprovalError, match="already voted"):
        store.vote(approval.id, vote_of("ada", reviewer="support"), now=now)
    assert store.vote(approval.id, vote_of("bob"), now=now).state == "approved"


def test_one_deny_denies_whatever_the_quorum(store, ask_for, vote_of, now):
    approval = store.ask(ask_for(quorum=3), now=now, expires=QUARTER)
    store.vote(approval.id, vote_of("ada"), now=now)
    assert store.vote(approval.id, vote_of("bob", "deny"), now=now).state == "denied"
    with pytest.raises(ApprovalError, match="already decided"):
        store.vote(approval.id, vote_of("cleo"), now=now)
    assert not store.use(approval.id, call_digest=approval.question.call_digest, now=now)


def test_a_vote_that_cannot_count_is_refused_and_changes_nothing(store, asked, vote_of, ask_for, now):
    before = store.get(asked)
    for vote, reason in [
        (vote_of(ask_for().subject), "own call"),
        (vote_of(ask_for().subject, "deny"), "own call"),
        (vote_of("ada", reviewer="dba"), "not a reviewer"),
    ]:
        with pytest.raises(ApprovalError) as raised:
            store.vote(asked, vote, now=now)
        assert raised.value.reason == reason
    assert store.get(asked) == before
    with pytest.raises(ApprovalError, match="0000000000: unknown"):
        store.vote("0000000000", vote_of("ada"), now=now)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        pytest.param(QUARTER - timedelta(microseconds=1), None, id="just in time"),
        pytest.param(QUARTER, "expired", id="at the moment it expires"),
        pytest.param(QUARTER * 2, "expired", id="long after"),
        pytest.param(-timedelta(seconds=30), None, id="by a clock a little behind"),
        pytest.param(-timedelta(hours=1), "expired", id="by a clock set back"),
    ],
)
def test_a_vote_counts_only_in_time(store, asked, vote_of, now, after, reason):
    if reason is None:
        assert store.vote(asked, vote_of("ada"), now=now + after).state == "approved"
        return
    for _ in range(2):
        with pytest.raises(ApprovalError) as raised:
            store.vote(asked, vote_of("ada"), now=now + after)
        assert raised.value.reason == reason
    found = store.get(asked)
    assert (found.state, found.votes) == ("expired", ())


def test_an_approval_is_used_once(store, asked, vote_of, ask_for, now):
    digest = ask_for().call_digest
    assert not store.use(asked, call_digest=digest, now=now)
    store.vote(asked, vote_of("ada"), now=now)
    assert not store.use(asked, call_digest="d" * 64, now=now)
    assert store.use(asked, call_digest=digest, now=now)
    assert not store.use(asked, call_digest=digest, now=now)
    assert store.get(asked).state == "used"
    with pytest.raises(ApprovalError, match="already decided"):
        store.vote(asked, vote_of("bob"), now=now)


@pytest.mark.parametrize(
    ("after", "counts"),
    [
        pytest.param(QUARTER - timedelta(microseconds=1), True, id="just in time"),
        pytest.param(QUARTER, False, id="at the moment it expires"),
        pytest.param(-timedelta(hours=1), False, id="by a clock set back"),
    ],
)
def test_an_approval_is_used_only_in_time(store, asked, vote_of, ask_for, now, after, counts):
    store.vote(asked, vote_of("ada"), now=now)
    assert store.use(asked, call_digest=ask_for().call_digest, now=now + after) is counts


def race(actions):
    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.exception() or future.result() for future in [pool.submit(action) for action in actions]]


def test_a_race_to_use_has_one_winner(state, asked, store, vote_of, ask_for, now):
    store.vote(asked, vote_of("ada"), now=now)
    stores = [ApprovalStore(state.open_database()) for _ in range(4)] * 2
    digest = ask_for().call_digest
    used = race([lambda s=s: s.use(asked, call_digest=digest, now=now) for s in stores])
    assert sorted(used) == [False] * 7 + [True]


def test_a_race_of_verdicts_is_decided_once(state, store, ask_for, vote_of, now):
    stores = [ApprovalStore(state.open_database()) for _ in range(4)]
    for _ in range(10):
        approval = store.ask(ask_for(), now=now, expires=QUARTER)
        votes = [vote_of(person, verdict) for person, verdict in zip("abcd", ["approve", "deny"] * 2, strict=True)]
        results = race(
            [lambda s=s, v=v, i=approval.id: s.vote(i, v, now=now) for s, v in zip(stores, votes, strict=True)]
        )
        decided = [result for result in results if not isinstance(result, Exception)]
        assert len(decided) == 1
        assert {error.reason for error in results if isinstance(error, ApprovalError)} == {"already decided"}
        assert store.get(approval.id) == decided[0]


def test_no_vote_is_lost_in_a_race(state, store, ask_for, vote_of, now):
    stores = [ApprovalStore(state.open_database()) for _ in range(4)]
    for _ in range(10):
        approval = store.ask(ask_for(quorum=4), now=now, expires=QUARTER)
        race(
            [
                lambda s=s, p=p, i=approval.id: s.vote(i, vote_of(p), now=now)
                for s, p in zip(stores, "abcd", strict=True)
            ]
        )
        found = store.get(approval.id)
        assert {vote.person for vote in found.votes} == set("abcd")
        assert found.state == "approved"


@pytest.mark.parametrize("state_", ["expired", "withdrawn"])
def test_a_pending_approval_can_be_settled_once(store, asked, vote_of, now, state_):
    assert store.settle(asked, state_, now=now + MINUTE)
    assert not store.settle(asked, "withdrawn", now=now)
    assert (store.get(asked).state, store.get(asked).decided_at) == (state_, now + MINUTE)
    with pytest.raises(ApprovalError):
        store.vote(asked, vote_of("ada"), now=now)


def test_what_is_decided_cannot_be_settled(store, asked, vote_of, now):
    store.vote(asked, vote_of("ada"), now=now)
    assert not store.settle(asked, "withdrawn", now=now)
    assert store.get(asked).state == "approved"


def test_lists_are_in_order(store, ask_for, vote_of, now):
    ids = [store.ask(ask_for(), now=now + MINUTE * place, expires=QUARTER).id for place in range(5)]
    store.vote(ids[2], vote_of("ada"), now=now + MINUTE * 4)
    assert [approval.id for approval in store.pending()] == [ids[0], ids[1], ids[3], ids[4]]
    assert [approval.id for approval in store.recent(limit=3)] == [ids[4], ids[3], ids[2]]
    assert store.states([*ids[1:3], "0000000000"]) == {ids[1]: "pending", ids[2]: "approved"}


def test_a_retry_of_the_same_call_joins_the_open_approval(store, ask_for, vote_of, now):
    first, is_new = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
    assert is_new
    retry = ask_for(request_digest="s" * 64)
    assert store.find_or_ask(retry, now=now + MINUTE, expires=QUARTER) == (first, False)
    approved = store.vote(first.id, vote_of("ada"), now=now)
    assert store.find_or_ask(retry, now=now + MINUTE, expires=QUARTER) == (approved, False)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"caller": "other-ci"}, id="another caller"),
        pytest.param({"issuer": "other"}, id="another issuer"),
        pytest.param({"subject": "repo:acme/other"}, id="another subject"),
        pytest.param({"server": "warehouse"}, id="another server"),
        pytest.param({"call_digest": "d" * 64}, id="another call"),
        pytest.param({"rules": ("other-rule",)}, id="other rules"),
        pytest.param({"quorum": 2}, id="another quorum"),
        pytest.param({"reviewers": ("sre",)}, id="other reviewers"),
        pytest.param({"policy": "q" * 64}, id="another policy"),
    ],
)
def test_what_differs_is_asked_anew(store, ask_for, now, changes):
    first, _ = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
    second, is_new = store.find_or_ask(ask_for(**changes), now=now, expires=QUARTER)
    assert is_new
    assert second.id != first.id


def test_a_closed_approval_is_not_joined(store, ask_for, vote_of, now):
    def close_by_deny(approval_id):
        store.vote(approval_id, vote_of("ada", "deny"), now=now)

    def close_by_use(approval_id):
        store.vote(approval_id, vote_of("ada"), now=now)
        assert store.use(approval_id, call_digest=ask_for().call_digest, now=now)

    for close in (
        close_by_deny,
        close_by_use,
        lambda approval_id: store.settle(approval_id, "withdrawn", now=now),
    ):
        approval, is_new = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
        assert is_new
        close(approval.id)
    last, is_new = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
    assert is_new
    again, is_new = store.find_or_ask(ask_for(), now=now + QUARTER, expires=QUARTER)
    assert is_new
    assert (store.get(last.id).state, again.state) == ("expired", "pending")


def test_an_approved_one_that_lapsed_is_not_joined(store, ask_for, vote_of, now):
    first, _ = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
    store.vote(first.id, vote_of("ada"), now=now)
    second, is_new = store.find_or_ask(ask_for(), now=now + QUARTER, expires=QUARTER)
    assert is_new
    assert second.id != first.id
    assert not store.use(first.id, call_digest=ask_for().call_digest, now=now)


def test_a_race_of_the_same_call_asks_once(state, ask_for, now):
    stores = [ApprovalStore(state.open_database()) for _ in range(4)] * 2
    found = race([lambda s=s: s.find_or_ask(ask_for(), now=now, expires=QUARTER) for s in stores])
    assert len({approval.id for approval, _ in found}) == 1
    assert [is_new for _, is_new in found].count(True) == 1


def test_stores_that_open_a_new_database_at_once_all_succeed(state):
    opened = race([lambda: ApprovalStore(state.open_database()) for _ in range(8)])
    assert all(isinstance(store, ApprovalStore) for store in opened)


def test_a_database_that_fails_is_an_operator_s_error_without_its_content(state, store, ask_for, now):
    state.database.unlink()
    broken = ApprovalStore.__new__(ApprovalStore)
    broken._engine, broken._gateway = create_engine("sqlite:////nowhere/at/all.db"), ""
    with pytest.raises(ApprovalError) as raised:
        broken.ask(replace(ask_for(), arguments="hunter2"), now=now, expires=QUARTER)
    assert raised.value.reason == "not reachable"
    assert "hunter2" not in "\n".join(raised.value.lines())
    assert raised.value.__cause__ is None


def test_the_table_can_be_made_in_postgresql():
    text = str(CreateTable(approvals, if_not_exists=True).compile(dialect=postgresql.dialect()))
    assert "CREATE TABLE IF NOT EXISTS approvals" in text
    assert "created_at BIGINT NOT NULL" in text


class Unwritable(Exception):
    """The journal cannot be written."""


def refuse(_approval):
    raise Unwritable


def test_what_cannot_be_written_down_does_not_happen(store, ask_for, vote_of, now):
    with pytest.raises(Unwritable):
        store.find_or_ask(ask_for(), now=now, expires=QUARTER, record=refuse)
    assert store.recent() == []
    asked, is_new = store.find_or_ask(ask_for(), now=now, expires=QUARTER)
    assert is_new
    with pytest.raises(Unwritable):
        store.vote(asked.id, vote_of("ada"), now=now, record=refuse)
    with pytest.raises(Unwritable):
        store.settle(asked.id, "expired", now=now, record=refuse)
    assert store.get(asked.id) == asked
    store.vote(asked.id, vote_of("ada"), now=now)
    with pytest.raises(Unwritable):
        store.use(asked.id, call_digest=asked.question.call_digest, now=now, record=refuse)
    assert store.get(asked.id).state == "approved"


def test_what_is_written_down_is_the_approval_as_the_change_leaves_it(store, ask_for, vote_of, now):
    written = []
    asked, _ = store.find_or_ask(ask_for(), now=now, expires=QUARTER, record=written.append)
    store.find_or_ask(ask_for(), now=now, expires=QUARTER, record=written.append)  # joins: nothing changes
    voted = store.vote(asked.id, vote_of("ada"), now=now, record=written.append)
    assert store.use(asked.id, call_digest=asked.question.call_digest, now=now, record=written.append)
    assert not store.use(asked.id, call_digest=asked.question.call_digest, now=now, record=written.append)
    assert written == [asked, voted, store.get(asked.id)]
