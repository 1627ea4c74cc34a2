"""Tests of http/origin.py: who else may speak through the gateway in a browser's name. Nobody."""

import pytest

from coatcheck.errors import Refusal
from coatcheck.http.origin import check_loopback_host, check_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "shop.example"),
        ("https://shop.example", "shop.example"),
        ("https://SHOP.example:443", "shop.example:443"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_a_request_without_origin_or_from_its_own_is_served(origin, host) -> None:
    check_origin(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "https://shop.example.evil.example",
        "https://shop.example:444",
        "https://shop.example@evil.example",
        "https://evil.example/shop.example",
        "ftp://shop.example",
        "shop.example",
        "https://shop.example, https://evil.example",
        "https://[::1",
    ],
)
def test_another_origin_is_refused(origin) -> None:
    with pytest.raises(Refusal, match="origin-refused") as refused:
        check_origin(origin, "shop.example")
    assert refused.value.status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:9", "127.9.9.9", "[::1]:9", "LOCALHOST"])
def test_a_name_of_loopback_is_served_on_loopback(host) -> None:
    check_loopback_host("127.0.0.1", host)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1", "192.168.1.1:9"])
def test_another_name_is_misdirected_on_loopback_and_taken_elsewhere(host) -> None:
    with pytest.raises(Refusal, match="misdirected") as refused:
        check_loopback_host("localhost", host)
    assert refused.value.status == 421
    check_loopback_host("0.0.0.0", host)


def test_the_name_tokens_are_minted_for_is_served_on_loopback_too() -> None:
    audience = "https://gateway.shop.example"
    check_loopback_host("127.0.0.1", "gateway.shop.example", audience=audience)
    with pytest.raises(Refusal, match="misdirected"):
        check_loopback_host("127.0.0.1", "other.shop.example", audience=audience)


@pytest.mark.parametrize("host", [None, "", "a b", "127.1"])
def test_no_host_is_refused_on_loopback(host) -> None:
    with pytest.raises(Refusal):
        check_loopback_host("::1", host)
