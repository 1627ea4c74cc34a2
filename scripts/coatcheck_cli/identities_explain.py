"""`coatcheck identities explain`: whose token this is, and why it is nobody else's.

Law: what the gateway would decide is decided here by the same code; the token is never printed, nor used up.
"""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, assert_never

import click

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.jose import SESSION_TYPE, read_header
from coatcheck.identity.keys import KeySource
from coatcheck.identity.match import explain_match, match_identity, match_reviewers
from coatcheck.identity.saml import verify_assertion
from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.token_request import read_assertion
from coatcheck.identity.verify import Verifier
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.store import Vault
from coatcheck_cli.options import json_option, json_text, policy_option, show, state_option

LONGEST = 256 * 1024

EXPLAIN_HINTS = {
    "wrong-issuer": "declare the issuer under issuers:, its URL exactly as in the token",
    "wrong-audience": "ask the issuer for a token with that audience, or set gateway.audience",
    "wrong-type": "ask the issuer for a token of that typ, or change the issuer's typ:",
    "algorithm-not-allowed": "add its algorithm to the issuer's algorithms:, if the issuer means to sign with it",
    "lifetime-too-long": "ask the issuer for a shorter one, or set the issuer's max_lifetime:",
    "token-not-yet-valid": "compare the clocks, or set the issuer's leeway: (60s at most)",
    "issuer-unreachable": "check the issuer's URL, ca: and addresses:, or give it a jwks_file:",
    "unknown-key": "the issuer may have rotated its keys; ask it for a new token",
    "unknown-identity": "the list above says what keeps it from being each",
    "ambiguous-identity": "name a claim in both, with different values",
}
SESSION_HINTS = {
    "wrong-issuer": "give the state directory of the gateway that gave it: --state",
    "unknown-token": "it was given out by another gateway, or has been expired for long",
    "token-revoked": "exchange the platform's token for another",
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What was read, and as what it is to be taken."""

    kind: Literal["token", "session", "assertion"]
    data: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The token as text; what is not ASCII is none."""
        return self.data.decode("ascii", "replace")


def _read(stream: BinaryIO) -> _Shown:
    data = stream.read(LONGEST).strip()
    if data.startswith(b"<"):
        return _Shown("assertion", data)
    text = data.decode("ascii", "replace")
    try:
        assertion = read_assertion(text)
    except Refusal:
        assertion = b""
    if assertion.startswith(b"<"):
        return _Shown("assertion", assertion)
    try:
        is_session = read_header(text, types=(SESSION_TYPE,)).media_type == SESSION_TYPE
    except Refusal:
        is_session = False
    return _Shown("session" if is_session else "token", data)


@click.command()
@click.option("--token", "source", default="-", metavar="-", help="Where the token is read from: - is standard input.")
@policy_option(required=True)
@state_option
@json_option
def explain(source: str, policy: Path, state: StateDirectory, as_json: bool) -> None:
    """Says which identity a token is, and why it is not the others.

    The token is read from standard input and never printed: a JWT, a SAML assertion (its XML, or that in base64url), or
    a session token, for which the state directory of the gateway that gave it is needed. Looking at a token that
    counts once does not use it up. Exits with 1 where the gateway would refuse it.
    """
    if source != "-":
        # Not quoted: it may well be the token.
        raise click.UsageError("the token is read from standard input: --token -")
    loaded = load_policy(policy)
    shown = _read(sys.stdin.buffer)
    explained = asyncio.run(_explained(loaded, shown, state))
    if as_json:
        click.echo(json_text(explained.as_json()))
    else:
        explained.write()
    if explained.refusal is not None:
        if as_json:
            sys.exit(1)
        reason = explained.refusal.reason
        hint = SESSION_HINTS.get(reason) if shown.kind == "session" else None
        raise CoatcheckError(f"{reason}: {explained.refusal.message}", hint=hint or EXPLAIN_HINTS.get(reason))


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a token came to. `verified` is None where it was refused before any identity was looked at."""

    verified: Verified | None
    identities: list[tuple[str, bool, str]]
    identity: str | None
    groups: list[str]
    reviewers: list[str]
    refusal: Refusal | None
    counts_once: bool = False
    journaled: list[str] = field(default_factory=list)
    """The names of the claims that go into the journal."""

    def as_json(self) -> dict[str, object]:
        token = self.verified
        return {
            "identity": self.identity,
            "groups": self.groups,
            "reviewers": self.reviewers,
            "journaled": self.journaled,
            "token": token
            and {
                "issuer": token.issuer,
                "token_id": token.token_id,
                "expires_at": token.expires_at.isoformat(),
                "session_token": token.exchanged and token.exchanged.jti,
                "counts_once": self.counts_once,
            },
            "identities": [{"name": name, "matches": matches, "why": why} for name, matches, why in self.identities],
            "refused": self.refusal and {"reason": self.refusal.reason, "message": self.refusal.message},
        }

    def write(self) -> None:
        if self.verified is None:
            return
        until = self.verified.expires_at.isoformat(timespec="seconds")
        click.echo(f"token: good until {until}, from issuer {self.verified.issuer}, id {self.verified.token_id}")
        if self.verified.exchanged is not None:
            click.echo(f"session token: {self.verified.exchanged.jti}, given to {self.verified.exchanged.identity}")
        if self.counts_once:
            click.echo("it counts once, for an exchange at the control port's /token, and for nothing else")
        rows = [
            {"identity": name, "matches": "yes" if matches else "no", "why": why}
            for name, matches, why in self.identities
        ]
        show(rows, ("identity", "matches", "why"), as_json=False, empty="the policy declares no identities")
        if self.identity is not None:
            click.echo(f"identity: {self.identity}" + (f", groups {joined(self.groups)}" if self.groups else ""))
        if self.journaled:
            click.echo(f"claims in the journal: {joined(self.journaled)}")
        if self.reviewers:
            click.echo(f"reviewer: {joined(self.reviewers)}")


async def _explained(policy: Policy, shown: _Shown, state: StateDirectory) -> _Explained:
    now = datetime.now(UTC)
    try:
        verified = await _verified(policy, shown, state, now)
    except Refusal as refusal:
        return _Explained(None, [], None, [], [], refusal)
    spec = policy.issuers[verified.issuer]
    counts_once = verified.exchanged is None and spec.one_time
    rows = explain_match(policy.identities, policy.issuers, verified, now=now)
    # a reviewer shows a token of the issuer's own
    is_own = verified.exchanged is None and spec.saml is None
    reviewers = sorted(match_reviewers(policy.reviewers, verified)) if is_own else []
    try:
        caller = match_identity(policy.identities, policy.issuers, verified, now=now, named=policy.claims_named)
    except Refusal as refusal:
        return _Explained(verified, rows, None, [], reviewers, refusal, counts_once)
    groups, journaled = sorted(caller.groups), sorted(caller.named)
    return _Explained(verified, rows, caller.name, groups, reviewers, None, counts_once, journaled)


async def _verified(policy: Policy, shown: _Shown, state: StateDirectory, now: datetime) -> Verified:
    match shown.kind:
        case "assertion":
            return verify_assertion(shown.data, policy.issuers, audience=policy.audience, now=now)
        case "session":
            return await _session_tokens(state).verify(shown.text, policy, now=now)
        case "token":
            return await Verifier(policy.issuers, policy.audience, KeySource()).verify(shown.text, now=now)
        case _:
            assert_never(shown.kind)


def _session_tokens(state: StateDirectory) -> SessionTokens:
    """Those of the gateway with that state. Raises `CoatcheckError`."""
    state.check()
    engine = state.open_database()
    key, _ = find_master_key(state, os.environ)
    vault = Vault.open(engine, key)
    return SessionTokens(SessionStore(engine), Sealer(key.derive("session-tokens")), vault.id)


def joined(value: object) -> str:
    """A list in one line; nothing where there is nothing."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
