"""Tests of bench_lib/report.py and rounds.py."""

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_lib.load import Window
from bench_lib.measure import Measured
from bench_lib.report import Sample, quantile, to_json, to_rows, to_sample, to_text
from bench_lib.rounds import subject_names


def sample(turn: int, subject: str, speed: float, us: float | None, first: float | None = None) -> Sample:
    return Sample(turn, "http c1", subject, 100, speed, us, 1.0, 2.0, first, first)


ROUNDS = [
    sample(0, "direct", 10_000, None, 0.1),
    sample(0, "bare", 1000, 900, 50.0),
    sample(0, "coatcheck", 1300, 700, 1.1),
    sample(1, "direct", 9000, None, 0.3),
    sample(1, "bare", 500, 1000, 50.0),
    sample(1, "coatcheck", 600, 800, 2.3),
    sample(2, "bare", 800, 1000),
    sample(2, "coatcheck", 1120, 500),
]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    rows = {row.subject: row for row in to_rows(ROUNDS)}
    assert rows["coatcheck"].speed == pytest.approx(1.3)
    assert rows["coatcheck"].cost == pytest.approx(700 / 900)
    assert rows["coatcheck"].first_event_late_ms == pytest.approx(1.5)
    assert rows["bare"].speed is None
    assert rows["direct"].cost is None


def test_direct_and_bare_come_first():
    assert [row.subject for row in to_rows(ROUNDS[::-1])] == ["direct", "bare", "coatcheck"]


@given(st.floats(0.1, 10), st.lists(st.floats(1, 1e5), min_size=1, max_size=9))
def test_a_disturbance_of_whole_rounds_leaves_the_ratio_alone(ratio: float, speeds: list[float]):
    pairs = [
        (sample(n, "bare", speed, None), sample(n, "coatcheck", speed * ratio, None)) for n, speed in enumerate(speeds)
    ]
    rows = {row.subject: row for row in to_rows([one for pair in pairs for one in pair])}
    assert rows["coatcheck"].speed == pytest.approx(ratio)


def test_a_window_becomes_numbers():
    window = Window(latencies=[3_000_000, 1_000_000, 2_000_000], first_event_delays=[500_000], event_delays=[900_000])
    made = to_sample(Measured(2.0, 0.003, window), turn=0, case="events c1", subject="bare")
    assert made.requests_per_second == 1.5
    assert made.us_per_request == pytest.approx(1000)
    assert (made.p50_ms, made.first_event_ms, made.worst_event_ms) == (2.0, 0.5, 0.9)


@given(st.lists(st.integers(), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values(values: list[int], share: float):
    assert quantile(values, share) in values


def test_the_reports_say_what_they_were_measured_on():
    assert "not pinned" in to_text(ROUNDS, pinned=False)
    assert "1.30" in to_text(ROUNDS, pinned=True)
    document = json.loads(to_json(ROUNDS, pinned=True))
    assert document["pinned"] is True
    assert len(document["samples"]) == len(ROUNDS)


def test_subjects_are_known_names():
    assert subject_names("bare,direct,bare") == ["bare", "direct"]
    with pytest.raises(argparse.ArgumentTypeError, match="no subject 'other'"):
        subject_names("bare,other")
