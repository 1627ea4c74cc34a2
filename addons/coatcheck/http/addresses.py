"""Which resolved addresses a server may have.

Law: an address that is not globally reachable unicast is refused unless the policy lists its network for that
server. Forms that embed an IPv4 address and reach it through a translator (NAT64, 6to4, Teredo) are refused alike;
an IPv4-mapped address is judged as the IPv4 address it is.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from coatcheck.policy.model import Network

_TRANSLATED = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


def reachable(address: str, listed: Sequence[Network]) -> bool:
    """Whether a connection to `address` (an IP literal) is permitted with these listed networks."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in listed):
        return True
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _TRANSLATED)


def first_reachable(addresses: Iterable[str], listed: Sequence[Network]) -> str | None:
    """The first permitted address; None where any is refused, for a mixed answer is a rebinding attempt."""
    found = list(addresses)
    if not found or not all(reachable(address, listed) for address in found):
        return None
    return found[0]


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address without brackets, is this machine itself (RFC 6761 6.3, RFC 1122)."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
