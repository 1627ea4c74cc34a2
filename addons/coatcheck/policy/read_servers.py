"""Reads `gateway` and `servers`: the gateway's own name, and where it may go.

Law: a token minted for something generic is not minted for this gateway; a server is one place, spelt one way.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, cast

from coatcheck.policy.model import Network, PinMode, Reviewer, Server
from coatcheck.policy.read_places import Place, read_file, read_network, read_url
from coatcheck.policy.scope import Entry, Sections
from coatcheck.policy.shape import (
    Findings,
    Form,
    read_boolean,
    read_choice,
    read_duration,
    read_form,
    read_integer,
    read_text,
)
from coatcheck.policy.source import Node, Scalar

GENERIC = frozenset(
    {"gateway", "api", "mcp", "coatcheck", "default", "proxy", "server", "account", "service", "audience", "all", "any"}
)
MAX_HOLD = timedelta(minutes=10)
MAX_SESSION_TTL = timedelta(hours=24)

_URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{1,31}:\S+", re.IGNORECASE)
_GATEWAY_KEYS = ("hold", "max_in_flight", "session_ttl")
_SERVER_KEYS = ("credential", "ca", "addresses", "tunnel", "pins", "pin_reviewers", "legacy_sse")
_NOT_IN_TUNNEL = {
    "pins": "its tools cannot be seen",
    "pin_reviewers": "its tools cannot be seen",
    "legacy_sse": "its streams cannot be seen",
}
PIN_MODES: tuple[PinMode, ...] = ("warn", "hold", "deny")


@dataclass(frozen=True, slots=True)
class Gateway:
    """What `gateway:` says."""

    audience: str
    hold: timedelta
    max_in_flight: int
    session_ttl: timedelta


def read_gateway(sections: Sections) -> Gateway | None:
    """The gateway's audience and limits; None with a problem reported."""
    entry, findings = sections.gateway, sections.findings
    if entry is None:
        return None
    form = read_form(entry.node, findings, required=("audience",), optional=_GATEWAY_KEYS, what="gateway")
    audience = form.read("audience", _read_audience)
    hold = form.read("hold", read_duration, what="hold", low=timedelta(0), high=MAX_HOLD)
    in_flight = form.read("max_in_flight", read_integer, what="max_in_flight", low=1, high=100_000)
    shortest = timedelta(minutes=1)
    ttl = form.read("session_ttl", read_duration, what="session_ttl", low=shortest, high=MAX_SESSION_TTL)
    if audience is None:
        return None
    held = timedelta(seconds=45) if hold is None else hold
    return Gateway(audience, held, in_flight or 100, ttl or timedelta(hours=1))


def _read_audience(node: Node, findings: Findings) -> str | None:
    """An https URL or a URN (RFC 8141): something that only this gateway is called."""
    text = read_text(node, findings, what="audience")
    if text is None:
        return None
    shown = node.shown if isinstance(node, Scalar) else ""
    hint = "this gateway's own URL, such as https://gateway.example.com"
    if text.lower().removeprefix("urn:") in GENERIC:
        findings.report(node.at, f"audience is a generic word: {shown}", hint)
        return None
    if text.lower().startswith("urn:"):
        if _URN.fullmatch(text) and text.rpartition(":")[2].lower() not in GENERIC:
            return text
        findings.report(node.at, f"audience is not a URN of its own: {shown}", "such as urn:example:coatcheck:prod")
        return None
    place = read_url(node, findings, what="audience", schemes=("https",))
    return place.url if place else None


def read_servers(sections: Sections, reviewers: dict[str, Reviewer]) -> dict[str, Server]:
    """All servers; two at the same URL are refused."""
    out: dict[str, Server] = {}
    seen: dict[tuple[str, str, int, str], str] = {}
    for entry in sections.servers.values():
        server = _read_server(entry, sections, reviewers)
        if server is None:
            continue
        place = (*server.origin, server.path.rstrip("/"))
        if place in seen:
            sections.findings.report(entry.at, f"server {entry.name!r} has the same URL as {seen[place]!r}")
        seen.setdefault(place, entry.name)
        out[entry.name] = server
    return out


def _read_server(entry: Entry, sections: Sections, reviewers: dict[str, Reviewer]) -> Server | None:
    what = f"server {entry.name}"
    form = read_form(entry.node, sections.findings, required=("url",), optional=_SERVER_KEYS, what=what)
    place: Place | None = form.read("url", read_url, what="url", schemes=("http", "https"))
    credential = form.read("credential", read_text, what="credential")
    if credential is not None and sections.secrets is not None:
        sections.is_known(credential, sections.secrets, form.at_value("credential"), what="secret")
    ca = form.read("ca", read_file, entry.folder, what="ca")
    if "ca" in form and place and place.scheme == "http":
        form.report(form.at_key("ca"), "'ca' on a server without https", "write its URL with https")
    addresses: tuple[Network, ...] = form.read_list("addresses", _read_address)
    tunnel = bool(form.read("tunnel", read_boolean, what="tunnel"))
    legacy_sse = bool(form.read("legacy_sse", read_boolean, what="legacy_sse"))
    for key, why in _NOT_IN_TUNNEL.items():
        if tunnel and key in form:
            form.report(form.at_key(key), f"{key!r} on a tunnel: {why}", f"remove {key!r} or 'tunnel'")
    if tunnel:
        _check_tunnel(form.at_key("tunnel"), credential, place, "ca" in form, sections.findings)
    pins, pin_reviewers = _read_pins(form, sections, reviewers)
    if place is None:
        return None
    scheme = cast("Literal['http', 'https']", place.scheme)
    return Server(
        entry.name,
        place.url,
        scheme,
        place.host,
        place.port,
        place.path,
        credential,
        ca,
        addresses,
        tunnel,
        pins,
        pin_reviewers,
        legacy_sse,
    )


def _read_pins(form: Form, sections: Sections, reviewers: dict[str, Reviewer]) -> tuple[PinMode, tuple[str, ...]]:
    """What becomes of changed tools, and who may accept them: `hold` is the one that asks."""

    def read_reviewer(node: Node, findings: Findings) -> str | None:
        name = read_text(node, findings, what="a reviewer")
        if name is None or not sections.is_known(name, sections.reviewers, node.at, what="reviewer"):
            return None
        if name in reviewers and reviewers[name].mitmweb is not None:
            hint = "name reviewers with tokens, or local ones"
            findings.report(node.at, f"reviewer {name!r} sees held calls only: mitmweb does not show pins", hint)
            return None
        return name

    mode = cast("PinMode", form.read("pins", read_choice, PIN_MODES, what="pins") or "hold")
    names: tuple[str, ...] = form.read_list("pin_reviewers", read_reviewer)
    if mode != "hold" and "pin_reviewers" in form:
        form.report(
            form.at_key("pin_reviewers"), f"'pin_reviewers' on a server with pins {mode}", "it needs pins: hold"
        )
    return mode, names


def _read_address(node: Node, findings: Findings) -> Network | None:
    return read_network(node, findings, what="addresses")


def _check_tunnel(at: str, credential: str | None, place: Place | None, has_ca: bool, findings: Findings) -> None:
    """A tunnel is not opened: nothing can be put in, verified or told apart by path there."""
    if credential is not None:
        findings.report(at, "a tunnel cannot carry a credential", "remove 'tunnel' or 'credential'")
    if has_ca:
        findings.report(at, "a tunnel's certificate is the caller's to verify", "remove 'tunnel' or 'ca'")
    if place and place.path != "/":
        findings.report(at, "a tunnel has no path", "end its URL after the host and port")
