"""Rings come before the loop waits, and are few while it does not."""

import asyncio
import selectors
import threading

import pytest

from coatcheck.journal.idle import WhenIdle


class Bell:
    """Counts its rings, and can be waited for."""

    def __init__(self) -> None:
        self.rings = 0
        self.has_rung = threading.Event()

    def __call__(self) -> None:
        self.rings += 1
        self.has_rung.set()


@pytest.fixture
def bell() -> Bell:
    return Bell()


def busy(bell: Bell) -> WhenIdle:
    """Of the running loop, which has rung for one and has not waited since: until its caller awaits, at least."""
    idle = WhenIdle(asyncio.get_running_loop(), bell, at_most=60)
    idle.ask()
    bell.rings = 0
    bell.has_rung.clear()
    return idle


async def test_a_loop_that_has_waited_rings_at_once(bell):
    WhenIdle(asyncio.get_running_loop(), bell, at_most=60).ask()
    assert bell.rings == 1


async def test_a_loop_that_never_waits_gathers(bell):
    idle = busy(bell)
    for _ in range(20):
        idle.ask()
        await asyncio.sleep(0)
    assert bell.rings == 0


async def test_what_was_gathered_is_rung_for_before_the_loop_waits(bell):
    idle = busy(bell)
    idle.ask()
    assert bell.rings == 0
    await asyncio.to_thread(bell.has_rung.wait, 30)
    assert bell.rings == 1


async def test_the_next_after_the_loop_waited_is_rung_for_at_once(bell):
    idle = busy(bell)
    idle.ask()
    await asyncio.to_thread(bell.has_rung.wait, 30)
    idle.ask()
    assert bell.rings == 2


async def test_a_wait_with_nothing_gathered_counts_too(bell):
    idle = busy(bell)
    await asyncio.sleep(0.001)
    idle.ask()
    assert bell.rings == 1


async def test_a_loop_that_never_waits_rings_when_the_time_is_over(bell):
    idle = WhenIdle(asyncio.get_running_loop(), bell, at_most=0)
    idle.ask()
    idle.ask()
    assert bell.rings == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bell.rings == 2


async def test_a_loop_that_was_not_asked_anything_rings_nothing(bell):
    WhenIdle(asyncio.get_running_loop(), bell, at_most=0)
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    assert bell.rings == 0


async def test_two_of_one_loop_both_ring(bell):
    idle = busy(bell)
    other = Bell()
    second = WhenIdle(asyncio.get_running_loop(), other, at_most=60)
    second.ask()
    second.ask()
    idle.ask()
    await asyncio.to_thread(bell.has_rung.wait, 30)
    assert (bell.rings, other.rings) == (1, 2)


def test_a_loop_without_a_selector_rings_at_once(bell):
    class Other:
        _selector = None

    idle = WhenIdle(Other(), bell, at_most=60)  # type: ignore[arg-type]
    for _ in range(3):
        idle.ask()
    assert bell.rings == 3


def test_asyncio_waits_in_the_selector_that_this_stands_before():
    """Were it elsewhere in a later Python, every ring would come at once: right, and slower."""
    loop = asyncio.new_event_loop()
    try:
        assert isinstance(loop._selector, selectors.BaseSelector)
    finally:
        loop.close()
