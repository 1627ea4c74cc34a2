"""The `coatcheck` command: finds the group asked for, prints errors one way.

Law: an operator's error is `error: …` and `hint: …` on standard error and exit 1; misuse is click's exit 2.
"""

import importlib
import sys
from typing import override

import click

from coatcheck import __version__
from coatcheck.errors import CoatcheckError

COMMANDS = {
    "init": "coatcheck_cli.init:init",
    "run": "coatcheck_cli.run:run",
    "status": "coatcheck_cli.status:status",
    "doctor": "coatcheck_cli.doctor:doctor",
    "exec": "coatcheck_cli.exec:exec_",
    "env": "coatcheck_cli.env:env",
    "vault": "coatcheck_cli.vault:vault",
    "identities": "coatcheck_cli.identities:identities",
    "policy": "coatcheck_cli.policy:policy",
    "approvals": "coatcheck_cli.approvals:approvals",
    "mask": "coatcheck_cli.mask:mask",
    "sessions": "coatcheck_cli.sessions:sessions",
    "journal": "coatcheck_cli.journal:journal",
}
"""Command name to `module:attribute`; a module is imported only when its command is used."""


class Commands(click.Group):
    """The commands by name, each imported when asked for: start-up stays fast."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coatcheck")
def cli() -> None:
    """An MCP gateway for non-human identities."""


def main() -> None:
    """The console script."""
    try:
        cli()
    except CoatcheckError as error:
        from coatcheck_cli.options import printable  # noqa: PLC0415  # rich takes its time, and most commands end well

        for line in "\n".join(error.lines()).split("\n"):
            print(printable(line), file=sys.stderr)
        sys.exit(1)
