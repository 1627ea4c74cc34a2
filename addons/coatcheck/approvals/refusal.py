"""What a caller is told whose call was not approved (DESIGN 5.4)."""

from dataclasses import dataclass

from coatcheck.approvals.model import Approval, ApprovalState
from coatcheck.errors import (
    APPROVAL_DENIED,
    APPROVAL_EXPIRED,
    APPROVAL_PENDING,
    GATEWAY_FAULT,
    CoatcheckError,
    JournalError,
    Refusal,
)


@dataclass(frozen=True, slots=True)
class _Told:
    reason: str
    message: str
    code: int
    retryable: bool = False


_USED = _Told("approval-used", "this approval was used by an earlier request", APPROVAL_DENIED)
_BY_STATE: dict[ApprovalState, _Told] = {
    "pending": _Told("approval-pending", "waiting for a reviewer", APPROVAL_PENDING, retryable=True),
    "denied": _Told("approval-denied", "a reviewer denied this call", APPROVAL_DENIED),
    "expired": _Told("approval-expired", "no reviewer decided in time", APPROVAL_EXPIRED),
    "used": _USED,
    "approved": _USED,  # approved, but another request of the same call was first
    "withdrawn": _Told("approval-withdrawn", "the question was withdrawn", APPROVAL_DENIED),
}


def refusal_for(approval: Approval, state: ApprovalState) -> Refusal:
    """The refusal of a call whose approval stands at `state`. HTTP 200, so that every MCP client shows it."""
    told, question = _BY_STATE[state], approval.question
    return Refusal(
        told.reason,
        f"{told.message}: {question.message}" if question.message else told.message,
        status=200,
        code=told.code,
        rule=question.rules[0] if question.rules else None,
        approval=approval.id,
        retryable=told.retryable,
    )


def unavailable(error: CoatcheckError) -> Refusal:
    """The refusal (503, to be tried again) of a call that cannot be asked about now: its `error` is the operator's."""
    if isinstance(error, JournalError):
        reason, message = "journal-unavailable", "the journal cannot be written, so nothing is sent"
    else:
        reason, message = "approvals-unavailable", "approvals cannot be stored at the moment, so nothing is sent"
    return Refusal(reason, message, status=503, code=GATEWAY_FAULT, retryable=True)
