"""The report: medians over the rounds, and ratios to bare `mitmdump` round by round.

Law: a ratio compares two windows of the same round; its median over the rounds is what is reported.
"""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench_lib.measure import Measured
from bench_lib.subjects import BARE, DIRECT

GOAL = 1.2
"""Requests per second of the gateway over those of bare `mitmdump`: 1 KB calls, kept connections."""
FIRST_EVENT_GOAL_MS = 5.0
"""How much later than without a proxy the first event may arrive."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One window's numbers; `us_per_request` is None without a proxy, the delays without events."""

    round: int
    case: str
    subject: str
    answers: int
    requests_per_second: float
    us_per_request: float | None
    p50_ms: float
    p99_ms: float
    first_event_ms: float | None
    worst_event_ms: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One subject in one case: medians over the rounds.

    `speed` is its requests per second over those of bare `mitmdump`; `cost` its CPU time a request over
    that of bare `mitmdump`; `first_event_late_ms` is its first event's delay less that without a proxy.
    Each is None where there is nothing to compare with.
    """

    case: str
    subject: str
    requests_per_second: float
    us_per_request: float | None
    p50_ms: float
    p99_ms: float
    first_event_ms: float | None
    worst_event_ms: float | None
    speed: float | None
    cost: float | None
    first_event_late_ms: float | None


def quantile(values: Sequence[int], share: float) -> float:
    """The value at `share` of the sorted values (nearest rank). `values` is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def to_sample(measured: Measured, *, turn: int, case: str, subject: str) -> Sample:
    """The numbers of one window."""
    window = measured.window
    answers = len(window.latencies)
    first = window.first_event_delays
    return Sample(
        round=turn,
        case=case,
        subject=subject,
        answers=answers,
        requests_per_second=answers / measured.seconds,
        us_per_request=None if measured.cpu_seconds is None else measured.cpu_seconds / answers * 1e6,
        p50_ms=quantile(window.latencies, 0.5) / 1e6,
        p99_ms=quantile(window.latencies, 0.99) / 1e6,
        first_event_ms=statistics.median(first) / 1e6 if first else None,
        worst_event_ms=max(window.event_delays) / 1e6 if window.event_delays else None,
    )


def to_rows(samples: Sequence[Sample]) -> list[Row]:
    """One row for each case and subject, in the order they were first measured by name."""
    cases = sorted({sample.case for sample in samples}, key=lambda name: (name.split()[0], len(name), name))
    names = sorted({sample.subject for sample in samples}, key=lambda name: (name != DIRECT, name != BARE, name))
    return [to_row(samples, case, name) for case in cases for name in names]


def to_row(samples: Sequence[Sample], case: str, subject: str) -> Row:
    """The medians of one subject in one case."""
    by_round = {(s.subject, s.round): s for s in samples if s.case == case}
    own = [sample for (name, _), sample in by_round.items() if name == subject]

    def median(read: Callable[[Sample], float | None]) -> float | None:
        values = [value for sample in own if (value := read(sample)) is not None]
        return statistics.median(values) if values else None

    def against(other: str, read: Callable[[Sample, Sample], float | None]) -> float | None:
        pairs = [(sample, by_round.get((other, sample.round))) for sample in own if subject != other]
        values = [value for one, two in pairs if two is not None and (value := read(one, two)) is not None]
        return statistics.median(values) if values else None

    return Row(
        case=case,
        subject=subject,
        requests_per_second=statistics.median(s.requests_per_second for s in own),
        us_per_request=median(lambda s: s.us_per_request),
        p50_ms=statistics.median(s.p50_ms for s in own),
        p99_ms=statistics.median(s.p99_ms for s in own),
        first_event_ms=median(lambda s: s.first_event_ms),
        worst_event_ms=median(lambda s: s.worst_event_ms),
        speed=against(BARE, lambda one, two: one.requests_per_second / two.requests_per_second),
        cost=against(BARE, lambda one, two: _over(one.us_per_request, two.us_per_request)),
        first_event_late_ms=against(DIRECT, lambda one, two: _less(one.first_event_ms, two.first_event_ms)),
    )


def to_text(samples: Sequence[Sample], *, pinned: bool) -> str:
    """The table, one line a subject, and what it is measured on."""
    rounds = len({sample.round for sample in samples})
    where = "proxies on a core of their own" if pinned else "not pinned: one core, or not allowed"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    heads = ("case", "subject", "req/s", "us/req", "p50 ms", "p99 ms", "speed", "cost", "1st event ms", "late ms")
    lines = [
        f"{python}, {os.cpu_count()} cores, {rounds} rounds; {where}",
        "medians over rounds; speed and cost: ratios to bare mitmdump in the same round",
        "",
        _line(heads),
        *(_line(_cells(row)) for row in to_rows(samples)),
    ]
    return "\n".join(lines)


def to_json(samples: Sequence[Sample], *, pinned: bool) -> str:
    """Everything: where it ran, the rows, and each window."""
    document = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "pinned": pinned,
        "goals": {"speed": GOAL, "first_event_late_ms": FIRST_EVENT_GOAL_MS},
        "rows": [asdict(row) for row in to_rows(samples)],
        "samples": [asdict(sample) for sample in samples],
    }
    return json.dumps(document, indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (
        (row.requests_per_second, 0),
        (row.us_per_request, 0),
        (row.p50_ms, 2),
        (row.p99_ms, 2),
        (row.speed, 2),
        (row.cost, 2),
        (row.first_event_ms, 2),
        (row.first_event_late_ms, 2),
    )
    return (row.case, row.subject, *("-" if value is None else f"{value:.{places}f}" for value, places in numbers))


def _line(cells: Sequence[str]) -> str:
    widths = (11, 11, 8, 7, 8, 8, 7, 6, 13, 9)
    first = "".join(cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True))
    return first + "".join(cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True))


def _over(one: float | None, two: float | None) -> float | None:
    return None if one is None or not two else one / two


def _less(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one - two
