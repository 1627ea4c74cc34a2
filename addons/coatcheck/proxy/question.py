"""What reviewers are asked about one held exchange, and shown of it.

Law: reviewers see arguments as the caller's own answers are shown: masked (P5).
"""

import hashlib

from coatcheck.approvals.model import Question
from coatcheck.exchange import Digest, Exchange
from coatcheck.masking.masker import Masker
from coatcheck.policy import decision as decisions
from coatcheck.proxy.shown_call import shown_call


def question_of(exchange: Exchange, decision: decisions.Hold, shown: Digest, masker: Masker, path: str) -> Question:
    """The question about an exchange with a caller and a server. `shown`: the digest of the request as it is now;
    `path`: its path, with the query.
    """
    query = _query_beside(exchange, path)
    assert exchange.caller is not None
    assert exchange.server is not None
    return Question(
        caller=exchange.caller.name,
        issuer=exchange.caller.issuer,
        subject=exchange.caller.subject,
        server=exchange.server.name,
        call_title=", ".join(call.title for call in exchange.calls),
        call_digest=_calls_digest(exchange, query),
        request_digest=shown.hex(),
        arguments=shown_call(exchange.calls, body_of(exchange), masker, query),
        rules=tuple(decision.rules),
        reviewers=decision.reviewers,
        quorum=decision.quorum,
        message=decision.message,
        policy=exchange.policy.sha256,
    )


def body_of(exchange: Exchange) -> bytes:
    """The body as it may leave."""
    return exchange.inspected.body if exchange.inspected is not None else b""


def _query_beside(exchange: Exchange, path: str) -> str:
    """The query of an MCP server's URL: some choose by it what a call is about, as a project, or reading only. That of
    a message endpoint (2024-11-05) names the session.
    """
    return path.partition("?")[2] if exchange.is_mcp and exchange.endpoint is None else ""


def _calls_digest(exchange: Exchange, query: str) -> str:
    """What an approval is for: the call's digest; for a batch or beside a query, the SHA-256 of what there is."""
    digests = [call.digest for call in exchange.calls]
    if len(digests) == 1 and not query:
        return digests[0]
    return hashlib.sha256("?".join(["".join(digests), *([query] if query else [])]).encode()).hexdigest()
