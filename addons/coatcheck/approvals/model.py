"""An approval: a question about one call, and the votes on it.

Law: a vote is counted once a person; one deny denies; `quorum` different persons approve.
Law: what was decided never changes; it can only be used, once.
"""

import re
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Json

type ApprovalState = Literal["pending", "approved", "denied", "expired", "withdrawn", "used"]
"""`withdrawn`: the client left."""
type Verdict = Literal["approve", "deny"]

MAX_ARGUMENTS = 16 * 1024
"""Characters of arguments kept to show; the digest covers all of them."""
MAX_REASON = 1024
"""Characters of a reviewer's reason."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID = re.compile(rf"[{_ALPHABET}]{{10}}")
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})


class ApprovalError(CoatcheckError):
    """An approval cannot be decided or used as asked. `reason` is a fixed phrase."""

    @property
    def reason(self) -> str:
        """`unknown`, `already decided`, `already voted`, `expired`, `own call`, `not a reviewer`, `not reachable`."""
        return self.problems[0].what


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `arguments` is shown to people: masked, at most 16 KiB, never parsed again.

    `issuer` and `subject` are those of the caller's token; `call_digest` is `Call.digest` (of several calls, or
    with a query beside them, a digest of all) and `request_digest` the whole request's; `rules`, `reviewers` and
    `quorum` come from the decision; `policy` is its SHA-256.
    """

    caller: str
    issuer: str
    subject: str
    server: str
    call_title: str
    call_digest: str
    request_digest: str
    arguments: str
    rules: tuple[str, ...]
    reviewers: tuple[str, ...]
    quorum: int
    message: str | None
    policy: str


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer. `reviewer` is a name in policy; `person` a token's subject, an operating-system
    account, or mitmweb's person.
    """

    reviewer: str
    person: str
    verdict: Verdict
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A question, where it stands, and the votes on it, oldest first. All times are timezone-aware UTC."""

    id: str
    question: Question
    state: ApprovalState
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    votes: tuple[Vote, ...] = ()


def new_id() -> str:
    """Ten characters of Crockford's base 32: 50 random bits, readable aloud."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def canonical_id(text: str) -> str | None:
    """The id as stored, from how people write it (any case, O for 0, I or L for 1, dashes); None where it is none."""
    if len(text) > 40:
        return None
    found = _ID.fullmatch(text.upper().translate(_MISREAD))
    return found[0] if found else None


def as_json(approval: Approval) -> dict[str, Json]:
    """The approval as the control port and the command line print it; times are RFC 3339."""
    question: dict[str, Json] = asdict(approval.question)
    votes: list[Json] = [{**asdict(vote), "at": vote.at.isoformat()} for vote in approval.votes]
    return {
        "id": approval.id,
        "state": approval.state,
        **question,
        "rules": list(approval.question.rules),
        "reviewers": list(approval.question.reviewers),
        "created_at": approval.created_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(),
        "decided_at": None if approval.decided_at is None else approval.decided_at.isoformat(),
        "votes": votes,
    }


def outcome_of(votes: tuple[Vote, ...], quorum: int) -> Literal["pending", "approved", "denied"]:
    """Where the votes leave a question."""
    if any(vote.verdict == "deny" for vote in votes):
        return "denied"
    approving = {vote.person for vote in votes if vote.verdict == "approve"}
    return "approved" if len(approving) >= max(1, quorum) else "pending"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, and how many there were."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
