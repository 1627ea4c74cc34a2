"""Reads `reviewers`: the people who may decide approvals.

Law: each has exactly one way of proof.
"""

from coatcheck.policy.model import Reviewer
from coatcheck.policy.read_identities import read_claims, read_known_issuer
from coatcheck.policy.read_saml import is_saml
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import Findings, read_form, read_text
from coatcheck.policy.source import Node

_KEYS = ("issuer", "claims", "local", "mitmweb")
_WAYS = "one of {issuer: …, claims: …}, {local: [accounts]}, {mitmweb: name}"


def read_reviewers(sections: Sections) -> dict[str, Reviewer]:
    """All reviewers."""
    return {entry.name: _read_reviewer(entry, sections) for entry in sections.reviewers.values()}


def _read_reviewer(entry: Entry, sections: Sections) -> Reviewer:
    what = f"reviewer {entry.name}"
    form = read_form(entry.node, sections.findings, optional=_KEYS, what=what)
    ways = sum(("issuer" in form or "claims" in form, "local" in form, "mitmweb" in form))
    if ways != 1:
        form.report(entry.at, f"{what} has {ways} ways of proof, not exactly one", _WAYS)
    for key, other in (("issuer", "claims"), ("claims", "issuer")):
        if other in form and key not in form:
            form.report(entry.at, f"missing key {key!r} in {what}")
    issuer = read_known_issuer(form, sections)
    if issuer is not None and is_saml(sections.issuers[issuer]):
        hint = "people show tokens of their own; assertions are exchanged for callers' session tokens only"
        form.report(form.at_value("issuer"), f"{what} cannot prove anything: {issuer} is an issuer of assertions", hint)
    return Reviewer(
        entry.name,
        issuer=issuer,
        claims=form.read("claims", read_claims) or {},
        local=form.read_list("local", _read_account),
        mitmweb=form.read("mitmweb", read_text, what="mitmweb"),
    )


def _read_account(node: Node, findings: Findings) -> str | None:
    return read_text(node, findings, what="an account")
