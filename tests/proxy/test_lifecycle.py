"""How the gateway begins: its own faults end it, those of who connects do not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mitmproxy.addons.errorcheck import ErrorCheck
from mitmproxy.test import taddons

from coatcheck.proxy.lifecycle import _end_error_check

logger = logging.getLogger("mitmproxy.proxy")


@contextmanager
def starting() -> Iterator[ErrorCheck]:
    """mitmproxy's check, in a master: made in the test itself, as it hears nothing from elsewhere in tests."""
    with taddons.context(loadcore=False) as context:
        check = ErrorCheck()
        context.master.addons.add(check)
        yield check
        check.finish()


async def test_an_error_before_anybody_can_connect_ends_the_start() -> None:
    with starting():
        logger.error("an addon cannot be loaded")
        with pytest.raises(SystemExit):
            await _end_error_check()


async def test_an_error_of_who_connects_does_not() -> None:
    with starting() as check:
        await _end_error_check()
        logger.error("a page is missing")
        await check.shutdown_if_errored()
