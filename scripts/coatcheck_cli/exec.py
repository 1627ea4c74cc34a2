"""`coatcheck exec`: a command that reaches its servers through the gateway.

Law: the token is printed nowhere and written nowhere; it goes to the gateway and into the command's environment.
"""

import os
import sys
import tempfile
from pathlib import Path

import click

from coatcheck.client.variables import environment
from coatcheck_cli.child import CannotRunError, run_child
from coatcheck_cli.options import printable
from coatcheck_cli.way import Asked, make_ready, way_options


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@way_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(asked: Asked, command: tuple[str, ...]) -> None:
    """Run COMMAND with its traffic going through the gateway.

    The token comes from the CI platform, is exchanged for a session token, and is put into the proxy variables that
    common clients read; certificates of the gateway's CA are trusted besides the system's. Signals go to the command,
    and its exit code is this command's: 127 where it is not found, 126 where it cannot be run.
    """
    ready = make_ready(asked, os.environ)
    with tempfile.TemporaryDirectory(prefix="coatcheck-") as folder:
        way = ready.write(Path(folder))
        try:
            code = run_child(command, environment(os.environ, way, ready.token))
        except CannotRunError as error:
            click.echo(f"error: {printable(command[0])}: {error}", err=True)
            code = error.code
    sys.exit(code)
