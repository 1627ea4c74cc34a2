"""`coatcheck init`: a state directory with its key, vault and certificate authority."""

import os

import click

from coatcheck.proxy.authority import make_authority
from coatcheck.state import StateDirectory
from coatcheck.vault.keys import find_or_make_master_key
from coatcheck.vault.store import Vault
from coatcheck_cli.options import state_option


@click.command
@state_option
def init(state: StateDirectory) -> None:
    """Make the state directory: master key, vault, and the gateway's CA. What is there is kept."""
    state.create()
    key, where, is_new = find_or_make_master_key(state, os.environ)
    engine = state.open_database()
    Vault.create(engine, key)
    engine.dispose()
    certificate = make_authority(state.ca)
    click.echo(f"state: {state.root}")
    click.echo(f"master key: {where}")
    click.echo(f"CA certificate for clients: {certificate}")
    if is_new:
        click.echo(
            "warning: the master key lies beside what it protects; for production set COATCHECK_KEY_CMD "
            "or COATCHECK_KEY_FILE and move it away",
            err=True,
        )
