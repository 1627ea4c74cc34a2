"""The metadata of a gateway URL speaks of the very URL the client dialled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.identity.resource_metadata import PLACE, described_path, metadata_url, resource_metadata


@pytest.mark.parametrize(
    ("path", "described"),
    [
        (PLACE, ""),
        (PLACE + "/mcp", "/mcp"),
        (PLACE + "/", "/"),
        (PLACE + "/a/b", "/a/b"),
        (PLACE + "x", None),
        ("/.well-known/oauth-authorization-server", None),
        ("/mcp", None),
        ("/x" + PLACE, None),
    ],
)
def test_a_path_describes_what_stands_behind_the_well_known_one(path, described) -> None:
    assert described_path(path) == described


@given(st.from_regex(r"(/[A-Za-z0-9._~%-]{1,9}){1,3}", fullmatch=True))
def test_what_a_challenge_points_to_describes_what_was_asked_for(path: str) -> None:
    url = metadata_url("https://gw.example", path)
    assert url.startswith("https://gw.example")
    assert described_path(url.removeprefix("https://gw.example")) == path


def test_the_root_needs_no_path() -> None:
    assert metadata_url("https://gw.example", "/") == "https://gw.example" + PLACE


@given(st.text(max_size=20))
def test_no_path_ends_the_headers_quotes_or_the_header(text: str) -> None:
    assert not set(metadata_url("https://gw.example", "/" + text)) & set('"\r\n\\ ')


def test_issuers_without_a_url_are_left_out() -> None:
    document = resource_metadata("https://gw.example/mcp", {"https://b.example", "urn:saml:idp", "https://a.example"})
    assert document == {
        "resource": "https://gw.example/mcp",
        "authorization_servers": ["https://a.example", "https://b.example"],
        "bearer_methods_supported": ["header"],
    }
