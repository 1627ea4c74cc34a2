"""What a preset is: an issuer known by name, so that a policy need not spell it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of token issuer.

    `issuer` is None where each installation, tenant or organisation has its own URL. `pins` names the claims that stay
    with their owner, and what an identity must ask of one (a regular expression for the whole value) to be pinned
    by it; an identity that is pinned by none can be taken over. Empty where an issuer's tokens are one owner's anyway.
    `run_claims` tell one run of one job apart from another, for the journal. Claims may be dotted, as in policy.
    """

    name: str
    issuer: str | None
    algorithms: tuple[str, ...]
    groups_claim: str | None = None
    pins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    run_claims: tuple[str, ...] = ()


NUMBER = "[0-9]+"
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
