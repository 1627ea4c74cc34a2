"""Rate limits of rules: one token bucket for each caller, server and rule.

Law: within any time, no more is taken than the limit's count plus what flows back in that time.
Law: a request takes from every limit it is under, or from none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from coatcheck.policy.model import Rate, RuleId

EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` that were left `at` (monotonic seconds)."""

    tokens: float
    at: float

    def at_time(self, rate: Rate, now: float) -> "Bucket":
        """With what has flowed back since; never more than the rate's count, nothing where the clock went back."""
        back = max(0.0, now - self.at) * rate.count / rate.per.total_seconds()
        return Bucket(min(float(rate.count), self.tokens + back), max(now, self.at))


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a request is under: a rule, its rate, and whose requests to which server count together."""

    caller: str
    server: str
    rule: RuleId
    rate: Rate


MAX_BUCKETS = 10_000
"""Buckets that are kept; over that, those that are full again are let go: a new one is the same."""


class RateLimits:
    """The buckets in use: as many as callers, servers and rules with a limit."""

    def __init__(self) -> None:
        self._buckets: dict[Claimed, Bucket] = {}

    def take(self, claims: Mapping[Claimed, int], *, now: float) -> tuple[Claimed, float] | None:
        """Takes as many tokens for every claim as it says; None where there are enough.

        Else the claim that lacks most and the seconds until there will be enough (infinite for more than fit in).
        """
        buckets = self._at(claims, now)
        lacking = _lacking(buckets, claims)
        if lacking is not None:
            return lacking
        left = {claim: replace(bucket, tokens=bucket.tokens - claims[claim]) for claim, bucket in buckets.items()}
        self._buckets |= left
        if len(self._buckets) > MAX_BUCKETS:
            self._let_go(now)
        return None

    def look(self, claims: Mapping[Claimed, int], *, now: float) -> tuple[Claimed, float] | None:
        """What `take` would say; takes nothing."""
        return _lacking(self._at(claims, now), claims)

    def __len__(self) -> int:
        return len(self._buckets)

    def _at(self, claims: Iterable[Claimed], now: float) -> dict[Claimed, Bucket]:
        return {
            claim: self._buckets.get(claim, Bucket(claim.rate.count, now)).at_time(claim.rate, now) for claim in claims
        }

    def _let_go(self, now: float) -> None:
        left = self._at(self._buckets, now)
        self._buckets = {claim: bucket for claim, bucket in left.items() if bucket.tokens < claim.rate.count}


def _lacking(buckets: Mapping[Claimed, Bucket], claims: Mapping[Claimed, int]) -> tuple[Claimed, float] | None:
    waits = {claim: _wait(bucket, claim.rate, claims[claim]) for claim, bucket in buckets.items()}
    longest = max(waits, key=waits.__getitem__, default=None)
    return None if longest is None or waits[longest] <= 0 else (longest, waits[longest])


def _wait(bucket: Bucket, rate: Rate, number: int) -> float:
    if number > rate.count:
        return float("inf")
    lacking = number - bucket.tokens
    return 0.0 if lacking <= EPSILON else lacking * rate.per.total_seconds() / rate.count
