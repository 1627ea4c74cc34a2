"""What the gateway writes, kind by kind: the fields of each record, named in one place.

Law: no argument, body, token or secret value enters a record; digests and names do.
Law: the fields of a kind and their order change only by adding at the end.

The kinds: `request` (before a request is forwarded), `outcome` (when it is over), `refusal` (a request that is not
served), `approval` (each step of one), `pin` (a tool seen first, changed or accepted), `token` (a session token given
or taken back), `lifecycle` (of the gateway).
The journal's own are `file`, the link to the file before, and `gap`, what could not be written.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, assert_never

from coatcheck.approvals.model import Approval, Vote
from coatcheck.errors import Refusal
from coatcheck.identity.caller import Caller
from coatcheck.identity.session_store import IssuedToken
from coatcheck.journal.chain import timestamp
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.tasks import TaskOrigin
from coatcheck.policy.decision import Allow, Decision, Deny, Hold

RUN_CLAIMS = (
    # GitHub Actions
    "repository",
    "run_id",
    "run_attempt",
    "job_workflow_ref",
    "ref",
    "sha",
    "actor",
    "event_name",
    "environment",
    # GitLab CI
    "project_path",
    "pipeline_id",
    "job_id",
    "user_login",
    # CircleCI, Buildkite, Kubernetes, OAuth clients
    "oidc.circleci.com/project-id",
    "pipeline_slug",
    "build_number",
    "kubernetes.io",
    "azp",
    "client_id",
)
"""The claims that tell one run from another; those a token has are recorded."""

type OutcomeName = Literal["answered", "refused", "server-failed", "client-left", "fault"]
type ApprovalEvent = Literal["asked", "voted", "approved", "denied", "expired", "withdrawn", "used"]
type PinEvent = Literal["first-seen", "changed", "as-pinned", "look-alike", "accepted", "pinned", "forgotten"]
type LifecycleEvent = Literal["started", "stopped", "policy-loaded", "policy-refused", "recording-lost"]


def request_record(
    *,
    exchange: str,
    caller: Caller | None,
    server: str | None,
    calls: Sequence[Call],
    decision: Decision,
    policy: str,
    target: str,
    approval: str | None,
    secrets: Sequence[str],
    digest: str,
    opened_by: Caller | None = None,
    observed: Decision | None = None,
    shadow: Decision | None = None,
    made_task: TaskOrigin | None = None,
) -> dict[str, Json]:
    """A request about to be forwarded: who, what, under which rules of which policy, who approved it.

    `policy` is the policy's SHA-256, `secrets` the names of what will be put in, `digest` the release's;
    `opened_by` opened the tunnel it came in, where that was another than the caller. `observed` is what would have
    been decided, of a gateway that only observes; `shadow` what would have been if the shadow rules acted, where that
    is something else. `made_task` is the call that made the task which the request is about.
    """
    origin: Json = None
    if made_task is not None:
        origin = {"exchange": made_task.exchange, "method": made_task.method, "name": made_task.name}
    return {
        "exchange": exchange,
        "caller": None if caller is None else _caller(caller),
        "server": server,
        "target": target,
        "calls": [{"method": call.method, "name": call.name, "digest": call.digest} for call in calls],
        "decision": _decision(decision),
        "policy": policy,
        "approval": approval,
        "secrets": list(secrets),
        "digest": digest,
        "opened_by": None if opened_by is None else _caller(opened_by),
        **_beside("observed", observed),
        **_beside("shadow", shadow),
        **({} if origin is None else {"made_task": origin}),
    }


def outcome_record(
    *,
    exchange: str,
    status: int | None,
    outcome: OutcomeName,
    milliseconds: float,
    masked: Mapping[str, int],
    scrubbed: Mapping[str, int],
    bytes_sent: int,
    session: str | None,
) -> dict[str, Json]:
    """How a request ended. `masked` counts by mask, `scrubbed` by secret's name;
    `bytes_sent` went to the caller; `session` is the recording it is in.
    """
    return {
        "exchange": exchange,
        "outcome": outcome,
        "status": status,
        "milliseconds": round(milliseconds, 3),
        "masked": dict(masked),
        "scrubbed": dict(scrubbed),
        "bytes_sent": bytes_sent,
        "session": session,
    }


def refusal_record(
    *,
    exchange: str,
    caller: Caller | None,
    target: str,
    refusal: Refusal,
    policy: str | None,
    shadow: Decision | None = None,
    was_served: bool = False,
    asked: str | None = None,
) -> dict[str, Json]:
    """A request that is not served, and why. The refusal's message is for its caller and is left out.

    `token_id` and `run` tell the caller's jobs apart, `shadow` is as in a request's record. `was_served` is true of
    what would not have been, by a gateway that only observes. `asked` is the method of what a server asked of the
    caller in this exchange, where that is what was refused.
    """
    return {
        "exchange": exchange,
        "caller": None if caller is None else caller.name,
        "token_id": None if caller is None else caller.token_id,
        "run": {} if caller is None else run_of(caller.claims),
        "target": target,
        "reason": refusal.reason,
        "rule": refusal.rule,
        "approval": refusal.approval,
        "status": refusal.status,
        "policy": policy,
        **_beside("shadow", shadow),
        **({"was_served": True} if was_served else {}),
        **({"asked": asked} if asked is not None else {}),
    }


def approval_record(
    *, event: ApprovalEvent, approval: Approval, exchange: str | None = None, vote: Vote | None = None
) -> dict[str, Json]:
    """One step of an approval. `vote` is the one that made the step; all votes so far are listed besides."""
    question = approval.question
    return {
        "event": event,
        "approval": approval.id,
        "exchange": exchange,
        "state": approval.state,
        "caller": question.caller,
        "server": question.server,
        "call": question.call_title,
        "call_digest": question.call_digest,
        "request_digest": question.request_digest,
        "rules": list(question.rules),
        "reviewers": list(question.reviewers),
        "quorum": question.quorum,
        "vote": None if vote is None else _vote(vote),
        "votes": [_vote(vote) for vote in approval.votes],
        "policy": question.policy,
    }


def lifecycle_record(
    *,
    event: LifecycleEvent,
    version: str,
    policy: str | None = None,
    details: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The gateway started, stopped, took (or refused) a policy, or could not keep lines of recordings.

    `details` are the event's own.
    """
    return {"event": event, "version": version, "policy": policy, "details": dict(details or {})}


def token_record(*, event: Literal["issued", "revoked"], token: IssuedToken) -> dict[str, Json]:
    """A session token was given to a caller, or taken back; `token_id` is that of the token it was exchanged for,
    `expires` in seconds since 1970.
    """
    return {
        "event": event,
        "session_token": token.jti,
        "identity": token.identity,
        "issuer": token.issuer,
        "subject": token.subject,
        "token_id": token.token_id,
        "expires": token.expires_at,
        "run": dict(token.run),
    }


def pin_record(
    *,
    event: PinEvent,
    server: str,
    tool: str,
    digest: str,
    seen: str | None = None,
    exchange: str | None = None,
    caller: str | None = None,
    approval: str | None = None,
    by: str | None = None,
) -> dict[str, Json]:
    """What became of a tool's pin. `digest` is the pinned definition's SHA-256, `seen` that of what the server says
    where it is another, in the answer of `exchange`; `by` is the account of whoever did it on the command line.
    """
    return {
        "event": event,
        "server": server,
        "tool": tool,
        "digest": digest,
        "seen": seen,
        "exchange": exchange,
        "caller": caller,
        "approval": approval,
        "by": by,
    }


def run_of(claims: Mapping[str, Json]) -> dict[str, Json]:
    """Those of `RUN_CLAIMS` that a token has."""
    return {name: claims[name] for name in RUN_CLAIMS if name in claims}


def _caller(caller: Caller) -> dict[str, Json]:
    exchanged = {} if caller.exchanged is None else {"session_token": caller.exchanged.jti}
    return {
        "name": caller.name,
        "issuer": caller.issuer,
        "subject": caller.subject,
        "token_id": caller.token_id,
        "run": run_of(caller.claims),
        **exchanged,
        **({"claims": dict(caller.named)} if caller.named else {}),
    }


def _decision(decision: Decision) -> dict[str, Json]:
    match decision:
        case Allow():
            return {"effect": "allow", "rules": list(decision.rules)}
        case Hold():
            return {
                "effect": "approve",
                "rules": list(decision.rules),
                "reviewers": list(decision.reviewers),
                "quorum": decision.quorum,
            }
        case Deny():
            return {"effect": "deny", "rules": list(decision.rules), "reason": decision.reason}
        case _:
            assert_never(decision)


def _beside(name: str, decision: Decision | None) -> dict[str, Json]:
    """A member for another decision than the one that was applied; none where there is no other."""
    return {} if decision is None else {name: _decision(decision)}


def _vote(vote: Vote) -> dict[str, Json]:
    return {
        "reviewer": vote.reviewer,
        "person": vote.person,
        "verdict": vote.verdict,
        "at": timestamp(vote.at),
        "reason": vote.reason,
    }
