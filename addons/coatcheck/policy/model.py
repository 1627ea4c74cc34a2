"""The policy as values: what `policies/*.yaml` says once it has been checked (DESIGN 5.3).

Law: nothing here can be half-valid; the loader makes these only from files without a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, NewType, Protocol

RuleId = NewType("RuleId", str)
type Network = IPv4Network | IPv6Network
type ClaimPattern = str | int | bool | tuple[str | int | bool, ...]
"""A claim must equal this value, match this glob, or be one of these."""
type ClaimPath = tuple[str, ...]
"""A claim by its name, and the names of members inside it."""


class Condition(Protocol):
    """A compiled `when` expression (CEL)."""

    @property
    def source(self) -> str:
        """The expression as written."""
        ...

    @property
    def claims(self) -> frozenset[ClaimPath]:
        """The caller's claims that it names."""
        ...

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether it is true; raises `ConditionError` on any failure or a non-boolean value."""
        ...


@dataclass(frozen=True, slots=True)
class SamlTrust:
    """What makes an issuer one of SAML 2.0 assertions: `certificates` (DER, pinned) of the keys it signs with, and
    the `recipient` its assertions must be confirmed for; None: the gateway's audience.
    """

    certificates: tuple[bytes, ...]
    recipient: str | None = None
    file: Path | None = None
    """Where the certificates were read."""


@dataclass(frozen=True, slots=True)
class IssuerSpec:
    """Where tokens come from and how they are verified (OpenID Connect Core 2, RFC 7519)."""

    name: str
    issuer: str
    algorithms: tuple[str, ...]
    jwks_uri: str | None = None
    jwks_file: Path | None = None
    ca: Path | None = None
    addresses: tuple[Network, ...] = ()
    """Networks that its hosts may resolve to although they are not public."""
    groups_claim: str | None = None
    """Dotted path of the claim that lists groups, such as `realm_access.roles`."""
    leeway: timedelta = timedelta(0)
    max_lifetime: timedelta = timedelta(hours=24)
    max_stale: timedelta = timedelta(hours=24)
    """How old its keys may become while they cannot be fetched anew."""
    typ: str | None = None
    """The `typ` its tokens must have, lower case without `application/` (RFC 8725 3.11)."""
    one_time: bool = False
    """A token of this issuer is good for one exchange for a session token, and for nothing else."""
    preset: str | None = None
    saml: SamlTrust | None = None
    """Then it has no `algorithms`, as none of its JWTs is believed, and each assertion counts once."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A non-human identity: whose token it is, told by claims."""

    name: str
    issuer: str
    claims: Mapping[str, ClaimPattern]
    groups: frozenset[str] = frozenset()
    owner: str | None = None
    expires: date | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Reviewer:
    """A named human, or group of them, who may decide approvals. Exactly one way of proof each.

    Token: `issuer` and `claims`. Local: `local`, operating-system accounts that use the command line on the
    gateway's own state. Mitmweb: `mitmweb`, the name of the person who holds that console's password.
    """

    name: str
    issuer: str | None = None
    claims: Mapping[str, ClaimPattern] = field(default_factory=dict)
    local: tuple[str, ...] = ()
    mitmweb: str | None = None


type PinMode = Literal["warn", "hold", "deny"]


@dataclass(frozen=True, slots=True)
class Server:
    """An upstream: an MCP server or an HTTP API, by URL."""

    name: str
    url: str
    scheme: Literal["http", "https"]
    host: str
    """Lower case, without a trailing dot; an IP literal without brackets."""
    port: int
    path: str
    """The URL's path, `/` where it has none: the MCP endpoint, or the root of an API."""
    credential: str | None = None
    ca: Path | None = None
    addresses: tuple[Network, ...] = ()
    tunnel: bool = False
    pins: PinMode = "hold"
    """What becomes of a tool whose definition changed: only told, hidden and denied until it is accepted (`hold`: by
    an approval too), or that without being asked about.
    """
    pin_reviewers: tuple[str, ...] = ()
    """Who may accept a changed tool by an approval."""
    legacy_sse: bool = False
    """Whether it may speak the HTTP+SSE transport of MCP 2024-11-05: `url` is then where its stream is got."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what a connection can reach."""
        return (self.scheme, self.host, self.port)


type Effect = Literal["allow", "approve", "deny"]
type DenyStyle = Literal["error", "tool_error", "hide"]
"""How a denied tool call is answered: as an error, as the tool's own failure, or as if there were no such tool."""


@dataclass(frozen=True, slots=True)
class HttpPattern:
    """`GET /repos/**`: a method (or `*`) and a path glob."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Rate:
    """`30/min`: how many calls in how much time."""

    count: int
    per: timedelta

    def __str__(self) -> str:
        units = {1: "s", 60: "min", 3_600: "h", 86_400: "d"}
        return f"{self.count}/{units[int(self.per.total_seconds())]}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who + server + what + effect.

    `who` holds `any`, `group:NAME` or identity names. Of `tools`, `resources`, `prompts`, `methods` and
    `http` at least one is not empty; each is a tuple of globs.
    """

    id: RuleId
    who: tuple[str, ...]
    server: str
    effect: Effect
    where: str
    """`file:line:col` of the rule, for messages."""
    tools: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    http: tuple[HttpPattern, ...] = ()
    when: Condition | None = None
    reviewers: tuple[str, ...] = ()
    quorum: int = 1
    expires: timedelta = timedelta(minutes=15)
    message: str | None = None
    shadow: bool = False
    limit: Rate | None = None
    """What each caller may call by this rule; None: as often as it likes."""
    deny_style: DenyStyle = "error"


type MaskForm = Literal["redact", "partial", "hash"]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """What to take out of a server's responses, the recording and the journal."""

    id: str
    server: str
    detect: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    form: MaskForm = "redact"


@dataclass(frozen=True)
class Policy:
    """Everything the gateway decides by. `sha256` is over the files' bytes in name order (hex)."""

    audience: str
    sha256: str
    files: tuple[Path, ...]
    hold: timedelta = timedelta(seconds=45)
    max_in_flight: int = 100
    """Requests one caller may have in flight."""
    session_ttl: timedelta = timedelta(hours=1)
    """How long a session token is good, from its issue."""
    issuers: Mapping[str, IssuerSpec] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    reviewers: Mapping[str, Reviewer] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    masks: tuple[MaskRule, ...] = ()

    @cached_property
    def issuer_urls(self) -> frozenset[str]:
        """The `iss` of every issuer of JWTs."""
        return frozenset(spec.issuer for spec in self.issuers.values() if spec.saml is None)

    @cached_property
    def claims_named(self) -> frozenset[ClaimPath]:
        """The claims that conditions name."""
        return frozenset(path for rule in self.rules if rule.when is not None for path in rule.when.claims)

    @cached_property
    def limits(self) -> Mapping[RuleId, Rate]:
        """The rules that have a limit, and it."""
        return {rule.id: rule.limit for rule in self.rules if rule.limit is not None}
