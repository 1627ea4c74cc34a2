"""What a client asked to reach, in one canonical form.

Law: two spellings of one host give one `Target` or are refused; nothing here resolves a name.
Numeric forms that a resolver would read as an address (`127.1`, `0x7f000001`, `2130706433`) are refused:
only dotted IPv4 and IPv6 literals are addresses (RFC 3986 section 3.2.2, RFC 6943 section 3.1.1).
"""

import functools
import ipaddress
import re
from dataclasses import dataclass

from coatcheck.errors import Refusal

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """An origin: scheme, canonical host, port. `via` is the gateway URL's server, where one was dialled."""

    scheme: str
    host: str
    port: int
    via: str | None = None

    @property
    def authority(self) -> str:
        """`host:port` as a Host header says it: brackets for IPv6, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"https": 443, "http": 80}.get(self.scheme)
        return host if self.port == default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@functools.lru_cache(maxsize=1024)
def canonical_host(host: str) -> str:
    """The one form of a host name or address literal: lower case, no trailing dot, no brackets.

    Raises `Refusal` (400) for anything that is not plain ASCII, is numeric without being a dotted address,
    or is not a name at all. IDN names must be given in their `xn--` form.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise _bad_host()
    if not host.isascii() or len(host) > 253:
        raise _bad_host()
    host = host.lower()
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host)) if "%" not in host else _raise()
        except ValueError:
            raise _bad_host() from None
    host = host.removesuffix(".")
    labels = host.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise _bad_host()
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _bad_host() from None
    if any(label.startswith("xn--") for label in labels):
        _check_punycode(host)
    return host


def _check_punycode(host: str) -> None:
    """Raises `Refusal` where an `xn--` label is not the one spelling of a name (RFC 5891 section 4.4)."""
    try:
        is_plain = host.encode("ascii").decode("idna").encode("idna").decode("ascii") == host
    except UnicodeError:
        is_plain = False
    if not is_plain:
        raise _bad_host()


def parse_authority(authority: str, *, default_port: int | None) -> tuple[str, int]:
    """Host and port of a Host header or authority. Raises `Refusal` (400) where it is not exactly that."""
    host, separator, port = authority.rpartition(":")
    if not separator or authority.endswith("]"):
        host, port = authority, ""
    if not port:
        if default_port is None or (separator and not authority.endswith("]")):
            raise Refusal("bad-host", "a port is missing")
        return canonical_host(host), default_port
    if not (_PORT.fullmatch(port) and int(port) < 65536):
        raise Refusal("bad-host", "the port is not a number from 1 to 65535")
    return canonical_host(host), int(port)


def _bad_host() -> Refusal:
    return Refusal("bad-host", "the host is not a canonical name or address")


def _raise() -> str:
    raise _bad_host()
