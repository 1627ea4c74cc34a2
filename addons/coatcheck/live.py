"""What can change while the gateway runs: the policy, the vault, its readiness.

Law: one exchange is decided under one policy; it takes `policy` once, at its head.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from coatcheck.identity.verify import Verifier
from coatcheck.policy.model import Policy
from coatcheck.vault.snapshot import Snapshot


@dataclass(slots=True)
class Live:
    """The values in force now; replaced whole, never edited."""

    policy: Policy
    verifier: Verifier
    snapshot: Snapshot
    observes: bool = False
    """Nothing is enforced but who a caller is (`--observe`); never changes while the gateway runs."""
    is_draining: bool = False
    """Shutting down: new requests get 503."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why `/readyz` says no, by part."""


def utc_now() -> datetime:
    """The wall clock, timezone-aware."""
    return datetime.now(UTC)
