"""Two echoing servers and the real gateway before them, with mitmweb."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside the tests; the suite has no packages

from forms import Watch
from stage import Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything running: issuer, servers, mitmweb as the gateway. What it leaves behind is searched at its end."""
    with Stage(tmp_path_factory.mktemp("canary")) as stage:
        yield stage
        stage.gateway.stop()
        watch = Watch(*stage.values.values())
        assert {where: found for where, data in stage.kept() if (found := watch.sightings(data))} == {}
