from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 10, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def fill(folder: Path, clock: Clock) -> Callable[..., Path]:
    """Writes records one by one and closes; a second time goes on where the first ended. Returns the last file."""
    from coatcheck.journal.encoding import encode_fields
    from coatcheck.journal.files import in_order
    from coatcheck.journal.tape import Tape

    def fill(*texts: str, kind: str = "request") -> Path:
        tape = Tape(folder)
        tape.open(clock())
        for text in texts:
            tape.append([(kind, encode_fields({"text": text}))], clock())
        tape.close()
        return in_order(folder)[-1].path

    return fill
