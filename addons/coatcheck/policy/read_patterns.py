"""Reads the patterns of rules.

Law: a pattern is refused where it could never match, or where a reader could take one of its signs for a wildcard.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from coatcheck.policy.asked import NAMED_METHODS
from coatcheck.policy.globs import path_is_canonical
from coatcheck.policy.model import HttpPattern
from coatcheck.policy.shape import Findings, read_text
from coatcheck.policy.source import Node

_NAME_PATTERN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_METHOD_PATTERN = re.compile(r"[A-Za-z0-9_/$.*-]{1,128}")
_HTTP_PATTERN = re.compile(r"(?P<method>[A-Z][A-Z-]*|\*) (?P<path>/\S*)")


def _read_name_pattern(node: Node, findings: Findings) -> str | None:
    """A tool's or prompt's name, or a glob: ASCII, `*` the only wildcard."""
    text = read_text(node, findings, what="a pattern", expands=True)
    if text is None:
        return None
    if not _NAME_PATTERN.fullmatch(text) or len(text) > 256:
        findings.report(node.at, "a pattern is printable ASCII without spaces at its ends, at most 256 characters")
        return None
    if set(text) & set("?[]{}|^!,\\"):
        findings.report(node.at, f"{text!r} holds a sign that stands for itself only", "the one wildcard is *")
        return None
    return text


def _read_uri_pattern(node: Node, findings: Findings) -> str | None:
    """A resource URI, or a glob: `*` within a segment, `**` as a whole one."""
    text = read_text(node, findings, what="a pattern", expands=True)
    if text is None:
        return None
    if len(text) > 2048 or any(c <= " " for c in text):
        findings.report(node.at, "a resource pattern holds no spaces and at most 2,048 characters")
        return None
    if "*" in text and not text.isascii():
        findings.report(node.at, "a resource pattern with a wildcard is ASCII", "percent-encode it (RFC 3986)")
        return None
    return text if _wildcards_are_whole(text, node, findings) else None


def _read_method(node: Node, findings: Findings) -> str | None:
    """A JSON-RPC method, or a glob."""
    text = read_text(node, findings, what="a method")
    if text is None:
        return None
    if not _METHOD_PATTERN.fullmatch(text):
        findings.report(node.at, f"not a method: {text!r}", "such as tasks/get or tasks/*")
        return None
    if text in NAMED_METHODS:
        aspect = {"tools": "tools", "prompts": "prompts", "resources": "resources"}.get(text.partition("/")[0])
        findings.report(node.at, f"{text!r} is named by what it is about", f"use {aspect or 'prompts or resources'}")
        return None
    return text


def read_http_pattern(node: Node, findings: Findings) -> HttpPattern | None:
    """`GET /repos/**`: a method in capitals or `*`, and a path or glob."""
    text = read_text(node, findings, what="an http pattern", expands=True)
    if text is None:
        return None
    found = _HTTP_PATTERN.fullmatch(text)
    if found is None:
        findings.report(node.at, f"not an http pattern: {text!r}", 'such as "GET /repos/**" or "* /v1/items/*"')
        return None
    if not path_is_canonical(found["path"]):
        hint = "no query, no '.', '..' or empty segments, no needless '%'"
        findings.report(node.at, f"a path that can never match: {found['path']!r}", hint)
        return None
    if not _wildcards_are_whole(found["path"], node, findings):
        return None
    return HttpPattern(found["method"], found["path"])


def _wildcards_are_whole(text: str, node: Node, findings: Findings) -> bool:
    for segment in text.split("/"):
        if "**" in segment and segment != "**":
            findings.report(node.at, f"'**' within a segment: {segment!r}", "'**' is a whole segment: a/**/b")
            return False
    return True


PATTERN_READERS: Mapping[str, Callable[[Node, Findings], str | None]] = MappingProxyType(
    {
        "tools": _read_name_pattern,
        "prompts": _read_name_pattern,
        "resources": _read_uri_pattern,
        "methods": _read_method,
    }
)
"""How an item of each list of text patterns is read."""
