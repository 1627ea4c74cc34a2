"""Cases: what a policy's own tests (`*.test.yaml`) say a call must come to.

Law: a case is read as strictly as a policy; what it leaves out it does not claim.
Law: a case goes the way a request goes: claims are matched to an identity first, and rules are asked after.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from coatcheck.errors import PolicyError
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.files import is_test_file, read_bytes
from coatcheck.policy.model import Effect
from coatcheck.policy.read_rules import EFFECTS
from coatcheck.policy.read_values import read_json_object, read_moment
from coatcheck.policy.shape import (
    Findings,
    Form,
    describe,
    read_choice,
    read_form,
    read_integer,
    read_items,
    read_name,
    read_text,
)
from coatcheck.policy.source import Items, Node, Scalar, read_source

WHAT = ("tool", "resource", "prompt", "method", "http")

_HTTP_METHOD = re.compile(r"[A-Z][A-Z-]*")
_REQUIRED = ("name", "caller", "server", "expect")
_OPTIONAL = ("claims", *WHAT, "args", "at", "rule", "reason")


@dataclass(frozen=True, slots=True)
class Token:
    """A caller told by its token: the issuer's name in the policy, and the claims."""

    issuer: str
    claims: Mapping[str, Json]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `caller` is an identity's name (then `claims` are added to its own) or a token.

    `rules` are ids that must be among the decision's (empty: any), `reason` the reason of a deny (None: any);
    `at` the moment it is decided (None: now).
    """

    name: str
    where: str
    caller: str | Token
    claims: Mapping[str, Json]
    server: str
    call: Call
    expect: Effect
    rules: tuple[str, ...] = ()
    reason: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One test file: the policy it is about (absolute) and its cases."""

    path: Path
    policy: Path
    cases: tuple[Case, ...]


def find_case_files(path: Path) -> list[CaseFile]:
    """The test files for `path`: itself, those in a folder, or those beside a policy file that are about it.

    Raises `PolicyError`: every problem of the files, or none found.
    """
    if is_test_file(path):
        return [read_case_file(path)]
    folder = path if path.is_dir() else path.parent
    try:
        found = sorted(entry for entry in folder.iterdir() if is_test_file(entry))
    except OSError as error:
        raise PolicyError(f"cannot read: {error.strerror}", where=str(folder)) from error
    files, problems = [], []
    for each in found:
        try:
            files.append(read_case_file(each))
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    if not path.is_dir():
        files = [file for file in files if file.policy == path.resolve()]
    if not files:
        raise PolicyError("no tests here", where=str(path), hint="tests are NAME.test.yaml beside the policy")
    return files


def read_case_file(path: Path) -> CaseFile:
    """One test file. Raises `PolicyError` with every problem, each with its place."""
    fields, problems = read_source(read_bytes(path), str(path))
    if fields is None:
        raise PolicyError(problems)
    findings = Findings(problems)
    form = read_form(fields, findings, required=("coatcheck", "cases"), optional=("policy", "at"), what="a test file")
    form.read("coatcheck", read_integer, what="coatcheck", low=1, high=1)
    policy = form.read("policy", _read_policy, path.parent)
    at = form.read("at", read_moment, what="at")
    cases = form.read("cases", _read_cases, at) or ()
    _refuse_twins(cases, findings)
    if findings.problems:
        raise PolicyError(findings.problems)
    return CaseFile(path, (policy or path.parent).resolve(), cases)


def _read_policy(node: Node, findings: Findings, folder: Path) -> Path | None:
    text = read_text(node, findings, what="policy")
    if text is None:
        return None
    path = folder / text
    if not path.exists():
        findings.report(node.at, f"policy: no such file or folder: {text}", "paths are relative to the test file")
        return None
    return path


def _read_cases(node: Node, findings: Findings, at: datetime | None) -> tuple[Case, ...]:
    if not isinstance(node, Items):
        findings.report(node.at, f"cases is a list, not {describe(node)}", "each starts with: - name: …")
        return ()
    if not node.items:
        findings.report(node.at, "cases is an empty list", "a test file without cases proves nothing")
    cases = [_read_case(item, findings, at) for item in node.items]
    return tuple(case for case in cases if case is not None)


def _read_case(node: Node, findings: Findings, at: datetime | None) -> Case | None:
    form = read_form(node, findings, required=_REQUIRED, optional=_OPTIONAL, what="a case")
    name = form.read("name", read_text, what="name")
    caller = form.read("caller", _read_caller)
    claims = form.read("claims", read_json_object, what="claims")
    if "claims" in form and isinstance(caller, Token):
        form.report(form.at_key("claims"), "'claims' beside a token", "put them into the token")
    server = form.read("server", read_text, what="server")
    call = _read_call(form)
    expect = cast("Effect | None", form.read("expect", read_choice, EFFECTS, what="expect"))
    rules = form.read("rule", _read_rules) or ()
    reason = form.read("reason", read_text, what="reason")
    if "reason" in form and expect not in {None, "deny"}:
        form.report(form.at_key("reason"), f"'reason' on a case that expects {expect}", "only a deny has a reason")
    moment = form.read("at", read_moment, what="at") or at
    if name is None or caller is None or server is None or call is None or expect is None:
        return None
    return Case(name, node.at, caller, claims or {}, server, call, expect, rules, reason, moment)


def _read_caller(node: Node, findings: Findings) -> str | Token | None:
    if isinstance(node, Scalar):
        return read_name(node, findings, what="caller")
    form = read_form(node, findings, required=("issuer", "claims"), optional=("subject",), what="a caller's token")
    issuer = form.read("issuer", read_text, what="issuer")
    claims = form.read("claims", read_json_object, what="claims")
    subject = form.read("subject", read_text, what="subject")
    return None if issuer is None or claims is None else Token(issuer, claims, subject or "")


def _read_rules(node: Node, findings: Findings) -> tuple[str, ...]:
    """One rule's id, or a list of them."""
    if isinstance(node, Items):
        return read_items(node, findings, _read_rule, what="rule")
    rule = _read_rule(node, findings)
    return () if rule is None else (rule,)


def _read_rule(node: Node, findings: Findings) -> str | None:
    return read_name(node, findings, what="a rule")


def _read_call(form: Form) -> Call | None:
    """Exactly one of the kinds of call."""
    given = [key for key in WHAT if key in form]
    arguments = form.read("args", read_json_object, what="args") or {}
    if len(given) != 1:
        if form.is_spelt_right:
            what = f"a case names {len(given)} calls, not exactly one"
            form.report(form.at, what, f"one of: {', '.join(WHAT)}")
        return None
    kind = given[0]
    name = form.read(kind, read_text, what=kind, expands=True)
    if "args" in form and kind not in {"tool", "prompt"}:
        form.report(form.at_key("args"), f"'args' of a {kind}", "only tools and prompts have arguments")
    if name is None:
        return None
    call = call_of(kind, name, arguments)
    if call is None:
        form.report(form.at_value(kind), f"not a request: {name!r}", 'such as "GET /repos/a"')
    return call


def call_of(kind: str, name: str, arguments: Mapping[str, Json]) -> Call | None:
    """The call that one of `WHAT` names; None for an `http` that is not `METHOD /path`."""
    match kind:
        case "tool" | "prompt":
            method = "tools/call" if kind == "tool" else "prompts/get"
            return Call("mcp", method, name, arguments, {"name": name, "arguments": dict(arguments)})
        case "resource":
            return Call("mcp", "resources/read", name, params={"uri": name})
        case "http":
            method, _, path = name.partition(" ")
            is_request = _HTTP_METHOD.fullmatch(method) is not None and path.startswith("/")
            plain, _, query = path.partition("?")
            return Call("http", method, plain, params={"query": query, "path": plain}) if is_request else None
        case _:
            return Call("mcp", name)


def _refuse_twins(cases: tuple[Case, ...], findings: Findings) -> None:
    seen: dict[str, str] = {}
    for case in cases:
        if case.name in seen:
            findings.report(case.where, f"a second case {case.name!r}", f"it is already at {seen[case.name]}")
        seen.setdefault(case.name, case.where)
