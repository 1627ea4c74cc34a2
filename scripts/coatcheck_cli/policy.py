"""`coatcheck policy`: check a policy, explain a decision, list who may do a thing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Decision, Deny, Hold
from coatcheck.policy.doubts import doubts
from coatcheck.policy.explain import as_caller, explain, who_may
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy, Server
from coatcheck.policy.shape import shown, suggest
from coatcheck_cli.options import Command, json_option, policy_option, printable, show


@click.group()
def policy() -> None:
    """Check a policy, explain a decision, list who may do a thing."""


def what_options(command: Command) -> Command:
    """Exactly one of `--tool`, `--resource`, `--prompt`, `--method` and `--http`, on `--server`."""
    options = (
        click.option("--server", "server_name", required=True, help="A server's name in the policy."),
        click.option("--tool", help="A tool's name."),
        click.option("--resource", help="A resource's URI."),
        click.option("--prompt", help="A prompt's name."),
        click.option("--method", help="A JSON-RPC method."),
        click.option("--http", help='A plain HTTP request, such as "GET /repos/a".'),
    )
    for option in reversed(options):
        command = option(command)
    return command


@policy.command()
@policy_option(required=True)
@json_option
def check(policy: Path, *, as_json: bool) -> None:
    """Load a policy and say what is in it, or everything that is wrong with it."""
    loaded = load_policy(policy)
    warnings = doubts(loaded)
    if as_json:
        counts = {key: len(getattr(loaded, key)) for key in ("issuers", "identities", "reviewers", "servers")}
        data = {
            "files": [str(file) for file in loaded.files],
            **counts,
            "rules": len(loaded.rules),
            "masks": len(loaded.masks),
            "sha256": loaded.sha256,
            "warnings": [{"where": one.where, "what": one.what, "hint": one.hint} for one in warnings],
        }
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    parts = [
        _counted(len(loaded.files), "file"),
        _counted(len(loaded.identities), "identity", "identities"),
        _counted(len(loaded.servers), "server"),
        _counted(len(loaded.rules), "rule"),
    ]
    click.echo(f"ok: {', '.join(parts)}, sha256 {loaded.sha256}")
    for warning in warnings:
        click.echo(f"warning: {printable(str(warning))}", err=True)
        if warning.hint:
            click.echo(f"hint: {printable(warning.hint)}", err=True)


@policy.command("explain")
@policy_option(required=True)
@click.option("--caller", "caller_name", required=True, help="An identity's name in the policy.")
@what_options
@click.option("--args", "arguments", default="{}", metavar="JSON", help="The arguments, as a JSON object.")
@click.option("--claims", default="{}", metavar="JSON", help="Claims of the caller's token beside its identity's.")
@json_option
def explain_command(
    policy: Path, caller_name: str, server_name: str, arguments: str, claims: str, *, as_json: bool, **what: str | None
) -> None:
    """Say what the policy decides on a call, and what each rule makes of it."""
    loaded = load_policy(policy)
    server = _server(loaded, server_name)
    if caller_name not in loaded.identities:
        raise CoatcheckError(f"unknown identity {caller_name!r}", hint=suggest(caller_name, loaded.identities))
    caller = as_caller(loaded, caller_name, _object(claims, "--claims"))
    call = _call(what, _object(arguments, "--args"))
    now = datetime.now(UTC)
    decision = decide(loaded, caller, server, [call], now=now)
    rows = [
        {"rule": one.rule, "effect": one.effect, "matched": one.matched, "why": one.why}
        for one in explain(loaded, caller, server, call, now=now)
    ]
    if as_json:
        click.echo(json.dumps({"decision": _as_data(decision), "rules": rows}, indent=2, ensure_ascii=False))
        return
    click.echo(printable(_in_words(decision)))
    if rows:
        show(
            [{**row, "matched": "yes" if row["matched"] else "no"} for row in rows],
            tuple(rows[0]),
            as_json=False,
            empty="",
        )


@policy.command()
@policy_option(required=True)
@what_options
@json_option
def who(policy: Path, server_name: str, *, as_json: bool, **what: str | None) -> None:
    """List the identities that may make a call."""
    loaded = load_policy(policy)
    found = who_may(loaded, _server(loaded, server_name), _call(what, {}))
    rows = [
        {
            "identity": access.caller,
            "effect": access.effect,
            "if": "its condition holds" if access.depends else "",
            "rules": list(access.rules) if as_json else ", ".join(access.rules),
        }
        for access in found
    ]
    show(rows, ("identity", "effect", "if", "rules"), as_json=as_json, empty="no identity may")


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _server(loaded: Policy, name: str) -> Server:
    if name not in loaded.servers:
        raise CoatcheckError(f"unknown server {name!r}", hint=suggest(name, loaded.servers))
    return loaded.servers[name]


def _call(what: dict[str, str | None], arguments: dict[str, Json]) -> Call:
    """The call that the options describe. Raises click's `UsageError` unless exactly one names it."""
    given = [(key, value) for key, value in what.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError("give exactly one of --tool, --resource, --prompt, --method and --http")
    key, value = given[0]
    match key:
        case "tool":
            return Call("mcp", "tools/call", value, arguments, {"name": value, "arguments": arguments})
        case "prompt":
            return Call("mcp", "prompts/get", value, arguments, {"name": value, "arguments": arguments})
        case "resource":
            return Call("mcp", "resources/read", value, params={"uri": value})
        case "http":
            method, _, path = value.partition(" ")
            return Call("http", method, path.partition("?")[0])
        case _:
            return Call("mcp", value)


def _object(text: str, option: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object", param_hint=option)
    return value


def _as_data(decision: Decision) -> dict[str, object]:
    match decision:
        case Allow():
            return {"decision": "allow", "rules": decision.rules}
        case Hold():
            return {
                "decision": "hold",
                "rules": decision.rules,
                "reviewers": decision.reviewers,
                "quorum": decision.quorum,
                "expires": shown(decision.expires),
                "message": decision.message,
            }
        case Deny():
            return {
                "decision": "deny",
                "reason": decision.reason,
                "message": decision.message,
                "rules": decision.rules,
            }


def _in_words(decision: Decision) -> str:
    match decision:
        case Allow():
            return f"allow ({', '.join(decision.rules) or 'handshake and lists'})"
        case Hold():
            who = f"{decision.quorum} of {', '.join(decision.reviewers)} within {shown(decision.expires)}"
            return f"hold for {who} ({', '.join(decision.rules)})"
        case Deny():
            return f"deny: {decision.reason}: {decision.message}"
