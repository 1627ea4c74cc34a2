"""`scripts/conformance`: the suite on every way, and a table. Exit 1 unless the ways agree check by check."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conformance_lib.differences import differences, table
from conformance_lib.scene import WAYS, reaching
from conformance_lib.suite import CLIENT_SCENARIOS, SUITES, Check, Suite, install, run_suite
from story.part import StoryError, end_in_order

type Matrix = dict[str, dict[str, Sequence[Check]]]
"""Checks by suite, then by way."""


def run_all(suites: Sequence[Suite], ways: Sequence[str], scenario: str | None, folder: Path) -> Matrix:
    """Every suite on every way; each way is set up once. Raises `StoryError`."""
    found: Matrix = {suite.name: {} for suite in suites}
    for way in ways:
        scene = folder / way
        scene.mkdir(parents=True)
        with reaching(way, scene) as route:
            for suite in suites:
                results = scene / suite.name
                results.mkdir()
                print(f"conformance: {suite.name} {way}", file=sys.stderr, flush=True)
                # one scenario is run by name, which takes the place of a list of requirements
                chosen = ("--scenario", scenario) if scenario else suite.arguments
                arguments = ["--url", route.url, *chosen]
                found[suite.name][way] = run_suite(suite, "server", arguments, results, route.environment)
    return found


def run_clients(suites: Sequence[Suite], ways: Sequence[str], scenario: str | None, folder: Path) -> Matrix:
    """The suite's client scenarios with the SDK's client, each way. Raises `StoryError`."""
    found: Matrix = {}
    for suite in suites:
        chosen = [scenario] if scenario else CLIENT_SCENARIOS[suite.name]
        for way in ways:
            print(f"conformance: {suite.name} client {way}", file=sys.stderr, flush=True)
            results = folder / way / f"{suite.name}-client"
            results.mkdir(parents=True)
            checks: list[Check] = []
            for name in chosen:
                place = results / name
                place.mkdir()
                arguments = ["--command", f"{sys.executable} -m conformance_lib.client", "--scenario", name]
                arguments += [*suite.client_arguments, "--timeout", "60000"]
                checks += run_suite(suite, "client", arguments, place, {"CONFORMANCE_WAY": way})
                if any("StoryError" in file.read_text() for file in place.glob("**/stderr.txt")):
                    raise StoryError(f"{name}: the client did not go the way {way}; see {place}")
            found.setdefault(f"{suite.name} client", {})[way] = checks
    return found


def report(matrix: Matrix) -> tuple[str, bool]:
    """What is printed, and whether all ways agree."""
    parts, agree = [], True
    for suite, results in matrix.items():
        parts.append(table(suite, results))
        found = differences(results)
        agree = agree and not found
        parts += [f"  {one}" for one in found]
        parts.append("")
    return "\n".join(parts), agree


def main() -> None:
    """The command line."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"some of {','.join(WAYS)}; direct comes first")
    parser.add_argument("--suites", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--scenario", help="one scenario only")
    parser.add_argument(
        "--mode", choices=("server", "client", "both"), default="both", help="what is under test (both)"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for the suite's own results and all logs")
    arguments = parser.parse_args()
    ways, chosen = arguments.ways.split(","), arguments.suites.split(",")
    if unknown := [name for name in ways if name not in WAYS] + [name for name in chosen if name not in names]:
        parser.error(f"unknown: {', '.join(unknown)}")
    end_in_order()
    suites = [suite for suite in SUITES if suite.name in chosen]
    try:
        install()
        with tempfile.TemporaryDirectory(prefix="coatcheck-conformance-") as temporary:
            folder = arguments.keep or Path(temporary)
            matrix: Matrix = {}
            if arguments.mode != "client":
                matrix |= run_all(suites, ways, arguments.scenario, folder)
            if arguments.mode == "client" or (arguments.mode == "both" and not arguments.scenario):
                matrix |= run_clients(suites, ways, arguments.scenario, folder)
    except StoryError as error:
        sys.exit(f"error: {error}")
    text, agree = report(matrix)
    print(text)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
