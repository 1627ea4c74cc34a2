"""`coatcheck identities tokens` and `revoke`: which session tokens are out, and taking them back.

Law: a token itself is never shown; nobody has it but the caller it was given to.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from coatcheck.errors import CoatcheckError
from coatcheck.identity.session_store import IssuedToken, SessionStore
from coatcheck.state import StateDirectory
from coatcheck_cli.options import json_option, json_text, printable, show, state_option

LIST_HINT = "list them with: coatcheck identities tokens"


@click.command("tokens")
@click.option("--identity", help="Only those of one identity.")
@click.option("--all", "with_expired", is_flag=True, help="Those that have expired too, for a day.")
@state_option
@json_option
def tokens(identity: str | None, with_expired: bool, state: StateDirectory, as_json: bool) -> None:
    """Lists the session tokens that were given out."""
    now = datetime.now(UTC)
    found = [each for each in _open(state).list(identity=identity) if with_expired or each.state(now=now) != "expired"]
    rows = [_row(each, now) for each in found]
    if not as_json:
        rows = [{**row, "run": _words(each)} for row, each in zip(rows, found, strict=True)]
    columns = ("jti", "identity", "issued", "expires", "run", "state")
    show(rows, columns, as_json=as_json, empty="no session tokens are out")


@click.command("revoke")
@click.argument("jti", required=False)
@click.option("--identity", help="Revoke all session tokens of one identity.")
@state_option
@json_option
def revoke(jti: str | None, identity: str | None, state: StateDirectory, as_json: bool) -> None:
    """Takes back a session token, by its JTI, or all of an identity's.

    A running gateway refuses them within two seconds. The tokens of the platform itself are not affected.
    """
    if (jti is None) == (identity is None):
        raise click.UsageError("give either a JTI or --identity NAME")
    store, now = _open(state), datetime.now(UTC)
    revoked = _revoke_one(store, jti, now) if jti is not None else store.revoke_all(identity=identity or "", now=now)
    if as_json:
        click.echo(json_text([_row(each, now) for each in revoked]))
        return
    for each in revoked:
        click.echo(f"revoked {each.jti} ({printable(each.identity)})")
    if not revoked:
        click.echo("nothing to revoke")


def _revoke_one(store: SessionStore, jti: str, now: datetime) -> Sequence[IssuedToken]:
    found = store.find(jti)
    if found is None:
        raise CoatcheckError(f"no session token {printable(jti)!r}", hint=LIST_HINT)
    if found[0].revoked_at is not None:
        raise CoatcheckError(f"session token {jti} is revoked already", hint=LIST_HINT)
    return store.revoke(jti=jti, now=now)


def _open(state: StateDirectory) -> SessionStore:
    return SessionStore(state.open_database())


def _row(token: IssuedToken, now: datetime) -> dict[str, object]:
    return {
        "jti": token.jti,
        "identity": token.identity,
        "issuer": token.issuer,
        "subject": token.subject,
        "token_id": token.token_id,
        "run": token.run,
        "issued": _moment(token.issued_at),
        "expires": _moment(token.expires_at),
        "revoked": None if token.revoked_at is None else _moment(token.revoked_at),
        "state": token.state(now=now),
    }


def _words(token: IssuedToken) -> str:
    return " ".join(f"{name}={value}" for name, value in token.run.items())


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
