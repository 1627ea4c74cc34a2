"""`coatcheck mask`: try mask rules on a text before they are trusted."""

import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import click

from coatcheck.errors import CoatcheckError, Refusal
from coatcheck.masking.detectors import DETECTORS
from coatcheck.masking.masker import Masker
from coatcheck.masking.paths import parse_path
from coatcheck.mcp.strict_json import dump_json, parse_json
from coatcheck.policy.model import MaskForm, MaskRule
from coatcheck_cli.options import policy_option

FORMS: tuple[MaskForm, ...] = get_args(MaskForm.__value__)


@click.group()
def mask() -> None:
    """Masks for responses, recordings and the journal."""


@mask.command("try")
@policy_option(required=False)
@click.option("--server", help="Use the masks that the policy has for this server.")
@click.option("--detect", multiple=True, type=click.Choice(sorted(DETECTORS)), help="What to find; may be repeated.")
@click.option("--field", "fields", multiple=True, metavar="PATH", help="A field, such as $..ssn; may be repeated.")
@click.option("--as", "form", type=click.Choice(FORMS), default="redact", show_default=True, help="What to leave.")
def try_mask(
    policy: Path | None, server: str | None, detect: tuple[str, ...], fields: tuple[str, ...], form: MaskForm
) -> None:
    """Prints standard input masked; what was found goes to standard error.

    JSON is masked as JSON, anything else as text. The values of `--as hash` differ from the gateway's own.
    """
    rules = _rules(policy, server)
    for path in fields:
        try:
            parse_path(path)
        except ValueError as error:
            raise CoatcheckError(str(error), where="--field") from error
    if detect or fields:
        rules.append(MaskRule("command-line", server or "", detect, fields, form))
    if not rules:
        raise click.UsageError("give --detect, --field, or --policy with --server")
    hits: Counter[str] = Counter()
    data = sys.stdin.buffer.read()
    click.echo(_masked(Masker(rules, key=secrets.token_bytes(32)), data, hits), nl=False)
    for rule, count in sorted(hits.items()):
        click.echo(f"{rule}: {count}", err=True)
    if not hits:
        click.echo("nothing found", err=True)


def _rules(policy: Path | None, server: str | None) -> list[MaskRule]:
    """The policy's masks for `server`. Raises `CoatcheckError` where it has none by that name."""
    if server is None:
        return []
    if policy is None:
        raise click.UsageError("--server needs --policy")
    from coatcheck.policy.load import load_policy  # noqa: PLC0415  # reading policies is slow to import

    known = load_policy(policy)
    if server not in known.servers:
        raise CoatcheckError(
            f"no server {server!r} in the policy",
            where="--server",
            hint=f"there are {', '.join(sorted(known.servers))}",
        )
    return [rule for rule in known.masks if rule.server == server]


def _masked(masker: Masker, data: bytes, hits: Counter[str]) -> bytes:
    """The input as it stands where nothing was found."""
    try:
        value = parse_json(data)
    except Refusal:
        return masker.mask_text(data.decode(errors="replace"), hits).encode()
    is_message = isinstance(value, dict) and value.get("jsonrpc") == "2.0"
    masked = masker.mask_message(value, hits) if is_message else masker.mask_json(value, hits)
    return data if masked is value else dump_json(masked) + b"\n"
