"""Decide again: what became of a request while its call was held.

Law: an approval counts for the request that was shown, by a caller who is one still, under the policy as it is now.
"""

from mitmproxy import http

from coatcheck.approvals.model import Question
from coatcheck.errors import APPROVAL_DENIED, Refusal
from coatcheck.exchange import Exchange
from coatcheck.identity.match import match_identity
from coatcheck.identity.verify import trusts_alike
from coatcheck.live import Live, utc_now
from coatcheck.policy import decision as decisions
from coatcheck.proxy.authorize import decide_exchange
from coatcheck.proxy.digest import digest_of
from coatcheck.proxy.inspect import inspect_flow
from coatcheck.proxy.relay import Relay


async def decide_again(
    live: Live, relay: Relay, flow: http.HTTPFlow, exchange: Exchange, shown: bytes, asked: Question
) -> None:
    """Returns where `asked` is still the question, or none has to be asked. Raises `Refusal` (401, 403 or 409)."""
    assert exchange.caller is not None
    assert exchange.server is not None
    caller, now = exchange.caller, utc_now()
    if caller.expires_at <= now:
        raise Refusal.unauthenticated("token-expired", "the token expired while the call was held")
    policy = live.policy
    if policy is not exchange.policy:
        if not trusts_alike(exchange.policy, policy, caller.issuer):
            raise changed("the policy's issuer changed while the call was held", exchange)
        exchange.policy = policy
        server = policy.servers.get(exchange.server.name)
        if server != exchange.server:
            raise changed("the policy's server changed while the call was held", exchange)
        exchange.caller = match_identity(
            policy.identities, policy.issuers, caller.verified, now=now, named=policy.claims_named
        )
    if (reading := inspect_flow(flow, exchange, relay)) is not None:
        await reading
    decision = decide_exchange(exchange)
    who_decides = (decision.reviewers, decision.quorum) if isinstance(decision, decisions.Hold) else None
    if exchange.caller.name != asked.caller or who_decides not in (None, (asked.reviewers, asked.quorum)):
        raise changed("the policy asks for another approval now", exchange)
    if digest_of(flow.request) != shown:
        raise changed("the request was changed while it was held", exchange)


def changed(message: str, exchange: Exchange) -> Refusal:
    """Why an approval does not count any more."""
    return Refusal("changed-while-held", message, status=409, code=APPROVAL_DENIED, approval=exchange.approval)
