"""What a preset is: an issuer known by name, so that a policy need not spell it out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of token issuer.

    `issuer` is None where each installation has its own URL. `mutable_claims` are names that can be given up
    and taken by someone else: an identity that matches nothing but these is unsafe. `run_claims` tell one run
    of one job apart from another, for the journal; both may be dotted, as in policy.
    """

    name: str
    issuer: str | None
    algorithms: tuple[str, ...]
    groups_claim: str | None = None
    mutable_claims: tuple[str, ...] = ()
    run_claims: tuple[str, ...] = ()
