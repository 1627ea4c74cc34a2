"""The rounds: every case of every subject once a round, in a new order each time.

Law: nothing is compared across runs; what disturbs the machine disturbs all subjects alike.

    scripts/bench [--rounds N] [--seconds S] [--subjects direct,bare,coatcheck] [--json]
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench_lib import report
from bench_lib.load import BenchError, Tool
from bench_lib.measure import measure
from bench_lib.subjects import BARE, COATCHECK, DIRECT, SUBJECTS, Cores, Subject, running, split_cores
from story.part import StoryError, end_in_order


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of traffic over so many kept connections: http in absolute form, or https in a tunnel."""

    name: str
    transport: Literal["http", "https"]
    tool: Tool
    connections: int


CASES = (
    Case("http c1", "http", "lookup", 1),
    Case("http c16", "http", "lookup", 16),
    Case("https c1", "https", "lookup", 1),
    Case("https c16", "https", "lookup", 16),
    Case("events c1", "https", "follow", 1),
)


def measure_rounds(subjects: Mapping[str, Subject], *, rounds: int, seconds: float) -> Iterator[report.Sample]:
    """All windows, one after the other. Raises `BenchError` naming the window that went wrong."""
    for turn in range(rounds):
        windows = [(case, subject) for case in CASES for subject in subjects.values()]
        random.shuffle(windows)
        for case, subject in windows:
            way = subject.tls if case.transport == "https" else subject.plain
            try:
                measured = asyncio.run(
                    measure(way, case.tool, connections=case.connections, seconds=seconds, pid=subject.pid)
                )
            except (BenchError, TimeoutError) as error:
                raise BenchError(f"{subject.name}, {case.name}: {error or 'timed out'}") from error
            yield report.to_sample(measured, turn=turn, case=case.name, subject=subject.name)


def run(arguments: argparse.Namespace, cores: Cores) -> list[report.Sample]:
    """Starts everything, measures, ends everything. Progress goes to a terminal's standard error."""
    samples: list[report.Sample] = []
    total = arguments.rounds * len(CASES) * len(arguments.subjects)
    with (
        tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder,
        running(arguments.subjects, Path(folder), cores) as subjects,
    ):
        for sample in measure_rounds(subjects, rounds=arguments.rounds, seconds=arguments.seconds):
            samples.append(sample)
            if sys.stderr.isatty():
                print(f"\rbench: {len(samples)} of {total} windows ", end="", file=sys.stderr, flush=True)
    return samples


def subject_names(text: str) -> list[str]:
    """The subjects asked for, each once. Raises `ArgumentTypeError` for an unknown one."""
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in SUBJECTS]:
        raise argparse.ArgumentTypeError(f"no subject {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    return names


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the gateway against bare mitmdump.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds a window (2)")
    parser.add_argument(
        "--subjects",
        type=subject_names,
        default=[DIRECT, BARE, COATCHECK],
        help="direct,bare,coatcheck; with bare-again, bare against itself shows the machine's noise",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    end_in_order()
    cores = split_cores()
    if cores.others:
        os.sched_setaffinity(0, cores.others)
    try:
        samples = run(arguments, cores)
    except (BenchError, StoryError) as error:
        sys.exit(f"error: {error}")
    pinned = bool(cores.proxy)
    print(report.to_json(samples, pinned=pinned) if arguments.json else report.to_text(samples, pinned=pinned))


if __name__ == "__main__":
    main()
