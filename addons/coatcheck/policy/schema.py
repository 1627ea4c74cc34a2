"""The JSON Schema of a policy file, for editors (JSON Schema draft-07, what YAML editors support).

Law: what the loader accepts, the schema accepts; a key the loader does not know, the schema does not know. It sees one
file at a time: whether a name is declared, and what a rule can match, only the loader says.
"""

import json

from coatcheck.identity.presets import PRESETS
from coatcheck.masking.detectors import DETECTORS
from coatcheck.mcp.call import Json
from coatcheck.policy.environment import PLACES
from coatcheck.policy.read_identities import ALGORITHMS, TYPES
from coatcheck.policy.read_masks import FORMS
from coatcheck.policy.read_rules import DENY_STYLES, EFFECTS, MATCHERS
from coatcheck.policy.read_servers import PIN_MODES

_TEXT: dict[str, Json] = {"type": "string", "minLength": 1}
_NAME: dict[str, Json] = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_TIME: dict[str, Json] = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,6})[smhd]$"}
_FLAG: dict[str, Json] = {"type": "boolean"}


def json_schema() -> dict[str, Json]:
    """The schema of one policy file."""
    sections: dict[str, Json] = {
        "coatcheck": {"const": 1, "description": "The version of this format."},
        "include": _listed(_TEXT, "More files of this policy, relative to this one and under the policy's folder."),
        "gateway": _gateway(),
        "issuers": _named(_issuer(), "Whose tokens are believed, by name."),
        "identities": _named(_identity(), "Which token is which automation, told by its claims."),
        "reviewers": _named(_reviewer(), "The people who decide what a rule holds for approval."),
        "servers": _named(_server(), "Where the gateway may go: MCP servers and HTTP APIs, by URL."),
        "rules": {"type": "array", "minItems": 1, "items": _rule(), "description": "What no rule permits is denied."},
        "masks": {"type": "array", "minItems": 1, "items": _mask(), "description": "What to take out of answers."},
    }
    whole = _form(sections, required=("coatcheck",), description="A coatcheck policy, or one file of it.")
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "coatcheck policy", **whole}


def schema_text() -> str:
    """The schema as the file that ships with the policies."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _form(properties: dict[str, Json], *, required: tuple[str, ...] = (), description: str = "") -> dict[str, Json]:
    out: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        out["required"] = list(required)
    return out | ({"description": description} if description else {})


def _named(value: Json, description: str) -> Json:
    names: dict[str, Json] = {**_NAME, "not": {"const": "any"}}
    of: dict[str, Json] = {"minProperties": 1, "propertyNames": names, "additionalProperties": value}
    return {"type": "object", **of, "description": description}


def _listed(item: Json, description: str) -> Json:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": item, "description": description}


def _said(shape: dict[str, Json], description: str) -> Json:
    return {**shape, "description": description}


def _words(words: tuple[str, ...], description: str) -> Json:
    return {"enum": list(words), "description": description}


def _whole(low: int, high: int, description: str) -> Json:
    return {"type": "integer", "minimum": low, "maximum": high, "description": description}


def _place(section: str, key: str, description: str) -> Json:
    """A value that may hold `${NAME}` where the section's key is one of the named places."""
    may = " May hold ${NAME}, from the environment." if key in PLACES.get(section, ()) else ""
    return _said(_TEXT, description + may)


def _claims() -> Json:
    value: Json = {"type": ["string", "integer", "boolean"]}
    pattern: Json = {"anyOf": [value, {"type": "array", "minItems": 1, "uniqueItems": True, "items": value}]}
    said = "Claims to match: a value, a glob with *, or a list of which one must match."
    return {"type": "object", "minProperties": 1, "additionalProperties": pattern, "description": said}


def _gateway() -> Json:
    return _form(
        {
            "audience": _place("gateway", "audience", "What tokens must be minted for: this gateway's own URL or URN."),
            "hold": _said(_TIME, "How long a held call keeps its client waiting, at most 10m."),
            "max_in_flight": _whole(1, 100_000, "Requests one caller may have in flight."),
            "session_ttl": _said(_TIME, "How long a session token is good for."),
        },
        required=("audience",),
        description="The gateway itself.",
    )


def _issuer() -> Json:
    return _form(
        {
            "preset": _words(tuple(PRESETS), "A platform that is known by name."),
            "issuer": _place("issuers", "issuer", "The exact `iss` of its tokens, https."),
            "algorithms": _listed({"enum": list(ALGORITHMS)}, "The signatures to accept, asymmetric only."),
            "typ": _words(TYPES, "The `typ` its tokens must have."),
            "groups": _said(_TEXT, "The claim that lists groups, dotted: realm_access.roles."),
            "jwks_uri": _place("issuers", "jwks_uri", "Where its keys are, if not where discovery says."),
            "jwks_file": _said(_TEXT, "Its keys as a file, relative to this one."),
            "ca": _said(_TEXT, "A CA certificate to verify it with, relative to this file."),
            "addresses": _listed(_TEXT, "Private address ranges its hosts may resolve to."),
            "max_stale": _said(_TIME, "How old its keys may become while they cannot be fetched."),
            "leeway": _said(_TIME, "How far its clock may be off, at most 60s."),
            "max_lifetime": _said(_TIME, "How long its tokens may live."),
            "one_time": _said(_FLAG, "Take each of its tokens once."),
            "saml": _form(
                {
                    "certificate": _said(_TEXT, "The certificates it signs with, a PEM file relative to this one."),
                    "recipient": _said(_TEXT, "The URL its assertions are for."),
                },
                required=("certificate",),
                description="Assertions instead of tokens (SAML 2.0).",
            ),
        }
    )


def _identity() -> Json:
    return _form(
        {
            "issuer": _said(_NAME, "An issuer's name."),
            "claims": _claims(),
            "groups": _listed(_NAME, "Groups it is in, for `who: [group:NAME]`."),
            "owner": _said(_TEXT, "Who answers for it."),
            "expires": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "description": "Its last day."},
            "disabled": _said(_FLAG, "Refuse its tokens."),
        },
        required=("issuer", "claims"),
    )


def _reviewer() -> Json:
    form = _form(
        {
            "issuer": _said(_NAME, "An issuer's name; with claims."),
            "claims": _claims(),
            "local": _listed(_TEXT, "Accounts on the gateway's host."),
            "mitmweb": _said(_TEXT, "The person who holds mitmweb's password."),
        },
        description="Exactly one way of proof: issuer and claims, local, or mitmweb.",
    )
    ways: list[Json] = [{"required": ["issuer", "claims"]}, {"required": ["local"]}, {"required": ["mitmweb"]}]
    return {**form, "oneOf": ways}


def _server() -> Json:
    return _form(
        {
            "url": _place("servers", "url", "Where it is: its MCP endpoint, or the root of its API."),
            "credential": _said(_TEXT, "The secret in the vault that is put in on the wire."),
            "ca": _said(_TEXT, "A CA certificate to verify it with, relative to this file."),
            "addresses": _listed(_TEXT, "Private address ranges it may resolve to; without this they are refused."),
            "tunnel": _said(_FLAG, "Reached, not opened."),
            "pins": _words(PIN_MODES, "What becomes of a tool that changed: told, held for approval, or denied."),
            "pin_reviewers": _listed(_NAME, "With pins: hold, who may accept a changed tool."),
            "legacy_sse": _said(_FLAG, "Let it speak HTTP+SSE of MCP 2024-11-05; url is where its stream is."),
        },
        required=("url",),
    )


def _rule() -> Json:
    form = _form(
        {
            "id": _said(_NAME, "Its name, in every record of what it decided."),
            "who": _listed(_TEXT, "Identities, group:NAME, or any."),
            "server": _said(_NAME, "A server's name."),
            "effect": _words(EFFECTS, "The strictest of the rules that match wins: deny, approve, allow."),
            "tools": _listed(_TEXT, "Tools by name; * stands for letters, digits, _ . and -."),
            "resources": _listed(_TEXT, "Resource URIs; * within a segment, ** for any number of segments."),
            "prompts": _listed(_TEXT, "Prompts by name."),
            "methods": _listed(_TEXT, "Other JSON-RPC methods."),
            "http": _listed({"type": "string", "pattern": r"^([A-Z][A-Z-]*|\*) /\S*$"}, 'Such as "GET /repos/**".'),
            "when": _said(
                {**_TEXT, "maxLength": 2000}, "A CEL condition over caller, call, args, server, http and now."
            ),
            "reviewers": _listed(_NAME, "With effect approve: who may decide."),
            "quorum": _whole(1, 20, "How many of them must agree."),
            "expires": _said(_TIME, "How long an approval may be waited for, at most 7d."),
            "message": _said(_TEXT, "What callers and reviewers are told."),
            "limit": _said(
                {"type": "string", "pattern": "^(1000000|[1-9][0-9]{0,5})/(s|min|h|d)$"},
                "How often each caller may, such as 30/min.",
            ),
            "deny_style": _words(DENY_STYLES, "With effect deny: how a denied tool call is answered."),
            "mode": _words(("enforce", "shadow"), "shadow: record what it would do, and do nothing."),
        },
        required=("id", "who", "server", "effect"),
    )
    return {
        **form,
        "anyOf": [{"required": [matcher]} for matcher in MATCHERS],
        "if": {"properties": {"effect": {"const": "approve"}}},
        "then": {"required": ["reviewers"]},
        "else": {"not": {"anyOf": [{"required": [key]} for key in ("reviewers", "quorum", "expires")]}},
    }


def _mask() -> Json:
    form = _form(
        {
            "id": _said(_NAME, "Its name."),
            "server": _said(_NAME, "The server whose answers it is for."),
            "detect": _listed({"enum": list(DETECTORS)}, "What to find in any text."),
            "fields": _listed(_TEXT, "Paths such as $..ssn or $.user.email."),
            "as": _words(FORMS, "What is left in its place."),
        },
        required=("id", "server"),
    )
    return {**form, "anyOf": [{"required": ["detect"]}, {"required": ["fields"]}]}
