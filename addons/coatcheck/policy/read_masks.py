"""Reads `masks`: what to take out of a server's answers.

Law: a mask that would find nothing is refused.
"""

from typing import cast

from coatcheck.masking.detectors import DETECTORS
from coatcheck.masking.paths import parse_path
from coatcheck.policy.model import MaskForm, MaskRule, Server
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import Findings, read_choice, read_form, read_name, read_text
from coatcheck.policy.source import Node

FORMS: tuple[MaskForm, ...] = ("redact", "partial", "hash")


def read_masks(sections: Sections, servers: dict[str, Server]) -> tuple[MaskRule, ...]:
    """All masks, in the order written; ids are unique."""
    out: dict[str, MaskRule] = {}
    for entry in sections.masks:
        mask = _read_mask(entry, sections, servers)
        if mask is None:
            continue
        if mask.id in out:
            sections.findings.report(entry.at, f"duplicate mask id {mask.id!r}")
        out.setdefault(mask.id, mask)
    return tuple(out.values())


def _read_mask(entry: Entry, sections: Sections, servers: dict[str, Server]) -> MaskRule | None:
    form = read_form(
        entry.node, sections.findings, required=("id", "server"), optional=("detect", "fields", "as"), what="a mask"
    )
    mask_id = form.read("id", read_name, what="id")
    server = form.read("server", read_text, what="server")
    if server is not None:
        sections.is_known(server, sections.servers, form.at_value("server"), what="server")
        if server in servers and servers[server].tunnel:
            form.report(form.at_value("server"), f"server {server} is a tunnel: nothing in it can be masked")
    if form.is_spelt_right and "detect" not in form and "fields" not in form:
        form.report(form.at, "a mask names what to take out", "give 'detect', 'fields' or both")
    detect = form.read_list("detect", _read_detector)
    fields = form.read_list("fields", _read_path)
    shape = cast("MaskForm | None", form.read("as", read_choice, FORMS, what="as"))
    if mask_id is None or server is None:
        return None
    return MaskRule(mask_id, server, detect, fields, shape or "redact")


def _read_detector(node: Node, findings: Findings) -> str | None:
    return read_choice(node, findings, DETECTORS.keys(), what="detect")


def _read_path(node: Node, findings: Findings) -> str | None:
    text = read_text(node, findings, what="a field's path")
    if text is None:
        return None
    try:
        parse_path(text)
    except ValueError as error:
        findings.report(node.at, f"not a path: {error}", "such as $.user.email or $..ssn")
        return None
    return text
