"""`coatcheck identities`: who is declared, and whose token this is."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.keys import KeySource
from coatcheck.identity.match import explain_match, is_expired, match_identity, match_reviewers
from coatcheck.identity.verify import Verifier
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Identity, Policy
from coatcheck_cli.options import json_option, policy_option, printable, show
from coatcheck_cli.session_tokens import revoke, tokens

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


@click.group()
def identities() -> None:
    """Non-human identities: who is declared, whose token this is, and which session tokens are out."""


identities.add_command(tokens)
identities.add_command(revoke)


@identities.command("list")
@policy_option(required=True)
@json_option
def list_identities(policy: Path, as_json: bool) -> None:
    """Lists the identities of a policy."""
    now = datetime.now(UTC)
    declared = load_policy(policy).identities
    rows = [_row(each, now) for each in sorted(declared.values(), key=lambda each: each.name)]
    columns = ("name", "issuer", "groups", "owner", "expires", "state")
    if not as_json:
        rows = [{**row, "groups": _joined(row["groups"])} for row in rows]
    show(rows, columns, as_json=as_json, empty="the policy declares no identities")


@identities.command("show")
@click.argument("name")
@policy_option(required=True)
@json_option
def show_identity(name: str, policy: Path, as_json: bool) -> None:
    """Shows one identity: whose token it is, and who answers for it."""
    loaded = load_policy(policy)
    identity = loaded.identities.get(name)
    if identity is None:
        raise CoatcheckError(f"no identity {name!r} in the policy", hint="list them with: coatcheck identities list")
    issuer = loaded.issuers[identity.issuer]
    row = {**_row(identity, datetime.now(UTC)), "issuer_url": issuer.issuer, "claims": dict(identity.claims)}
    if as_json:
        click.echo(json.dumps(row, indent=2, default=str, ensure_ascii=False))
        return
    for key, value in row.items():
        if key == "claims":
            continue
        click.echo(f"{key.replace('_', ' ')}: {printable(_joined(value))}")
    for claim, pattern in identity.claims.items():
        wanted = " or ".join(map(repr, pattern)) if isinstance(pattern, tuple) else repr(pattern)
        click.echo(f"claim {printable(claim)}: {wanted}")


@identities.command()
@click.option("--token", "source", default="-", metavar="-", help="Where the token is read from: - is standard input.")
@policy_option(required=True)
@json_option
def explain(source: str, policy: Path, as_json: bool) -> None:
    """Says which identity a token is, and why it is not the others.

    The token is read from standard input and never printed. Exits with 1 where the gateway would refuse it.
    """
    if source != "-":
        # Not quoted: it may well be the token.
        raise click.UsageError("the token is read from standard input: --token -")
    loaded = load_policy(policy)
    explained = asyncio.run(_explained(loaded, sys.stdin.read().strip()))
    if as_json:
        click.echo(json.dumps(explained.as_json(), indent=2, ensure_ascii=False))
    else:
        explained.write()
    if explained.refusal is not None:
        if as_json:
            sys.exit(1)
        reason = explained.refusal.reason
        raise CoatcheckError(f"{reason}: {explained.refusal.message}", hint=EXPLAIN_HINTS.get(reason))


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a token came to. `verified` is None where it was refused before any identity was looked at."""

    verified: Verified | None
    identities: list[tuple[str, bool, str]]
    identity: str | None
    groups: list[str]
    reviewers: list[str]
    refusal: Refusal | None

    def as_json(self) -> dict[str, object]:
        token = self.verified
        return {
            "identity": self.identity,
            "groups": self.groups,
            "reviewers": self.reviewers,
            "token": token
            and {"issuer": token.issuer, "token_id": token.token_id, "expires_at": token.expires_at.isoformat()},
            "identities": [{"name": name, "matches": matches, "why": why} for name, matches, why in self.identities],
            "refused": self.refusal and {"reason": self.refusal.reason, "message": self.refusal.message},
        }

    def write(self) -> None:
        if self.verified is None:
            return
        until = self.verified.expires_at.isoformat(timespec="seconds")
        click.echo(f"token: good until {until}, from issuer {self.verified.issuer}, id {self.verified.token_id}")
        rows = [
            {"identity": name, "matches": "yes" if matches else "no", "why": why}
            for name, matches, why in self.identities
        ]
        show(rows, ("identity", "matches", "why"), as_json=False, empty="the policy declares no identities")
        if self.identity is not None:
            click.echo(f"identity: {self.identity}" + (f", groups {_joined(self.groups)}" if self.groups else ""))
        if self.reviewers:
            click.echo(f"reviewer: {_joined(self.reviewers)}")


async def _explained(policy: Policy, token: str) -> _Explained:
    now = datetime.now(UTC)
    try:
        verified = await Verifier(policy.issuers, policy.audience, KeySource()).verify(token, now=now)
    except Refusal as refusal:
        return _Explained(None, [], None, [], [], refusal)
    rows = explain_match(policy.identities, policy.issuers, verified, now=now)
    reviewers = sorted(match_reviewers(policy.reviewers, verified))
    try:
        caller = match_identity(policy.identities, policy.issuers, verified, now=now)
    except Refusal as refusal:
        return _Explained(verified, rows, None, [], reviewers, refusal)
    return _Explained(verified, rows, caller.name, sorted(caller.groups), reviewers, None)


def _row(identity: Identity, now: datetime) -> Mapping[str, object]:
    state = "disabled" if identity.disabled else "expired" if is_expired(identity, now=now) else "active"
    return {
        "name": identity.name,
        "issuer": identity.issuer,
        "groups": sorted(identity.groups),
        "owner": identity.owner,
        "expires": identity.expires.isoformat() if identity.expires else None,
        "state": state,
    }


def _joined(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
