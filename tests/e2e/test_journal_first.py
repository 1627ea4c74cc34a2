"""Written before sent: where the journal cannot be written, nothing leaves."""

import shutil

import pytest
from raw import RawClient
from test_fail_closed import MODERN, modern_call

pytestmark = pytest.mark.e2e


def test_a_journal_that_cannot_be_written_lets_nothing_leave(fresh) -> None:
    body = modern_call("get_order", {"order_id": "J"})
    with fresh.gateway() as gateway:
        with RawClient(gateway, fresh) as client:
            assert client.tunnel(fresh.token()).post(body, **MODERN).status == 200
        before = fresh.executed()
        assert len(before) == 1
        shutil.rmtree(fresh.state / "journal")
        with RawClient(gateway, fresh) as client:
            reply = client.tunnel(fresh.token()).post(body, **MODERN)
        assert reply.status == 503
        assert reply.reason_code == "journal-unavailable"
        assert fresh.executed() == before
        gateway.kill()
