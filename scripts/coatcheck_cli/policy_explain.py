"""`coatcheck policy explain` and `who`: why a call is decided as it is, and who may make it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import PARSE_ERROR, CoatcheckError, Refusal
from coatcheck.identity.jose import read_object as read_claims_object
from coatcheck.identity.match import is_expired
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.strict_json import parse_json
from coatcheck.policy.cases import call_of
from coatcheck.policy.decide import decide
from coatcheck.policy.decision import Allow, Decision, Deny, Hold
from coatcheck.policy.explain import Explanation, as_caller, explain, with_shadows
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Identity, Policy, Rate, RuleId, Server
from coatcheck.policy.shape import shown, suggest
from coatcheck.policy.terms import Terms, terms_of
from coatcheck.policy.who import Access, who_may
from coatcheck_cli.options import Command, json_option, json_text, policy_option, printable, show


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


@click.command("explain")
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
    loaded, now = load_policy(policy), datetime.now(UTC)
    server = find_server(loaded, server_name)
    if caller_name not in loaded.identities:
        raise CoatcheckError(f"unknown identity {caller_name!r}", hint=suggest(caller_name, loaded.identities))
    caller = as_caller(loaded, caller_name, read_object(claims, "--claims"))
    call = _call(what, read_object(arguments, "--args"))
    decision = decide(loaded, caller, server, [call], now=now)
    would = decide(with_shadows(loaded), caller, server, [call], now=now)
    terms = terms_of(loaded, server, call, decision)
    refused = _refused(loaded.identities[caller_name], now)
    rows = [_as_row(one) for one in explain(loaded, caller, server, call, now=now)]
    if as_json:
        limits = {rule: str(loaded.limits[rule]) for rule in decision.rules if rule in loaded.limits}
        data: dict[str, object] = {"decision": {**as_data(decision), "limits": limits}, "rules": rows}
        data["terms"] = _terms_data(terms)
        if would != decision:
            data["with_shadows"] = as_data(would)
        if refused:
            data["refused"] = refused
        click.echo(json_text(data))
        return
    if refused:
        click.echo(printable(f"refused before any rule: {refused}; a token of another day would get:"))
    click.echo(printable(in_words(decision)))
    if would != decision:
        click.echo(printable(f"with its shadow rules: {in_words(would)}"))
    if rows:
        plain = [{**row, "matched": "yes" if row["matched"] else "no", "limit": row["limit"] or ""} for row in rows]
        limit = ("limit",) if any(row["limit"] for row in rows) else ()
        show(plain, ("rule", "effect", "matched", *limit, "why"), as_json=False, empty="")
    for line in terms.in_words():
        click.echo(printable(line))


@click.command()
@policy_option(required=True)
@what_options
@json_option
def who(policy: Path, server_name: str, *, as_json: bool, **what: str | None) -> None:
    """List the identities that may make a call, and with whose approval."""
    loaded = load_policy(policy)
    found = who_may(loaded, find_server(loaded, server_name), _call(what, {}), now=datetime.now(UTC))
    rows = [_access_row(access, loaded.limits, as_json=as_json) for access in found]
    limit = ("limit",) if any(row.get("limit") for row in rows) else ()
    columns = ("identity", "effect", "approval", "if", *limit, "rules")
    show(rows, columns, as_json=as_json, empty="no identity may")


def find_server(loaded: Policy, name: str) -> Server:
    """The server of that name. Raises `CoatcheckError`."""
    if name not in loaded.servers:
        raise CoatcheckError(f"unknown server {name!r}", hint=suggest(name, loaded.servers))
    return loaded.servers[name]


def as_data(decision: Decision) -> dict[str, object]:
    """A decision as JSON shows it."""
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


def in_words(decision: Decision) -> str:
    """A decision as one line."""
    match decision:
        case Allow():
            return f"allow ({', '.join(decision.rules) or 'handshake and lists'})"
        case Hold():
            return f"hold for {_asks(decision)} ({', '.join(decision.rules)})"
        case Deny():
            return f"deny: {decision.reason}: {decision.message}"


def _asks(hold: Hold) -> str:
    return f"{hold.quorum} of {', '.join(hold.reviewers)} within {shown(hold.expires)}"


def _refused(identity: Identity, now: datetime) -> str | None:
    """What the gateway says to the identity's tokens, whatever they ask for."""
    if identity.disabled:
        return f"identity {identity.name} is disabled"
    return f"identity {identity.name} has expired" if is_expired(identity, now=now) else None


def _as_row(one: Explanation) -> dict[str, object]:
    effect = f"{one.effect} (shadow)" if one.is_shadow else one.effect
    return {
        "rule": one.rule,
        "effect": effect,
        "matched": one.matched,
        "why": one.why,
        "where": one.where,
        "limit": str(one.limit) if one.limit else None,
    }


def _terms_data(terms: Terms) -> dict[str, object]:
    return {
        "pins": terms.pins,
        "pin_reviewers": list(terms.pin_reviewers),
        "masks": [mask.id for mask in terms.masks],
        "deny_style": terms.style,
    }


def _access_row(access: Access, limits: Mapping[RuleId, Rate], *, as_json: bool) -> dict[str, object]:
    conditions = ["its condition holds"] if access.depends else []
    if access.group:
        conditions.append(f"its token lists the group {access.group}")
    approval = access.approval
    rates = {rule: str(limits[rule]) for rule in access.rules if rule in limits}
    if as_json:
        return {
            "identity": access.caller,
            "effect": access.effect,
            "if": conditions,
            "limits": rates,
            "rules": list(access.rules),
            "reviewers": list(approval.reviewers) if approval else [],
            "quorum": approval.quorum if approval else None,
            "expires": shown(approval.expires) if approval else None,
        }
    return {
        "identity": access.caller,
        "effect": access.effect,
        "approval": _asks(approval) if approval else "",
        "if": " and ".join(conditions),
        "limit": ", ".join(dict.fromkeys(rates.values())),
        "rules": ", ".join(access.rules),
    }


def _call(what: dict[str, str | None], arguments: dict[str, Json]) -> Call:
    """The call that the options describe. Raises click's `UsageError` unless exactly one names it."""
    given = [(key, value) for key, value in what.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError("give exactly one of --tool, --resource, --prompt, --method and --http")
    key, value = given[0]
    if arguments and key not in {"tool", "prompt"}:
        raise click.UsageError(f"--args are a tool's or a prompt's, not for --{key}")
    call = call_of(key, value, arguments)
    if call is None:
        raise click.BadParameter('not a request, such as "GET /repos/a"', param_hint="--http")
    return call


def read_object(text: str, option: str) -> dict[str, Json]:
    """The JSON object that an option holds: claims as a token's are read, arguments as a call's.

    Raises click's `BadParameter`.
    """
    try:
        data = text.encode()
        value = read_claims_object(data) if option == "--claims" else parse_json(data)
    except ValueError as error:
        said = "not a JSON object" if isinstance(error, UnicodeEncodeError) else str(error)
        raise click.BadParameter(said, param_hint=option) from None
    except Refusal as refusal:
        said = "not a JSON object" if refusal.code == PARSE_ERROR else f"the gateway refuses this: {refusal.message}"
        raise click.BadParameter(said, param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object", param_hint=option)
    return value
