"""`coatcheck env`: what `coatcheck exec` would set, for a shell, a GitHub Actions job or a program.

Law: the token is printed only as part of what was asked for, and on GitHub only after it was declared to be masked.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from coatcheck.client.sources import CallerToken
from coatcheck.client.variables import Way, removed, spellings, variables
from coatcheck.errors import CoatcheckError
from coatcheck_cli.way import Asked, make_ready, way_options

WARNING = "warning: what is printed holds the caller's token: eval it, and keep it out of logs"


@click.command()
@way_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["sh", "github"]),
    default="sh",
    show_default=True,
    help="sh: export lines to eval; github: for the following steps of the job, by $GITHUB_ENV.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where the certificate files are put, and stay; else coatcheck in the user's cache.",
)
def env(asked: Asked, form: str, folder: Path | None, *, as_json: bool) -> None:
    """Print the variables that send common clients through the gateway.

    The caller's token is among them: use it as `eval "$(coatcheck env)"`. `coatcheck exec` prints nothing.
    """
    github_env = _github_env() if form == "github" and not as_json else None
    ready = make_ready(asked, os.environ)
    way = ready.write(_made(folder or _cache(os.environ)))
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    if on_github:
        # The runner takes commands from both streams; standard output is what `eval` and pipes take.
        click.echo("\n".join(mask_lines(ready.tokens)), err=github_env is None)
    if github_env is not None:
        _append(github_env, github_lines(way, ready.token))
        return
    if as_json:
        click.echo(json.dumps({"set": dict(variables(way, ready.token)), "unset": list(removed(way))}, indent=2))
    else:
        click.echo("\n".join(shell_lines(way, ready.token)))
    click.echo(WARNING, err=True)


def shell_lines(way: Way, token: CallerToken) -> list[str]:
    """Lines for a POSIX shell, to be eval'ed."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(way, token).items()]
    return lines + [f"unset {name}" for name in removed(way)]


def github_lines(way: Way, token: CallerToken) -> list[str]:
    """Lines for the file at `$GITHUB_ENV`. It cannot take a variable away, so such a one is made empty.

    Raises `CoatcheckError` where a value would need more than a line.
    """
    values = {**variables(way, token), **dict.fromkeys(removed(way), "")}
    if any("\n" in value or "\r" in value for value in values.values()):
        raise CoatcheckError("a value has more than one line", where="--folder")
    return [f"{name}={value}" for name, value in values.items()]


def mask_lines(tokens: Sequence[CallerToken]) -> list[str]:
    """Workflow commands that make the runner star every spelling of the tokens from now on."""
    return [f"::add-mask::{spelling}" for token in tokens for spelling in spellings(token)]


def _github_env() -> Path:
    named = os.environ.get("GITHUB_ENV")
    if not named:
        raise CoatcheckError(
            "not set", where="GITHUB_ENV", hint="--format github is for a step of a GitHub Actions job"
        )
    return Path(named)


def _append(path: Path, lines: Sequence[str]) -> None:
    try:
        with path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise CoatcheckError(f"cannot write: {error.strerror}", where="GITHUB_ENV") from None


def _cache(environ: Mapping[str, str]) -> Path:
    """RUNNER_TEMP is emptied with its job; elsewhere the files are replaced each time."""
    if runner := environ.get("RUNNER_TEMP"):
        return Path(runner) / "coatcheck"
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "coatcheck"


def _made(folder: Path) -> Path:
    """The folder, which nobody else may write: who could put another bundle there would choose whom clients trust."""
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.stat()
    except OSError as error:
        raise CoatcheckError(f"cannot make the folder: {error.strerror}", where=str(folder)) from None
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        hint = "give one of this user's own with --folder"
        raise CoatcheckError("others may write to this folder", where=str(folder), hint=hint)
    return folder
