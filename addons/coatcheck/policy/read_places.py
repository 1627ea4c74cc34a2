"""URLs, hosts, networks and files as policy may write them.

Law: a host is written one way; a form that two programs could read as two addresses is refused.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

from coatcheck.policy.globs import path_is_canonical
from coatcheck.policy.model import Network
from coatcheck.policy.shape import Findings, read_text
from coatcheck.policy.source import Node, Scalar

PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart: `host` lower case, an IP literal without brackets; `path` at least `/`."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves the machine by its name alone."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_url(node: Node, findings: Findings, *, what: str, schemes: Collection[str]) -> Place | None:
    """A URL without userinfo, query and fragment, its host and path canonical (RFC 3986)."""
    text = read_text(node, findings, what=what)
    if text is None:
        return None
    problem = _fault(text, schemes)
    if problem is not None:
        is_written = isinstance(node, Scalar) and node.source == "written"
        findings.report(node.at, f"{what}: {problem[0] if is_written else problem[0].partition(':')[0]}", problem[1])
        return None
    found = _URL.fullmatch(text)
    assert found is not None  # noqa: S101 - `_fault` has just matched it
    scheme = found["scheme"].lower()
    host, port = _host_and_port(found["authority"])
    return Place(text, scheme, _canonical(host), int(port) if port else PORTS[scheme], found["path"] or "/")


def read_file(node: Node, findings: Findings, folder: Path, *, what: str) -> Path | None:
    """A file that exists, relative to the policy file's folder. Returns its absolute path."""
    text = read_text(node, findings, what=what)
    if text is None:
        return None
    path = (folder / text).absolute()
    with suppress(OSError, ValueError):
        if path.is_file():
            return path
    findings.report(node.at, f"{what}: no such file: {text}", "paths are relative to the policy file")
    return None


def read_network(node: Node, findings: Findings, *, what: str) -> Network | None:
    """An address range in CIDR form, without host bits: `10.20.0.0/16`, `::1/128`."""
    text = read_text(node, findings, what=what)
    if text is None:
        return None
    if "/" in text and "%" not in text:
        with suppress(ValueError):
            return ip_network(text)
    findings.report(node.at, f"{what}: not an address range: {text!r}", "such as 10.20.0.0/16 or ::1/128")
    return None


def _fault(text: str, schemes: Collection[str]) -> tuple[str, str | None] | None:
    """What is wrong with a URL, and a hint."""
    if not text.isascii() or any(c <= " " or c == "\\" for c in text):
        return "not a URL: it holds a space, a backslash or a character outside ASCII", "write a host in its xn-- form"
    found = _URL.fullmatch(text)
    if found is None or found["scheme"].lower() not in schemes:
        return f"not a URL of {' or '.join(sorted(schemes))}: {text!r}", f"such as {max(schemes)}://host.example/path"
    if "@" in found["authority"]:
        return "a URL with a user or password in it", "store the credential in the vault"
    if found["query"] is not None or found["fragment"] is not None:
        return "a URL with a query or fragment", "end it before '?' or '#'"
    host, port = _host_and_port(found["authority"])
    if port is not None and not (_PORT.fullmatch(port) and int(port) <= 65_535):
        return f"not a port: {port!r}", "a plain number from 1 to 65535"
    fault = _host_fault(host)
    if fault:
        return fault
    if found["path"] and not path_is_canonical(found["path"]):
        return f"a path with two spellings: {found['path']!r}", "no '.', '..' or empty segments, no needless '%'"
    return None


def _host_and_port(authority: str) -> tuple[str, str | None]:
    if authority.startswith("["):
        host, _, rest = authority.partition("]")
        return host + "]", rest[1:] if rest.startswith(":") else (rest or None)
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _host_fault(host: str) -> tuple[str, str | None] | None:
    """Refuses hosts that resolvers read as numbers (WHATWG URL, "ends in a number"), trailing dots and globs."""
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            return f"not an IPv6 address: {host!r}", None
        return ("an IPv6 address with a zone", "leave the zone out") if "%" in host else None
    labels = host.lower().split(".")
    if host.endswith(".") and len(labels) > 1:
        return f"a host with a trailing dot: {host!r}", f"write {host.rstrip('.')}"
    if "*" in host:
        return f"a host with a wildcard: {host!r}", "name each server"
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            IPv4Address(host)
        except ValueError:
            return f"a host in a numeric form: {host!r}", "write an IPv4 address as four plain numbers"
        return None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"not a host name: {host!r}", None
    return None


def _canonical(host: str) -> str:
    return str(IPv6Address(host[1:-1])) if host.startswith("[") else host.lower()
