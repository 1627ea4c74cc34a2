"""Writes policies as YAML.

Law: what is written reads back as it was, and holds no character that could show a reviewer something else.
"""

import re
from collections.abc import Iterator, Mapping

from coatcheck.policy.model import Policy
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import shown
from coatcheck.policy.source import Fields, Items, Node, Scalar
from coatcheck.policy.suggest import Suggested, Suggestion

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def quoted(text: str) -> str:
    """A YAML scalar for `text`: as it is where nothing could take it for something else, else double-quoted (5.7)."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def suggested_policy(suggestion: Suggestion, policy: Policy, declared: Sections) -> str:
    """A whole policy: of `declared` (those of `policy`, as written) what the suggested rules need, and the rules."""
    rules = suggestion.rules
    callers, servers = {rule.caller for rule in rules}, {rule.server for rule in rules}
    reviewers = {name for rule in rules if rule.asks for name in rule.asks.reviewers}
    issuers = {policy.identities[name].issuer for name in callers}
    issuers |= {issuer for name in reviewers if (issuer := policy.reviewers[name].issuer)}
    lines = ["coatcheck: 1"]
    if declared.gateway is not None:
        lines += ["", *_field("gateway", declared.gateway.node, 0)]
    for section, wanted in (
        ("issuers", issuers),
        ("identities", callers),
        ("reviewers", reviewers),
        ("servers", servers),
    ):
        entries: Mapping[str, Entry] = getattr(declared, section)
        lines += _section(section, {name: entry for name, entry in entries.items() if name in wanted})
    if rules:
        lines += ["", "rules:", *(line for rule in rules for line in _rule(rule))]
    masks = [entry.node for entry in declared.masks if _server_of(entry.node) in servers]
    if masks:
        lines += ["", *_field("masks", Items(tuple(masks), ""), 0)]
    return "\n".join(lines) + "\n"


def suggested_rules(suggestion: Suggestion) -> str:
    """The rules alone, as one file of a policy."""
    lines = [line for rule in suggestion.rules for line in _rule(rule)]
    return "\n".join(["coatcheck: 1", *(["", "rules:", *lines] if lines else [])]) + "\n"


def comment(text: str) -> str:
    """One line of comment."""
    return "# " + "".join(c if " " <= c <= "~" else _escaped(c) for c in text)


def _section(section: str, entries: Mapping[str, Entry]) -> list[str]:
    if not entries:
        return []
    lines = ["", f"{section}:"]
    for name, entry in entries.items():
        lines += _field(name, entry.node, 2)
    return lines


def _rule(rule: Suggested) -> Iterator[str]:
    for note in rule.notes:
        yield "  " + comment(note)
    yield f"  - id: {quoted(rule.id)}"
    yield f"    who: [{quoted(rule.caller)}]"
    yield f"    server: {quoted(rule.server)}"
    yield f"    {rule.aspect}:"
    yield from (f"      - {quoted(pattern)}" for pattern in rule.patterns)
    if rule.when:
        yield f"    when: {quoted(rule.when)}"
    yield f"    effect: {rule.effect}"
    if rule.asks:
        yield f"    reviewers: [{', '.join(map(quoted, rule.asks.reviewers))}]"
        yield f"    quorum: {rule.asks.quorum}"
        yield f"    expires: {shown(rule.asks.expires)}"
        if rule.asks.message:
            yield f"    message: {quoted(rule.asks.message)}"


def _field(name: str, node: Node, indent: int) -> Iterator[str]:
    """A key and its value, in as many lines as it takes; lists of values and small mappings in one."""
    blank = " " * indent
    match node:
        case Scalar():
            yield f"{blank}{quoted(name)}:{_value(node)}"
        case Items(items=items) if all(isinstance(item, Scalar) for item in items):
            yield f"{blank}{quoted(name)}: [{', '.join(_value(item).strip() for item in items)}]"
        case Items(items=items):
            yield f"{blank}{quoted(name)}:"
            for item in items:
                yield from _item(item, indent + 2)
        case Fields(fields=fields):
            yield f"{blank}{quoted(name)}:"
            for key, (_, value) in fields.items():
                yield from _field(key, value, indent + 2)


def _item(node: Node, indent: int) -> Iterator[str]:
    """One item of a list."""
    if isinstance(node, Fields):
        lines = [line for key, (_, value) in node.fields.items() for line in _field(key, value, indent + 2)]
        yield " " * indent + "- " + lines[0].strip()
        yield from lines[1:]
    else:
        yield " " * indent + "- " + _flow(node)


def _flow(node: Node) -> str:
    match node:
        case Scalar():
            return _value(node).strip()
        case Items(items=items):
            return f"[{', '.join(map(_flow, items))}]"
        case Fields(fields=fields):
            return "{" + ", ".join(f"{quoted(key)}: {_flow(value)}" for key, (_, value) in fields.items()) + "}"


def _value(node: Node) -> str:
    """A scalar after its colon."""
    if not isinstance(node, Scalar) or node.kind == "null":
        return ""
    return f" {quoted(node.text) if node.kind == 'text' else node.text}"


def _server_of(node: Node) -> str:
    pair = node.fields.get("server") if isinstance(node, Fields) else None
    return pair[1].text if pair is not None and isinstance(pair[1], Scalar) else ""


def _escaped(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if " " <= c <= "~":
        return c
    code = ord(c)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
