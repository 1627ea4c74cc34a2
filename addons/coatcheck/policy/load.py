"""Loads a policy: files in, one checked `Policy` out.

Law: a policy is either whole or refused with every problem found, each with its place (DESIGN 5.3).
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from coatcheck.errors import PolicyError, Problem
from coatcheck.policy.dead import report_dead_rules
from coatcheck.policy.environment import fill_in
from coatcheck.policy.files import Source, read_files
from coatcheck.policy.model import IssuerSpec, Policy
from coatcheck.policy.read_identities import read_identities, read_issuers
from coatcheck.policy.read_masks import read_masks
from coatcheck.policy.read_reviewers import read_reviewers
from coatcheck.policy.read_rules import read_rules
from coatcheck.policy.read_servers import read_gateway, read_servers
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import Findings, describe, read_form, read_integer, read_names
from coatcheck.policy.source import Fields, Items, Node

SECTIONS = ("gateway", "issuers", "identities", "reviewers", "servers", "rules", "masks")

_PLACE = re.compile(r"(.*):(\d+):(\d+)", re.DOTALL)


def load_policy(
    path: Path,
    *,
    secrets: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
    sha256: str = "",
) -> Policy:
    """The policy in a file, or in a folder's `*.yaml` and `*.yml` (by name, not recursive, none hidden, no
    `*.test.yaml`), merged, each with what it includes.

    `secrets` are the names that exist in the vault; None leaves `credential` unchecked. `environment` fills in
    `${NAME}` (None: the process's own). The policy's sha256 is that of the files' bytes one after another, of what
    was filled in, and of the certificates of SAML issuers; it must be `sha256` where that is given. Raises
    `PolicyError` with every problem, in the files' order.
    """
    sections, files = read_sections(path, secrets=secrets)
    findings = sections.findings
    used = fill_in(sections, os.environ if environment is None else environment)
    if sections.gateway is None:
        findings.report(str(path), "missing section 'gateway'", "gateway: {audience: https://gateway.example.com}")
    policy = _read(sections, tuple(file.path for file in files))
    if findings.problems or policy is None:
        raise PolicyError(_in_order(findings.problems))
    found = _digest(files, used, policy.issuers.values())
    if sha256 and found != sha256:
        hint = f"coatcheck_policy_sha256 says {sha256[:12]}…: change it together with the policy"
        raise PolicyError(
            f"the policy's sha256 is {found[:12]}…, not the one that is required", where=str(path), hint=hint
        )
    return replace(policy, sha256=found)


def read_sections(path: Path, *, secrets: Collection[str] | None = None) -> tuple[Sections, list[Source]]:
    """The sections of a policy's files as written, merged, and the files. Raises `PolicyError` where one is no YAML."""
    findings = Findings()
    sections = Sections(findings, secrets=secrets)
    files = read_files(path, findings)
    for file in files:
        if file.fields is not None:
            _collect(file.fields, file.path.absolute().parent, sections)
    if any(file.fault for file in files):  # names may be declared in what could not be read: nothing else is sure
        raise PolicyError(findings.problems)
    return sections, files


def _digest(files: Sequence[Source], used: Mapping[str, str], issuers: Iterable[IssuerSpec]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.data)
    if used:
        digest.update(b"\0" + json.dumps(used, sort_keys=True).encode())
    for spec in issuers:
        for certificate in spec.saml.certificates if spec.saml is not None else ():
            digest.update(b"\0" + hashlib.sha256(certificate).digest())
    return digest.hexdigest()


def _collect(fields: Fields, folder: Path, sections: Sections) -> None:
    """Adds one file's sections to the rest; a name may be declared once in all files."""
    findings = sections.findings
    form = read_form(fields, findings, required=("coatcheck",), optional=("include", *SECTIONS), what="a policy file")
    form.read("coatcheck", read_integer, what="coatcheck", low=1, high=1)
    for section in SECTIONS:
        if section not in form:
            continue
        key, node = form.fields[section]
        if section == "gateway":
            if sections.gateway is not None:
                findings.report(key.at, "a second 'gateway'", f"it is already at {sections.gateway.at}")
            sections.gateway = sections.gateway or Entry(section, key.at, node, folder)
        elif section in {"rules", "masks"}:
            target = sections.rules if section == "rules" else sections.masks
            target.extend(_items(node, folder, findings, section))
        else:
            declared: dict[str, Entry] = getattr(sections, section)
            _declare(node, folder, findings, section, declared)


def _items(node: Node, folder: Path, findings: Findings, section: str) -> list[Entry]:
    if not isinstance(node, Items):
        findings.report(node.at, f"{section} is a list, not {describe(node)}", "each starts with: - id: …")
        return []
    if not node.items:
        findings.report(node.at, f"{section} is an empty list", "leave the section out, or fill it")
    return [Entry("", item.at, item, folder) for item in node.items]


def _declare(node: Node, folder: Path, findings: Findings, section: str, declared: dict[str, Entry]) -> None:
    for name, key, value in read_names(node, findings, what=section):
        if name in declared:
            findings.report(key.at, f"duplicate name {name!r} in {section}", f"it is already at {declared[name].at}")
        declared.setdefault(name, Entry(name, key.at, value, folder))


def _read(sections: Sections, files: tuple[Path, ...]) -> Policy | None:
    gateway = read_gateway(sections)
    issuers = read_issuers(sections)
    identities = read_identities(sections)
    reviewers = read_reviewers(sections)
    servers = read_servers(sections, reviewers)
    rules = read_rules(sections, issuers, identities, reviewers, servers)
    masks = read_masks(sections, servers)
    report_dead_rules(rules, identities, sections.findings)
    if gateway is None:
        return None
    return Policy(
        audience=gateway.audience,
        sha256="",
        files=files,
        hold=gateway.hold,
        max_in_flight=gateway.max_in_flight,
        session_ttl=gateway.session_ttl,
        issuers=issuers,
        identities=identities,
        reviewers=reviewers,
        servers=servers,
        rules=rules,
        masks=masks,
    )


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By file, line and column, each once."""

    def place(problem: Problem) -> tuple[str, int, int]:
        found = _PLACE.fullmatch(problem.where)
        return (found[1], int(found[2]), int(found[3])) if found else (problem.where, 0, 0)

    return sorted(dict.fromkeys(problems), key=place)
