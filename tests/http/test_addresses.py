"""Resolved addresses are public, or listed."""

from ipaddress import ip_network

import pytest

from coatcheck.http.addresses import first_reachable, reachable


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_a_public_address_is_reachable(address: str) -> None:
    assert reachable(address, [])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
        "2001:0:5ef5:79fd:0:59d:f5ff:fffe", "64:ff9b::5db8:d822", "2002:5db8:d822::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not reachable(address, [])


def test_a_listed_network_is_reachable_for_the_server_that_lists_it() -> None:
    assert reachable("10.20.3.4", [ip_network("10.20.0.0/16")])
    assert not reachable("10.21.3.4", [ip_network("10.20.0.0/16")])


def test_a_mixed_answer_is_refused_whole() -> None:
    assert first_reachable(["93.184.216.34", "93.184.216.35"], []) == "93.184.216.34"
    assert first_reachable(["93.184.216.34", "127.0.0.1"], []) is None
    assert first_reachable([], []) is None
