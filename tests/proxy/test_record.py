"""What became of an exchange is written down once, when its answer is on its way."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest
from mitmproxy import flow as flows
from mitmproxy.test import tutils

from coatcheck.control.metrics import Metrics
from coatcheck.exchange import Digest, Release
from coatcheck.journal.read import last_records
from coatcheck.journal.writer import JournalWriter
from coatcheck.proxy.maskers import Maskers
from coatcheck.proxy.record import Record
from coatcheck.sessions.recorder import SessionRecorder


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def journal(tmp_path):
    journal = JournalWriter(tmp_path, clock=clock)
    journal.start()
    yield journal
    journal.close()


@pytest.fixture
def record(exchanges, journal, tmp_path) -> Record:
    return Record(exchanges, journal, SessionRecorder(tmp_path, clock=clock), Maskers(bytes(32)), Metrics())


@pytest.fixture
def answered(flow, exchange_of):
    """A flow that was released, and has its answer."""
    exchange = exchange_of(flow)
    exchange.release = Release(Digest(b""))
    flow.response = tutils.tresp(content=b"here it is")
    flow.live = True
    return flow, exchange


def outcomes(journal: JournalWriter, tmp_path) -> list[str]:
    journal.close()
    return [record["outcome"] for record in last_records(tmp_path, 100) if record["kind"] == "outcome"]


async def test_the_caller_does_not_wait_for_what_is_written(record, answered, journal, tmp_path) -> None:
    flow, exchange = answered
    assert record.response(flow) is None
    assert not exchange.finished
    await asyncio.sleep(0)
    assert exchange.finished
    assert outcomes(journal, tmp_path) == ["answered"]


async def test_who_leaves_with_the_answer_was_answered(record, answered, journal, tmp_path) -> None:
    flow, _ = answered
    record.response(flow)
    flow.error = flows.Error("client disconnected")
    record.error(flow)
    await asyncio.sleep(0)
    assert outcomes(journal, tmp_path) == ["answered"]


async def test_who_leaves_without_an_answer_has_left(record, answered, journal, tmp_path) -> None:
    flow, _ = answered
    flow.error = flows.Error("client disconnected")
    record.error(flow)
    assert outcomes(journal, tmp_path) == ["client-left"]


async def test_what_cannot_be_recorded_is_told_and_nothing_of_it_quoted(record, answered, caplog) -> None:
    class Broken:
        session = "-"

        def response(self, *_given: object) -> None:
            raise ValueError("here it is")

    flow, exchange = answered
    exchange.recording = Broken()
    with caplog.at_level(logging.ERROR):
        record.response(flow)
        await asyncio.sleep(0)
    assert exchange.finished
    assert "ValueError" in caplog.text
    assert "here it is" not in caplog.text
