"""The best moment to hand gathered work to a thread: at once where the loop has time, together where it has none.

Law: what was asked for is rung for once or more after it was asked: before the loop waits, and after `at_most` seconds
of the loop's work.

Each ring costs two threads their turns of the processor and of the interpreter. A loop that waits between requests
pays that once a request, and the disk works while the loop goes on; one that never waits gathers instead, as databases
gather commits in groups.
"""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from selectors import BaseSelector, SelectorKey

WAITED_SECONDS = 30e-6
"""What looks for events and takes longer has waited for them."""

type _Events = list[tuple[SelectorKey, int]]


class WhenIdle:
    """Calls `ring` for what `ask` asked, from the loop's own thread; both are quick and never raise.

    asyncio says nowhere that it is about to wait, so this stands before the selector that `loop` waits in: a timeout
    of zero means that more is ready to run. For a loop without a selector, `ring` is called at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None], *, at_most: float) -> None:
        self._ring = ring
        self._at_most = at_most
        self._until: float | None = None
        self._has_waited = True
        selector = getattr(loop, "_selector", None)
        self._is_told = isinstance(selector, BaseSelector)
        if isinstance(selector, BaseSelector):
            selector.select = partial(self._before_waiting, selector.select)  # type: ignore[method-assign]

    def ask(self) -> None:
        """Asks for a ring. From the loop's own thread."""
        if not self._is_told:
            self._ring()
        elif self._has_waited:
            self._has_waited = False
            self._ring()
            os.sched_yield()  # lets the thread get as far as the disk, which then works while this one does
        elif self._until is None:
            self._until = time.monotonic() + self._at_most

    def _before_waiting(self, select: Callable[[float | None], _Events], timeout: float | None = None) -> _Events:
        """In place of the selector's own `select`."""
        if self._until is None:  # nobody hangs on this wait: it is enough to know of it afterwards
            began = time.monotonic()
            events = select(timeout)
            self._has_waited |= time.monotonic() - began > WAITED_SECONDS
            return events
        if timeout == 0:
            if time.monotonic() >= self._until:
                self._ring_now()
        elif events := select(0):
            return events
        else:
            self._has_waited = True
            self._ring_now()
        return select(timeout)

    def _ring_now(self) -> None:
        self._until = None
        self._ring()
