"""`coatcheck vault`: secrets in, and what may be told about them out.

Law: a value is read from standard input or a hidden prompt, never from an argument, and is never printed.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import click

from coatcheck.errors import VaultError
from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding
from coatcheck.vault.keys import find_master_key, find_or_make_master_key
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import SecretInfo
from coatcheck.vault.store import LONGEST_VALUE, Vault
from coatcheck_cli.options import json_option, json_text, policy_option, printable, show, state_option


@click.group()
def vault() -> None:
    """Secrets: the real credentials, and where each may go."""


@vault.command("init")
@state_option
def init_vault(state: StateDirectory) -> None:
    """Make the vault and, where none is named, its master key. What is there is kept."""
    state.create()
    key, where, is_new = find_or_make_master_key(state, os.environ)
    Vault.create(state.open_database(), key)
    click.echo(f"vault: {state.database}")
    click.echo(f"master key: {where}")
    if is_new:
        click.echo(
            "warning: the master key lies beside what it protects; for production set COATCHECK_KEY_CMD "
            "or COATCHECK_KEY_FILE and move it away",
            err=True,
        )


@vault.command("set")
@click.argument("name")
@click.option("--server", "servers", multiple=True, required=True, help="A server in policy it may go to.")
@click.option("--header", help="The header it goes in (default: authorization).")
@click.option("--format", "form_at", help="How the header is made, with one {} (default: 'Bearer {}').")
@click.option("--query", help="The query parameter it may go in.")
@click.option("--form", help="The form field it may go in.")
@click.option("--pointer", help="The JSON pointer (RFC 6901) it may go to in a body.")
@click.option("--identity", "identities", multiple=True, help="An identity that may use it (default: any).")
@click.option("--placeholder", help="The string that stands for it (default: coat_NAME).")
@click.option("--unsafe-short", is_flag=True, help="Take a value under 8 bytes, which scrubs badly.")
@click.option("--unsafe-plain-http", is_flag=True, help="Let it go over plain HTTP to this machine itself.")
@policy_option(required=False)
@state_option
def set_secret(
    name: str,
    servers: tuple[str, ...],
    header: str | None,
    form_at: str | None,
    query: str | None,
    form: str | None,
    pointer: str | None,
    identities: tuple[str, ...],
    placeholder: str | None,
    unsafe_short: bool,
    unsafe_plain_http: bool,
    policy: Path | None,
    state: StateDirectory,
) -> None:
    """Store a secret, or a new version of it; the value comes from standard input or a prompt."""
    if header is None and query is None and form is None and pointer is None:
        header = "authorization"
    if form_at is not None and header is None:
        raise click.UsageError("--format is about a header; name it with --header")
    try:
        bindings = [
            Binding(
                server=server,
                header=header.lower() if header is not None else None,
                format=form_at or "Bearer {}",
                query=query,
                form=form,
                pointer=pointer,
                identities=identities,
                unsafe_plain_http=unsafe_plain_http,
            )
            for server in servers
        ]
    except ValueError as error:
        raise VaultError(str(error)) from error
    if policy is not None:
        _check_names(policy, servers, identities)
    opened, now = _open(state), datetime.now(UTC)
    value = _read_value(name)
    info = opened.set(name, value, bindings, now=now, placeholder=placeholder, unsafe_short=unsafe_short)
    click.echo(f"secret: {info.name}, version {info.version}")
    click.echo(f"placeholder: {info.placeholder}")


@vault.command("list")
@state_option
@json_option
def list_secrets(state: StateDirectory, as_json: bool) -> None:
    """List the secrets: names, placeholders and servers."""
    infos = _open(state).list()
    rows = [_row(info) for info in infos]
    if not as_json:
        rows = [{**_row(info), "servers": ", ".join(binding.server for binding in info.bindings)} for info in infos]
    columns = ("name", "version", "placeholder", "servers")
    show(rows, columns, as_json=as_json, empty="the vault holds no secrets")


@vault.command("show")
@click.argument("name")
@state_option
@json_option
def show_secret(name: str, state: StateDirectory, as_json: bool) -> None:
    """Show where one secret may go. Never its value."""
    infos = {info.name: info for info in _open(state).list()}
    if name not in infos:
        raise VaultError(f"no secret {name!r} in the vault", hint=_hint(name, infos, "coatcheck vault list"))
    info = infos[name]
    if as_json:
        click.echo(json_text(_row(info)))
        return
    click.echo(f"name: {info.name}")
    click.echo(f"version: {info.version}")
    click.echo(f"placeholder: {info.placeholder}")
    click.echo(f"fingerprint: {info.fingerprint}")
    click.echo(f"created at: {info.created_at.isoformat(timespec='seconds')}")
    for binding in info.bindings:
        click.echo(f"server {printable(binding.server)}: {printable(_places(binding))}")


def _open(state: StateDirectory) -> Vault:
    state.check()
    key, _ = find_master_key(state, os.environ)
    return Vault.open(state.open_database(), key)


def _read_value(name: str) -> Secret:
    """The value, without one line end that `echo` or an editor put after it."""
    if sys.stdin.isatty():
        text: str = click.prompt(f"Value of {name}", hide_input=True)
        return Secret(text.encode())
    value = sys.stdin.buffer.read(LONGEST_VALUE + 3)
    if value.endswith(b"\n"):
        value = value[:-2] if value.endswith(b"\r\n") else value[:-1]
    return Secret(value)


def _check_names(path: Path, servers: Iterable[str], identities: Iterable[str]) -> None:
    """That the policy knows the servers and identities. Raises `VaultError`, or `PolicyError` for the policy's own."""
    from coatcheck.policy.load import load_policy  # noqa: PLC0415 - not needed, and not paid for, without --policy

    policy = load_policy(path)
    for kind, names, known in (("server", servers, policy.servers), ("identity", identities, policy.identities)):
        for name in names:
            if name not in known:
                what = f"the policy has no {kind} {name!r}"
                raise VaultError(what, where=str(path), hint=_hint(name, known, f"the {kind} in policy"))


def _hint(name: str, known: Iterable[str], else_see: str) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"see: {else_see}"


def _row(info: SecretInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "version": info.version,
        "placeholder": info.placeholder,
        "bindings": [binding.to_json() for binding in info.bindings],
        "created_at": info.created_at.isoformat(timespec="seconds"),
        "fingerprint": info.fingerprint,
    }


def _places(binding: Binding) -> str:
    """One binding in words: `header authorization as 'Bearer {}', for any identity`."""
    places = [f"header {binding.header} as {binding.format!r}"] if binding.header is not None else []
    for kind, place in (("query", binding.query), ("form", binding.form), ("pointer", binding.pointer)):
        if place is not None:
            places.append(f"{kind} {place}")
    places.append("for " + (", ".join(binding.identities) or "any identity"))
    if binding.unsafe_plain_http:
        places.append("over plain HTTP to this machine too")
    return ", ".join(places)
