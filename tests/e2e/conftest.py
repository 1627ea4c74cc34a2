"""The story's cast with a running gateway, once a module."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from story.cast import Cast
from story.processes import Gateway


@dataclass(frozen=True, slots=True)
class Stage:
    """A cast and its gateway, running."""

    cast: Cast
    gateway: Gateway

    @property
    def token(self) -> str:
        """A good token of the identity `shop-ci`."""
        return self.cast.token()


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    """Issuer, shop, policy and state; no gateway yet."""
    with Cast(tmp_path_factory.mktemp("cast"), stateless=True) as cast:
        cast.make_state()
        yield cast


@pytest.fixture(scope="module")
def stage(cast: Cast) -> Iterator[Stage]:
    """The gateway by `mitmdump -s addons/gateway.py`."""
    with cast.gateway() as gateway:
        yield Stage(cast, gateway)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cast]:
    """A cast of its own, for tests that spoil it."""
    with Cast(tmp_path, stateless=True) as cast:
        cast.make_state()
        yield cast
