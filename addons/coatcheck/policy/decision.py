"""A decision is data: `Allow`, `Hold` or `Deny`, with the rules that made it.

`counted`: what the limits of rules count (`limit`): each rule that permits, allowing or asking for approval, once for
each call that it permits.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from coatcheck.policy.model import DenyStyle, RuleId


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may go; `rules` is empty only for the handshake and lists."""

    rules: tuple[RuleId, ...] = ()
    counted: tuple[RuleId, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Hold:
    """The request waits for `quorum` of `reviewers` (names in policy), at most `expires` long."""

    rules: tuple[RuleId, ...]
    reviewers: tuple[str, ...]
    quorum: int
    expires: timedelta
    message: str | None = None
    counted: tuple[RuleId, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. `reason`: `rule`, `no-rule`, `unknown-method`, `condition-error` or
    `no-common-reviewer`.
    """

    reason: str
    message: str
    rules: tuple[RuleId, ...] = ()
    style: DenyStyle = "error"


type Decision = Allow | Hold | Deny
