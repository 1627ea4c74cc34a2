"""What a vote does to an approval.

Law: nobody decides a call of their own; a person votes once, and only while the question is open.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from coatcheck.approvals.model import MAX_REASON, Approval, Vote, cut, outcome_of

CLOCK_SKEW = timedelta(minutes=1)
"""How far the clocks of several gateways and of the command line may lie apart."""


def why_not_counted(approval: Approval, vote: Vote, *, now: datetime) -> str | None:
    """Why the vote does not count, as an `ApprovalError` says it; None where it does."""
    question = approval.question
    if approval.state == "expired":
        return "expired"
    if approval.state != "pending":
        return "already decided"
    if not approval.created_at - CLOCK_SKEW <= now < approval.expires_at:
        return "expired"
    if vote.person == question.subject:
        return "own call"
    if vote.reviewer not in question.reviewers:
        return "not a reviewer"
    if any(earlier.person == vote.person for earlier in approval.votes):
        return "already voted"
    return None


def count(approval: Approval, vote: Vote, now: datetime) -> Approval:
    """The approval with a vote that counts, decided where that suffices."""
    reason = None if vote.reason is None else cut(vote.reason, MAX_REASON)
    votes = (*approval.votes, replace(vote, reason=reason))
    state = outcome_of(votes, approval.question.quorum)
    return replace(approval, votes=votes, state=state, decided_at=None if state == "pending" else now)


def expire(approval: Approval, now: datetime) -> Approval:
    """The approval, over without an answer."""
    return replace(approval, state="expired", decided_at=approval.decided_at or now)
