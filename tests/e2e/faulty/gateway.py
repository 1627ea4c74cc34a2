"""The gateway with one thing broken on purpose, named by COATCHECK_TEST_FAULT: for tests that it then fails closed.

`kill:before:STEP`, `kill:after:STEP` end the process by SIGKILL beside the writing of a step to the journal (an
approval's event, or `request`), and `kill:after:METHOD` after a method of the approvals' store has committed;
`edit` adds an addon that edits requests after their release; `edit-unchecked` also removes the wire gate's
digest check, to show that the check is what stops the edit.
"""

import os
import signal

from mitmproxy import http

from coatcheck import chain
from coatcheck.approvals.store import ApprovalStore
from coatcheck.journal.writer import JournalWriter
from coatcheck.proxy import lifecycle, wire


class EditAfterRelease:
    """What a careless second script could do."""

    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.content = flow.request.content.replace(b"get_order", b"delete_order")


class AnyDigest:
    """Equal to every digest."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


ANY_DIGEST = AnyDigest()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(when: str, step: str) -> None:
    """Ends the process before or after a step is written down, or after it is committed."""
    if committed := getattr(ApprovalStore, step, None):

        def then_die(self, *args, **kwargs):
            committed(self, *args, **kwargs)
            die()

        setattr(ApprovalStore, step, then_die)
        return
    begin = JournalWriter.begin

    def begin_or_die(self, kind, fields):
        is_it = step == (fields["event"] if kind == "approval" else kind)
        if is_it and when == "before":
            die()
        written = begin(self, kind, fields)
        if is_it:
            written.add_done_callback(lambda _: die())  # before whoever waits for it goes on
        return written

    JournalWriter.begin = begin_or_die


def spoil(fault: str) -> None:
    kind, _, where = fault.partition(":")
    if kind == "kill":
        kill_at(*where.split(":"))
    if fault == "edit-unchecked":
        lifecycle.self_test = lambda *_: None  # it would not start
        wire.digest_of = lambda _request: ANY_DIGEST


spoil(os.environ.get("COATCHECK_TEST_FAULT", ""))
addons = [chain.gateway()]
if os.environ.get("COATCHECK_TEST_FAULT", "").startswith("edit"):
    addons.append(EditAfterRelease())
