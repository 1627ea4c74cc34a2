"""Held: one flow that waits for a reviewer, and how mitmproxy is made to let it go."""

import asyncio
from dataclasses import dataclass, field

from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http

from coatcheck.approvals.model import Approval, ApprovalState
from coatcheck.exchange import Digest
from coatcheck.proxy.digest import digest_of


@dataclass(eq=False, slots=True)
class Held:
    """One flow that waits."""

    flow: http.HTTPFlow
    approval: Approval
    shown: Digest
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    state: ApprovalState = "pending"
    has_left: bool = False
    was_edited: bool = False

    def settle(self, state: ApprovalState) -> None:
        """Ends the wait."""
        self.state = state
        self.settled.set()


def is_as_shown(held: Held) -> bool:
    """Whether the request is still the one that its reviewers are shown."""
    try:
        return digest_of(held.flow.request) == held.shown
    except ValueError:  # an edit that cannot be sent at all
        return False


def let_go(flow: http.HTTPFlow) -> None:
    """Makes a held flow go on, also one that was killed in mitmweb."""
    if flow.error is not None and flow.error.msg == mitmproxy_flow.Error.KILLED_MESSAGE:
        flow.error = None
        flow.live = True
    flow.marked = ""
    flow.resume()
