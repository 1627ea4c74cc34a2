"""What standard clients read: the gateway in every proxy variable, its CA in every certificate variable."""

import base64
import string
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.client.sources import CallerToken
from coatcheck.client.variables import (
    BUNDLE_VARIABLES,
    PROXY_VARIABLES,
    Way,
    environment,
    removed,
    spellings,
    variables,
)

WAY = Way("127.0.0.1", 8080, Path("/x/gateway-ca.pem"), Path("/x/bundle.pem"))
TOKEN = CallerToken("eyJh.eyJz.c2ln")
TOKENS = st.text(string.ascii_letters + string.digits + "._~+/-", min_size=1).map(CallerToken)


@given(TOKENS)
def test_the_token_stands_in_the_proxys_url_as_its_password(token) -> None:
    for name in PROXY_VARIABLES:
        url = urlsplit(variables(WAY, token)[name])
        assert (url.scheme, url.hostname, url.port) == ("http", "127.0.0.1", 8080)
        assert url.username == "ci"
        assert unquote(url.password or "") == token.value


def test_a_token_of_base64url_stands_there_as_it_is() -> None:
    assert WAY.proxy_url(TOKEN) == "http://ci:eyJh.eyJz.c2ln@127.0.0.1:8080"


def test_an_ipv6_address_is_put_in_brackets() -> None:
    way = Way("::1", 8080, WAY.certificate, WAY.bundle)
    assert way.proxy_url(TOKEN).endswith("@[::1]:8080")


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_both_spellings_of_a_proxy_variable_are_set(name) -> None:
    assert variables(WAY, TOKEN)[name] == WAY.proxy_url(TOKEN)


def test_node_gets_the_ca_alone_and_what_replaces_trust_gets_the_bundle() -> None:
    values = variables(WAY, TOKEN)
    assert values["NODE_EXTRA_CA_CERTS"] == "/x/gateway-ca.pem"
    assert values["NODE_USE_ENV_PROXY"] == "1"
    assert values["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"
    assert {values[name] for name in BUNDLE_VARIABLES} == {"/x/bundle.pem"}
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"):
        assert name in BUNDLE_VARIABLES


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_an_inherited_exception_is_dropped(name) -> None:
    inherited = {name: "*", "PATH": "/bin", "https_proxy": "http://other.example"}
    given_to_it = environment(inherited, WAY, TOKEN)
    assert name not in given_to_it
    assert given_to_it["PATH"] == "/bin"
    assert given_to_it["https_proxy"] == WAY.proxy_url(TOKEN)
    assert name in removed(WAY)


def test_an_exception_that_is_asked_for_is_set_in_both_spellings() -> None:
    way = Way(WAY.host, WAY.port, WAY.certificate, WAY.bundle, ("localhost", "127.0.0.1"))
    given_to_it = environment({"NO_PROXY": "*"}, way, TOKEN)
    assert given_to_it["NO_PROXY"] == given_to_it["no_proxy"] == "localhost,127.0.0.1"
    assert removed(way) == ()


@given(TOKENS)
def test_every_spelling_of_a_token_is_known(token) -> None:
    found = spellings(token)
    basic = base64.b64encode(f"ci:{token.value}".encode()).decode()
    assert token.value in found
    assert basic in found
    assert any(spelling in variables(WAY, token)["https_proxy"] for spelling in found)
