"""Fills in `${NAME}` from the environment, in the places where deployments differ and nowhere else.

Law: only where the gateway and its servers and issuers are can come from the environment: never who may do what.
Law: a value that was filled in is in the policy's sha256, and in no message.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import Findings
from coatcheck.policy.source import Fields, Scalar

PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"gateway": ("audience",), "issuers": ("issuer", "jwks_uri"), "servers": ("url",)}
)
"""The keys whose values may hold `${NAME}`, by section."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def fill_in(sections: Sections, environment: Mapping[str, str]) -> dict[str, str]:
    """Replaces the variables in the named places of `sections`; returns those that were used, with their values.

    What is not a name (`[A-Z][A-Z0-9_]*`), not set or empty is reported at its place.
    """
    used: dict[str, str] = {}
    if sections.gateway is not None:
        sections.gateway = _filled(sections.gateway, PLACES["gateway"], environment, used, sections.findings)
    for name, declared in (("issuers", sections.issuers), ("servers", sections.servers)):
        for key, entry in declared.items():
            declared[key] = _filled(entry, PLACES[name], environment, used, sections.findings)
    return used


def _filled(
    entry: Entry, keys: tuple[str, ...], environment: Mapping[str, str], used: dict[str, str], findings: Findings
) -> Entry:
    if not isinstance(entry.node, Fields):
        return entry
    fields = dict(entry.node.fields)
    for key in keys:
        name, value = fields.get(key, (None, None))
        if name is not None and isinstance(value, Scalar) and value.kind == "text" and "${" in value.text:
            fields[key] = (name, _expanded(value, environment, used, findings))
    return replace(entry, node=Fields(fields, entry.node.at))


def _expanded(node: Scalar, environment: Mapping[str, str], used: dict[str, str], findings: Findings) -> Scalar:
    """The value with its variables filled in, or marked as `unfilled` with its problems reported."""
    names = _VARIABLE.findall(node.text)
    if "${" in _VARIABLE.sub("", node.text):
        findings.report(node.at, "a '${' without its '}'", "such as ${SHOP_URL}")
        return replace(node, source="unfilled")
    problems = [problem for name in dict.fromkeys(names) if (problem := _fault(name, environment)) is not None]
    for what, hint in problems:
        findings.report(node.at, what, hint)
    if problems:
        return replace(node, source="unfilled")
    used.update({name: environment[name] for name in names})
    return replace(node, text=_VARIABLE.sub(lambda found: environment[found[1]], node.text), source="filled")


def _fault(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    if not _NAME.fullmatch(name):
        return f"not a variable: '${{{name}}}'", "such as ${SHOP_URL}: capitals, digits and '_'"
    value = environment.get(name)
    if value is None:
        return f"the environment has no {name}", f"set {name} where the gateway is started"
    if not value.strip() or "${" in value:
        return f"{name} is empty in the environment, or holds a variable itself", "set it to the plain value"
    return None
