"""Forget ended: mitmweb shows the newest calls, not every call since the start.

Law: a flow that has not ended stays, however many there are: held calls and open streams are not taken from view.
Law: of those that ended, the newest stay: at most so many, and at most so many bytes of bodies.

mitmweb keeps every flow for ever, and each keeps its exchange. A flow that is taken out while its last hook runs is
killed, so it happens here, from outside; the recordings keep what was said.
"""

import asyncio
from collections.abc import Iterable

from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow

LOOK_SECONDS = 1.0
MOST_BYTES = 64 * 1024 * 1024
"""Bytes of bodies that the ended flows in view may have together; the newest of them stays whatever it has."""

AT_ONCE = 100
"""Flows taken out between two turns of the event loop: each is told to every browser that looks on."""


class ForgetEnded:
    """Keeps at most `most` ended flows in `view`; 0 keeps none."""

    def __init__(self, view: View, most: int) -> None:
        self._view = view
        self._most = most

    async def run(self) -> None:
        """Runs for the gateway's life."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """One look: takes out what is too much, the oldest first."""
        surplus = self.surplus(self._view.resolve("@all"))
        for start in range(0, len(surplus), AT_ONCE):
            for flow in surplus[start : start + AT_ONCE]:
                self._view.remove([flow])  # one at a time: of several mitmproxy writes to the log
            await asyncio.sleep(0)

    def surplus(self, flows: Iterable[Flow]) -> list[Flow]:
        """Of `flows`, the oldest first, those that are to go."""
        ended = [flow for flow in flows if not flow.live]
        size, kept = 0, 0
        for flow in reversed(ended):
            size += _size(flow)
            if kept == self._most or (kept and size > MOST_BYTES):
                break
            kept += 1
        return ended[: len(ended) - kept]


def _size(flow: Flow) -> int:
    if not isinstance(flow, HTTPFlow):
        return 0
    answer = flow.response
    return len(flow.request.raw_content or b"") + (len(answer.raw_content or b"") if answer else 0)
