"""Reads plain values: JSON written as YAML, moments, rates.

Law: a value reads as JSON has it, or is refused: no number that two readers would take differently.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from coatcheck.mcp.call import Json
from coatcheck.policy.model import Rate
from coatcheck.policy.shape import Findings, describe
from coatcheck.policy.source import Fields, Items, Node, Scalar

_RATE = re.compile(r"(1000000|[1-9][0-9]{0,5})/(s|min|h|d)")
_PER = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


def read_json_object(node: Node, findings: Findings, *, what: str) -> dict[str, Json] | None:
    """A mapping as a JSON object."""
    if not isinstance(node, Fields):
        findings.report(node.at, f"{what} is a mapping, not {describe(node)}")
        return None
    return {name: _json(value, findings) for name, (_, value) in node.fields.items()}


def read_moment(node: Node, findings: Findings, *, what: str) -> datetime | None:
    """A moment with its zone, `2026-11-24T12:00:00Z` (RFC 3339), as UTC."""
    if isinstance(node, Scalar) and node.kind == "text":
        with suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(node.text)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
    findings.report(node.at, f"{what} is a moment such as 2026-11-24T12:00:00Z")
    return None


def read_rate(node: Node, findings: Findings, *, what: str) -> Rate | None:
    """`30/min`: a count from 1 to 1,000,000 and `s`, `min`, `h` or `d`."""
    found = _RATE.fullmatch(node.text) if isinstance(node, Scalar) and node.kind == "text" else None
    if found is None:
        findings.report(node.at, f"{what} is a number in a time, such as 30/min", "per s, min, h or d")
        return None
    return Rate(int(found[1]), timedelta(seconds=_PER[found[2]]))


def _json(node: Node, findings: Findings) -> Json:
    match node:
        case Items():
            return [_json(item, findings) for item in node.items]
        case Fields():
            return {name: _json(value, findings) for name, (_, value) in node.fields.items()}
        case Scalar(kind="text"):
            return node.text
        case Scalar(kind="null"):
            return None
        case Scalar(kind="boolean"):
            return node.text.lower() == "true"
        case Scalar(kind="integer"):
            return int(node.text)
        case Scalar():
            return _number(node, findings)


def _number(node: Scalar, findings: Findings) -> Json:
    """A decimal number as JSON writes it (RFC 8259 section 6)."""
    digits = node.text.removeprefix("-")
    is_plain = digits[:1].isdigit() and not (digits[0] == "0" and digits[1:2].isdigit())
    with suppress(ValueError, OverflowError):
        value = float(node.text)
        if is_plain and "_" not in digits and digits[-1].isdigit() and abs(value) != float("inf"):
            return value
    findings.report(node.at, f"not a number as JSON writes it: {node.text}", "quote it where text is meant")
    return None
