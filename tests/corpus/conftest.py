"""The ground of the attacks, once a session, with a gateway on it, once a module."""

from collections.abc import Iterator

import pytest
from ground import Ground


def pytest_configure(config: pytest.Config) -> None:
    """Registers the mark that names what a test shows."""
    config.addinivalue_line("markers", "attack(*ids): the attacks a test shows; see cases.py")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Servers, issuer, policy and state; no gateway yet."""
    with Ground(tmp_path_factory.mktemp("ground")) as ground:
        yield ground


@pytest.fixture(scope="module")
def ground(place: Ground) -> Iterator[Ground]:
    """The same with a gateway running."""
    with place.running() as ground:
        yield ground
