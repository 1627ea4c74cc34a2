"""Reads `issuers` and `identities`: who may be believed, and as whom.

Law: an identity is told by claims that not every token of its issuer has; an issuer is trusted only with
asymmetric algorithms, over https.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from coatcheck.identity.presets import PRESETS
from coatcheck.policy.model import ClaimPattern, Identity, IssuerSpec, Network
from coatcheck.policy.read_places import Place, read_file, read_network, read_url
from coatcheck.policy.read_saml import read_saml_issuer, read_times
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import (
    Findings,
    Form,
    describe,
    read_boolean,
    read_choice,
    read_duration,
    read_form,
    read_items,
    read_name,
    read_text,
)
from coatcheck.policy.source import Fields, Items, Node, Scalar

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""JWA (RFC 7518 3.1, RFC 8037): asymmetric only, so that a public key is never taken for a shared secret."""

MAX_STALE = timedelta(days=7)

TYPES = ("JWT", "JOSE", "at+jwt")
"""What an access or identity token may be typed as (RFC 7519 5.1, RFC 9068 2.1, SPIFFE JWT-SVID 2.3)."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_ISSUER_KEYS = (
    *("preset", "issuer", "algorithms", "typ", "groups", "leeway", "max_lifetime", "saml"),
    *("jwks_uri", "jwks_file", "ca", "addresses", "max_stale", "one_time"),
)
_IDENTITY_KEYS = ("groups", "owner", "expires", "disabled")


def read_issuers(sections: Sections) -> dict[str, IssuerSpec]:
    """All issuers; two of one kind with the same URL are refused, as a token could not be told apart."""
    out: dict[str, IssuerSpec] = {}
    seen: dict[tuple[str, bool], str] = {}
    for entry in sections.issuers.values():
        spec = _read_issuer(entry, sections.findings)
        if spec is None:
            continue
        kind = (spec.issuer, spec.saml is None)
        if kind in seen:
            sections.findings.report(entry.at, f"issuer {entry.name!r} has the same URL as {seen[kind]!r}")
        seen.setdefault(kind, entry.name)
        out[entry.name] = spec
    return out


def _read_issuer(entry: Entry, findings: Findings) -> IssuerSpec | None:
    form = read_form(entry.node, findings, optional=_ISSUER_KEYS, what=f"issuer {entry.name}")
    if "saml" in form:
        return read_saml_issuer(entry, form)
    name = form.read("preset", read_choice, PRESETS.keys(), what="preset")
    preset = PRESETS[name] if name else None
    url = form.read("issuer", _read_issuer_url, what="issuer")
    algorithms = form.read_list("algorithms", _read_algorithm) or (preset.algorithms if preset else ())
    if form.is_spelt_right:
        needs_url = preset.issuer is None if preset else "preset" not in form
        if needs_url and "issuer" not in form:
            form.report(entry.at, f"missing key 'issuer' in issuer {entry.name}", "the exact `iss` of its tokens")
        if "preset" not in form and "algorithms" not in form:
            form.report(entry.at, f"missing key 'algorithms' in issuer {entry.name}", "such as [ES256, RS256]")
    keys = _read_key_place(form, entry.folder)
    typ = form.read("typ", read_choice, TYPES, what="typ")
    groups = form.read("groups", read_text, what="groups")
    leeway, lifetime = read_times(form)
    issuer = url.url if url else preset.issuer if preset else None
    if issuer is None:
        return None
    return IssuerSpec(
        name=entry.name,
        issuer=issuer,
        algorithms=algorithms,
        jwks_uri=keys.uri,
        jwks_file=keys.file,
        ca=keys.ca,
        addresses=keys.addresses,
        max_stale=keys.max_stale,
        groups_claim=groups or (preset.groups_claim if preset else None),
        leeway=leeway or timedelta(0),
        max_lifetime=lifetime or timedelta(hours=24),
        typ=typ.lower() if typ else None,
        preset=name,
        one_time=bool(form.read("one_time", read_boolean, what="one_time")),
    )


@dataclass(frozen=True, slots=True)
class _KeyPlace:
    """Where an issuer's keys come from; its own discovery document where neither `uri` nor `file` is given."""

    uri: str | None
    file: Path | None
    ca: Path | None
    addresses: tuple[Network, ...]
    max_stale: timedelta


def _read_key_place(form: Form, folder: Path) -> _KeyPlace:
    if "jwks_uri" in form and "jwks_file" in form:
        form.report(form.at_key("jwks_file"), "both 'jwks_uri' and 'jwks_file'", "keep one")
    for key in ("ca", "addresses"):
        if key in form and "jwks_file" in form:
            form.report(form.at_key(key), f"{key!r} where nothing is fetched", "remove it, or 'jwks_file'")
    uri = form.read("jwks_uri", _read_issuer_url, what="jwks_uri")
    file = form.read("jwks_file", read_file, folder, what="jwks_file")
    ca = form.read("ca", read_file, folder, what="ca")
    addresses: tuple[Network, ...] = form.read_list("addresses", _read_address)
    shortest = timedelta(minutes=1)
    stale = form.read("max_stale", read_duration, what="max_stale", low=shortest, high=MAX_STALE)
    return _KeyPlace(uri.url if uri else None, file, ca, addresses, stale or timedelta(hours=24))


def _read_issuer_url(node: Node, findings: Findings, *, what: str) -> Place | None:
    """https, or http on loopback."""
    place = read_url(node, findings, what=what, schemes=("http", "https"))
    if place and place.scheme == "http" and not place.is_loopback:
        is_written = isinstance(node, Scalar) and node.source == "written"
        rest = place.url.partition("://")[2] if is_written else "…"
        findings.report(node.at, f"{what} is not https", f"write https://{rest}")
    return place


def _read_address(node: Node, findings: Findings) -> Network | None:
    return read_network(node, findings, what="addresses")


def _read_algorithm(node: Node, findings: Findings) -> str | None:
    return read_choice(node, findings, ALGORITHMS, what="an algorithm")


def read_identities(sections: Sections) -> dict[str, Identity]:
    """All identities; two that the same token would match are refused where that is plain to see."""
    out: dict[str, Identity] = {}
    for entry in sections.identities.values():
        identity = _read_identity(entry, sections)
        if identity is None:
            continue
        for other in out.values():
            if (other.issuer, other.claims) == (identity.issuer, identity.claims):
                what = f"identity {identity.name!r} has the issuer and claims of {other.name!r}"
                sections.findings.report(entry.at, what, "a token must match one identity only")
        out[entry.name] = identity
    return out


def _read_identity(entry: Entry, sections: Sections) -> Identity | None:
    what = f"identity {entry.name}"
    form = read_form(entry.node, sections.findings, required=("issuer", "claims"), optional=_IDENTITY_KEYS, what=what)
    issuer = read_known_issuer(form, sections)
    claims = form.read("claims", read_claims)
    groups = frozenset(form.read_list("groups", _read_group))
    owner = form.read("owner", read_text, what="owner")
    expires = form.read("expires", _read_date)
    disabled = form.read("disabled", read_boolean, what="disabled")
    if issuer is None or not claims:
        return None
    return Identity(entry.name, issuer, claims, groups, owner, expires, bool(disabled))


def read_known_issuer(form: Form, sections: Sections) -> str | None:
    """The `issuer` of an identity or a reviewer: the name of a declared one."""
    name = form.read("issuer", read_text, what="issuer")
    if name is None or not sections.is_known(name, sections.issuers, form.at_value("issuer"), what="issuer"):
        return None
    return name


def _read_group(node: Node, findings: Findings) -> str | None:
    return read_name(node, findings, what="a group")


def read_claims(node: Node, findings: Findings) -> dict[str, ClaimPattern]:
    """Claims to match: names to text (globs), whole numbers, booleans, or lists of them; never empty.

    Reported where every claim would match anything: then every token of the issuer would be this identity.
    """
    if not isinstance(node, Fields):
        findings.report(node.at, f"claims is a mapping, not {describe(node)}")
        return {}
    if not node.fields:
        findings.report(node.at, "claims is empty", "name the claims that only this identity's tokens have")
    out: dict[str, ClaimPattern] = {}
    for name, (key, value) in node.fields.items():
        if not name.strip() or not name.isprintable():
            findings.report(key.at, "not a claim's name")
            continue
        pattern = _read_pattern(value, findings, name)
        if pattern is not None:
            out[name] = pattern
    if out and all(_matches_anything(pattern) for pattern in out.values()):
        findings.report(node.at, "claims that match every token of the issuer", "name a claim that tells it apart")
    return out


def _matches_anything(pattern: ClaimPattern) -> bool:
    values = pattern if isinstance(pattern, tuple) else (pattern,)
    return any(isinstance(value, str) and not value.strip("*") for value in values)


def _read_pattern(node: Node, findings: Findings, name: str) -> ClaimPattern | None:
    if isinstance(node, Items):
        return read_items(node, findings, _read_claim_value, what=f"claim {name}") or None
    return _read_claim_value(node, findings)


def _read_claim_value(node: Node, findings: Findings) -> str | int | bool | None:
    if isinstance(node, Scalar):
        if node.kind == "integer":
            return int(node.text)
        if node.kind == "boolean":
            return node.text.lower() == "true"
    return read_text(node, findings, what="a claim's value")


def _read_date(node: Node, findings: Findings) -> date | None:
    """An ISO 8601 calendar date, `2027-06-30`."""
    text = node.text if isinstance(node, Scalar) else ""
    if _DATE.fullmatch(text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    findings.report(node.at, "expires is a date such as 2027-06-30")
    return None
