"""Who may decide: the policy's reviewers against a vote.

Law: only a reviewer that the question names, and that the policy of now still has, may decide.
"""

from collections.abc import Mapping, Sequence

from coatcheck.approvals.model import Approval, Vote
from coatcheck.policy.model import Reviewer


def may_decide(policy_reviewers: Mapping[str, Reviewer], approval: Approval, vote: Vote) -> bool:
    """Whether the vote's reviewer is one of the question's and in the policy, and its person fits that reviewer.

    For a reviewer by token the person is whoever the token was verified for; the caller of this has done that.
    """
    reviewer = policy_reviewers.get(vote.reviewer)
    if reviewer is None or vote.reviewer not in approval.question.reviewers:
        return False
    if reviewer.local:
        return vote.person in reviewer.local
    if reviewer.mitmweb is not None:
        return vote.person == reviewer.mitmweb
    return reviewer.issuer is not None and bool(vote.person)


def local_reviewer(reviewers: Mapping[str, Reviewer], names: Sequence[str], account: str) -> str | None:
    """The first of `names` whose `local` lists the operating-system account."""
    return next((name for name in names if name in reviewers and account in reviewers[name].local), None)


def mitmweb_reviewer(reviewers: Mapping[str, Reviewer], names: Sequence[str]) -> Reviewer | None:
    """The first of `names` that is the person at mitmweb."""
    return next((reviewers[name] for name in names if name in reviewers and reviewers[name].mitmweb is not None), None)
