"""`coatcheck identities`: who is declared, and whose token this is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.identity.match import is_expired
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Identity
from coatcheck_cli.identities_explain import explain, joined
from coatcheck_cli.options import json_option, json_text, policy_option, printable, show
from coatcheck_cli.session_tokens import revoke, tokens


@click.group()
def identities() -> None:
    """Non-human identities: who is declared, whose token this is, and which session tokens are out."""


identities.add_command(explain)
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
        rows = [{**row, "groups": joined(row["groups"])} for row in rows]
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
        click.echo(json_text(row))
        return
    for key, value in row.items():
        if key == "claims":
            continue
        click.echo(f"{key.replace('_', ' ')}: {printable(joined(value))}")
    for claim, pattern in identity.claims.items():
        wanted = " or ".join(map(repr, pattern)) if isinstance(pattern, tuple) else repr(pattern)
        click.echo(f"claim {printable(claim)}: {wanted}")


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
