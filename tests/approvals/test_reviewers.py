import pytest

from coatcheck.approvals.model import Approval
from coatcheck.approvals.reviewers import local_reviewer, may_decide, mitmweb_reviewer
from coatcheck.policy.model import Reviewer

REVIEWERS = {
    "sre": Reviewer("sre", issuer="corp", claims={"groups": "sre"}),
    "support": Reviewer("support", local=("ada", "bob")),
    "console": Reviewer("console", mitmweb="cleo"),
    "other": Reviewer("other", local=("ada",)),
    "nobody": Reviewer("nobody"),
}


@pytest.mark.parametrize(
    ("reviewer", "person", "may"),
    [
        pytest.param("sre", "subject-1", True, id="by token, whoever it was verified for"),
        pytest.param("sre", "", False, id="by token, of nobody"),
        pytest.param("support", "bob", True, id="a local account that is listed"),
        pytest.param("support", "eve", False, id="a local account that is not"),
        pytest.param("console", "cleo", True, id="the person at mitmweb"),
        pytest.param("console", "ada", False, id="another person at mitmweb"),
        pytest.param("other", "ada", False, id="a reviewer the question does not name"),
        pytest.param("gone", "ada", False, id="a reviewer the policy has no more"),
        pytest.param("nobody", "ada", False, id="a reviewer without a proof"),
    ],
)
def test_only_a_reviewer_of_the_question_and_the_policy_may_decide(ask_for, vote_of, now, reviewer, person, may):
    question = ask_for(reviewers=("sre", "support", "console", "gone", "nobody"))
    approval = Approval("K7Q2M4X9WD", question, "pending", now, now)
    assert may_decide(REVIEWERS, approval, vote_of(person, reviewer=reviewer)) is may


@pytest.mark.parametrize(
    ("names", "account", "found"),
    [
        pytest.param(("sre", "support"), "ada", "support", id="listed"),
        pytest.param(("other", "support"), "ada", "other", id="the first of two"),
        pytest.param(("sre", "support"), "eve", None, id="not listed"),
        pytest.param(("gone",), "ada", None, id="a name the policy has no more"),
        pytest.param((), "ada", None, id="no names"),
    ],
)
def test_a_local_account_is_found_among_the_names_asked(names, account, found):
    assert local_reviewer(REVIEWERS, names, account) == found


def test_the_person_at_mitmweb_is_found_among_the_names_asked():
    assert mitmweb_reviewer(REVIEWERS, ("sre", "console")) == REVIEWERS["console"]
    assert mitmweb_reviewer(REVIEWERS, ("sre", "gone")) is None
