"""Targets have one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.http.target import Target, canonical_host, parse_authority


@pytest.mark.parametrize(
    ("given_host", "canonical"),
    [
        pytest.param("api.example.com", "api.example.com", id="as it is"),
        pytest.param("API.Example.COM", "api.example.com", id="upper case"),
        pytest.param("api.example.com.", "api.example.com", id="one trailing dot"),
        pytest.param("xn--exmple-cua.com", "xn--exmple-cua.com", id="idn in its ASCII form"),
        pytest.param("10.0.0.1", "10.0.0.1", id="dotted IPv4"),
        pytest.param("[::1]", "::1", id="IPv6 in brackets"),
        pytest.param("0:0:0:0:0:0:0:1", "::1", id="IPv6 in full"),
        pytest.param("_mcp.internal", "_mcp.internal", id="underscore"),
    ],
)
def test_a_host_has_one_canonical_form(given_host: str, canonical: str) -> None:
    assert canonical_host(given_host) == canonical


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "1.2.3.4.5", "256.1.1.1", "1.2.3.0x4",
        "[::1%25lo]", "::1%lo", "exämple.com", "ｇood.com", "good。com", "good..com", "api.example.com..", "", ".",
        "-a.com", "a-.com", "a b.com", "good/x", "good@evil", "a" * 64 + ".com", "[good]", "good:80",
    ],
)  # fmt: skip
def test_a_host_that_two_parties_could_read_differently_is_refused(host: str) -> None:
    with pytest.raises(Refusal, match="bad-host"):
        canonical_host(host)


@given(st.text(max_size=80))
def test_canonical_form_is_idempotent_or_refused(host: str) -> None:
    try:
        once = canonical_host(host)
    except Refusal:
        return
    assert canonical_host(once) == once
    assert once.isascii()


@pytest.mark.parametrize(
    ("authority", "expected"),
    [("a.com", ("a.com", 443)), ("A.com:8443", ("a.com", 8443)), ("[::1]:1", ("::1", 1)), ("[::1]", ("::1", 443))],
)
def test_an_authority_is_host_and_port(authority: str, expected: tuple[str, int]) -> None:
    assert parse_authority(authority, default_port=443) == expected


@pytest.mark.parametrize(
    "authority",
    ["a.com:", "a.com:0", "a.com:65536", "a.com:-1", "a.com:99999999999", "a.com:4²", "a.com:80x", ":80", "a:b:80"],
)
def test_an_authority_with_an_odd_port_is_refused(authority: str) -> None:
    with pytest.raises(Refusal, match="bad-host"):
        parse_authority(authority, default_port=443)


def test_a_default_port_is_left_out_of_the_host_header() -> None:
    assert Target("https", "a.com", 443).authority == "a.com"
    assert Target("https", "a.com", 80).authority == "a.com:80"
    assert Target("http", "::1", 8080).authority == "[::1]:8080"
