import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.approvals.model import Approval, Vote, as_json, canonical_id, new_id, outcome_of


@given(st.builds(new_id))
def test_an_id_is_read_back_however_it_is_written(approval_id):
    assert canonical_id(approval_id) == approval_id
    assert canonical_id(approval_id.lower()) == approval_id
    assert canonical_id(f"{approval_id[:5]}-{approval_id[5:]}") == approval_id
    assert canonical_id(approval_id.replace("0", "o").replace("1", "l")) == approval_id


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("K7Q2M4X9W", id="too short"),
        pytest.param("K7Q2M4X9WDD", id="too long"),
        pytest.param("K7Q2M4X9WU", id="a letter that is none of them"),
        pytest.param("../../etc/p", id="a path"),
        pytest.param("K7Q2M4X9W\n", id="a newline"),
        pytest.param("-" * 1_000_000, id="a million dashes"),
    ],
)
def test_what_is_no_id_is_told(text):
    assert canonical_id(text) is None


PEOPLE = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["approve", "deny"])), max_size=6)


@given(PEOPLE, st.integers(0, 4))
def test_one_deny_denies_and_a_quorum_of_different_people_approves(people, quorum):
    votes = tuple(Vote("sre", person, verdict, None, None) for person, verdict in people)  # type: ignore[arg-type]
    outcome = outcome_of(votes, quorum)
    if any(verdict == "deny" for _, verdict in people):
        assert outcome == "denied"
    else:
        assert outcome == ("approved" if len({person for person, _ in people}) >= max(1, quorum) else "pending")


def test_nobody_s_approval_is_no_approval():
    assert outcome_of((), 0) == "pending"


def test_the_json_form_is_whole_and_plain(ask_for, vote_of, now):
    approval = Approval("K7Q2M4X9WD", ask_for(), "approved", now, now + timedelta(minutes=15), now, (vote_of("ada"),))
    shown = json.loads(json.dumps(as_json(approval)))
    assert (shown["id"], shown["state"], shown["caller"]) == ("K7Q2M4X9WD", "approved", "shop-ci")
    assert shown["expires_at"] == "2026-11-24T10:30:00.123456+00:00"
    assert shown["votes"] == [
        {"reviewer": "sre", "person": "ada", "verdict": "approve", "at": now.isoformat(), "reason": None}
    ]
