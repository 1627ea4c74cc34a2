"""Two results of the same suite, compared; and the table that people read.

Law: two ways agree only where every check has the same id and the same status, each as often.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance_lib.suite import Check

type Results = Mapping[str, Sequence[Check]]
"""Checks by way: `direct` first, then what is compared with it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One check with other statuses, or as often another one, on some way than direct. Statuses are sorted."""

    way: str
    scenario: str
    check: str
    direct: tuple[str, ...]
    there: tuple[str, ...]
    message: str
    """The suite's, of the first of them that has one on this way."""

    def __str__(self) -> str:
        there, direct = "/".join(self.there) or "absent", "/".join(self.direct) or "absent"
        return f"{self.way}: {self.scenario} {self.check}: {there}, direct {direct}" + (
            f": {self.message}" if self.message else ""
        )


def differences(results: Results) -> list[Difference]:
    """What differs from the first way, in the order of ways, scenarios and checks."""
    (_, direct), *others = results.items()
    wanted = _statuses(direct)
    found = []
    for way, checks in others:
        has = _statuses(checks)
        for place in sorted(wanted.keys() | has.keys()):
            if wanted.get(place, ()) != has.get(place, ()):
                said = next((one.message for one in checks if (one.scenario, one.id) == place and one.message), "")
                found.append(Difference(way, *place, wanted.get(place, ()), has.get(place, ()), said))
    return found


def _statuses(checks: Sequence[Check]) -> dict[tuple[str, str], tuple[str, ...]]:
    """By scenario and check id: the statuses, sorted."""
    found: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        found.setdefault((check.scenario, check.id), []).append(check.status)
    return {place: tuple(sorted(statuses)) for place, statuses in found.items()}


def table(suite: str, results: Results) -> str:
    """Passed and failed checks by scenario, one column a way, `!` where a way differs from direct."""
    ways = list(results)
    scenarios = sorted({check.scenario for checks in results.values() for check in checks})
    wrong = {(found.way, found.scenario) for found in differences(results)}
    width = max(len(name) for name in [*scenarios, suite])
    rows = [f"{suite:<{width}}" + "".join(f"{way:>12}" for way in ways)]
    for scenario in scenarios:
        cells = [_counts(results[way], scenario) + ("!" if (way, scenario) in wrong else " ") for way in ways]
        rows.append(f"{scenario:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    rows.append(f"{'passed/failed':<{width}}" + "".join(f"{_counts(results[way]) + ' ':>12}" for way in ways))
    return "\n".join(rows)


def _counts(checks: Sequence[Check], scenario: str | None = None) -> str:
    statuses = Counter(check.status for check in checks if scenario in (None, check.scenario))
    return f"{statuses['SUCCESS']}/{statuses['FAILURE']}"
