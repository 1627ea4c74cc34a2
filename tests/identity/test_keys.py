import asyncio
import json
from datetime import timedelta
from ipaddress import ip_network

import pytest

from coatcheck.errors import Refusal
from coatcheck.identity.fetch import LOOPBACK, fetch
from coatcheck.identity.keys import COOLDOWN_SECONDS, FRESH_SECONDS, RETRY_SECONDS, KeySource
from coatcheck.policy.model import SamlTrust

MAX_STALE_SECONDS = 24 * 3600
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def source(clock):
    return KeySource(clock=clock)


async def refusal(source, spec, kid, alg="ES256") -> tuple[str, int]:
    with pytest.raises(Refusal) as refused:
        await source.key(spec, kid, alg)
    return refused.value.reason, refused.value.status


async def settle(source: KeySource) -> None:
    """Waits for the refreshes under way."""
    await asyncio.gather(*(each.refresh for each in source._cached.values() if each.refresh))


def same(key, signer) -> bool:
    return key == signer.key.public_key()


async def test_keys_are_found_by_discovery_once_and_kept(source, spec, publisher, signer, clock):
    publisher.publish(signer)
    for _ in range(3):
        assert same(await source.key(spec(), "k1", "ES256"), signer)
        clock.advance(FRESH_SECONDS / 4)
    assert publisher.asked == [DISCOVERY, "/jwks"]


async def test_a_jwks_uri_needs_no_discovery(source, spec, publisher, signer):
    publisher.publish(signer)
    assert same(await source.key(spec(jwks_uri=f"{publisher.url}/jwks"), "k1", "ES256"), signer)
    assert publisher.asked == ["/jwks"]


async def test_a_jwks_file_needs_no_network(source, spec, publisher, signer, new_signer, clock, tmp_path):
    file, rotated = tmp_path / "jwks.json", new_signer("ES256", "k2")
    file.write_text(json.dumps({"keys": [signer.jwk()]}))
    assert same(await source.key(spec(jwks_file=file), "k1", "ES256"), signer)
    file.write_text(json.dumps({"keys": [rotated.jwk()]}))
    assert same(await source.key(spec(jwks_file=file), "k2", "ES256"), rotated)
    file.unlink()
    clock.advance(MAX_STALE_SECONDS + 1)
    assert await refusal(source, spec(jwks_file=file), "k2") == ("issuer-unreachable", 503)
    assert publisher.asked == []


async def test_an_issuer_with_a_trailing_slash_is_discovered_below_it(source, spec, publisher, signer):
    publisher.publish(signer)
    document = {"issuer": f"{publisher.url}/", "jwks_uri": f"{publisher.url}/jwks"}
    publisher.pages[DISCOVERY] = json.dumps(document).encode()
    assert same(await source.key(spec(issuer=f"{publisher.url}/"), "k1", "ES256"), signer)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"issuer": "https://other.example"}, id="another issuer"),
        pytest.param({"issuer": "{url}/"}, id="a slash more"),
        pytest.param({"issuer": None}, id="no issuer"),
        pytest.param({"jwks_uri": None}, id="no jwks_uri"),
        pytest.param({"jwks_uri": 5}, id="jwks_uri a number"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, id="a file"),
        pytest.param({"jwks_uri": "https://169.254.169.254/jwks"}, id="a metadata service"),
    ],
)
async def test_a_configuration_that_is_not_the_issuers_own_is_not_used(source, spec, publisher, signer, change):
    publisher.publish(signer)
    document = json.loads(publisher.pages[DISCOVERY])
    assert same(await source.key(spec(name="control"), "k1", "ES256"), signer)
    change = {name: v.replace("{url}", publisher.url) if isinstance(v, str) else v for name, v in change.items()}
    publisher.pages[DISCOVERY] = json.dumps(document | change).encode()
    assert await refusal(KeySource(), spec(), "k1") == ("issuer-unreachable", 503)


async def test_an_https_issuers_keys_are_not_fetched_over_http(spec, signer):
    async def fetch(url, ca, addresses):
        assert url == "https://idp.acme.dev/.well-known/openid-configuration"
        return b'{"issuer":"https://idp.acme.dev","jwks_uri":"http://127.0.0.1/jwks"}'

    assert await refusal(KeySource(fetch), spec(issuer="https://idp.acme.dev"), "k1") == ("issuer-unreachable", 503)


async def test_the_issuers_ca_and_addresses_are_used_for_both_documents(spec, signer, tmp_path):
    asked, private = [], (ip_network("10.20.0.0/16"),)

    async def fetch(url, ca, addresses):
        asked.append((url.rpartition("/")[2], ca, addresses))
        if url.endswith("/jwks"):
            return json.dumps({"keys": [signer.jwk()]}).encode()
        return b'{"issuer":"https://idp.acme.dev","jwks_uri":"https://idp.acme.dev/jwks"}'

    ca = tmp_path / "ca.pem"
    await KeySource(fetch).key(spec(issuer="https://idp.acme.dev", ca=ca, addresses=private), "k1", "ES256")
    assert asked == [("openid-configuration", ca, private), ("jwks", ca, private)]


@pytest.mark.parametrize(
    ("issuer", "jwks_uri", "is_local"),
    [
        ("https://idp.acme.dev", None, False),
        ("https://localhost.acme.dev", None, False),
        ("https://idp.acme.dev", "https://localhost:8443/jwks", True),
        ("https://127.0.0.1:8443", None, True),
        ("https://127.0.0.1:8443", "https://idp.acme.dev/jwks", False),
    ],
)
async def test_this_machine_is_asked_for_keys_only_where_the_policy_names_it(spec, signer, issuer, jwks_uri, is_local):
    permitted = set()

    async def fetch(url, ca, addresses):
        permitted.add(tuple(addresses))
        if url.endswith("/jwks"):
            return json.dumps({"keys": [signer.jwk()]}).encode()
        return json.dumps({"issuer": issuer, "jwks_uri": "https://localhost/jwks"}).encode()

    assert same(await KeySource(fetch).key(spec(issuer=issuer, jwks_uri=jwks_uri), "k1", "ES256"), signer)
    assert permitted == {LOOPBACK if is_local else ()}


async def test_a_configuration_cannot_point_at_this_machine_for_a_public_issuer(signer, publisher, spec):
    publisher.publish(signer)
    document = {"issuer": "https://idp.acme.dev", "jwks_uri": f"{publisher.url}/jwks".replace("http:", "https:")}

    async def answered(url, ca, addresses):
        return json.dumps(document).encode() if url.endswith("configuration") else await fetch(url, ca, addresses)

    source = KeySource(answered)
    assert await refusal(source, spec(issuer="https://idp.acme.dev"), "k1") == ("issuer-unreachable", 503)
    assert publisher.asked == []
    assert same(await KeySource().key(spec(), "k1", "ES256"), signer)


async def test_stale_keys_are_used_while_one_refresh_runs(source, spec, publisher, signer, new_signer, clock):
    rotated = new_signer("ES256", "k2")
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    publisher.publish(rotated)
    publisher.gate.clear()
    clock.advance(FRESH_SECONDS + 1)
    for _ in range(5):
        assert same(await source.key(spec(), "k1", "ES256"), signer)
    publisher.gate.set()
    await settle(source)
    assert publisher.asked.count("/jwks") == 2
    assert same(await source.key(spec(), "k2", "ES256"), rotated)


FAILURES = [
    pytest.param((500, {}, b""), id="500"),
    pytest.param((302, {"Location": "/jwks"}, b""), id="a redirect"),
    pytest.param(b"<html>login</html>", id="not JSON"),
    pytest.param(b'{"keys":[]}', id="no keys"),
    pytest.param(b'{"keys":' + b" " * 10_000_000, id="10 MB"),
    pytest.param(b"[" * 1_000_000, id="a million levels"),
]


@pytest.mark.parametrize("page", FAILURES)
async def test_a_failed_refresh_keeps_the_keys_until_they_are_too_old(source, spec, publisher, signer, clock, page):
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    publisher.pages["/jwks"] = page
    for seconds in (FRESH_SECONDS + 1, MAX_STALE_SECONDS / 2, MAX_STALE_SECONDS / 2 - FRESH_SECONDS - 2):
        clock.advance(seconds)
        assert same(await source.key(spec(), "k1", "ES256"), signer)
        await settle(source)
    clock.advance(RETRY_SECONDS)
    assert await refusal(source, spec(), "k1") == ("issuer-unreachable", 503)
    publisher.publish(signer)
    clock.advance(RETRY_SECONDS)
    assert same(await source.key(spec(), "k1", "ES256"), signer)


@pytest.mark.parametrize("page", FAILURES)
async def test_without_keys_a_failed_fetch_is_unreachable(source, spec, publisher, signer, clock, page):
    publisher.publish(signer)
    publisher.pages["/jwks"] = page
    assert await refusal(source, spec(), "k1") == ("issuer-unreachable", 503)


async def test_a_server_that_is_down_is_not_asked_by_every_token(source, spec, publisher, signer, clock):
    publisher.publish(signer)
    publisher.fails()
    for _ in range(5):
        assert await refusal(source, spec(), "k1") == ("issuer-unreachable", 503)
    assert publisher.asked == [DISCOVERY]
    clock.advance(RETRY_SECONDS)
    publisher.publish(signer)
    assert same(await source.key(spec(), "k1", "ES256"), signer)


async def test_a_rotated_key_is_found_at_once_even_just_after_the_first_fetch(
    source, spec, publisher, signer, new_signer
):
    rotated = new_signer("ES256", "k2")
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    publisher.publish(rotated)
    assert same(await source.key(spec(), "k2", "ES256"), rotated)
    assert await refusal(source, spec(), "k1") == ("unknown-key", 401)


async def test_unknown_keys_cause_one_refresh_a_cooldown(source, spec, publisher, signer, new_signer, clock):
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    for number in range(20):
        assert await refusal(source, spec(), f"bogus-{number}") == ("unknown-key", 401)
    assert publisher.asked.count("/jwks") == 2
    assert same(await source.key(spec(), "k1", "ES256"), signer)
    rotated = new_signer("ES256", "k2")
    publisher.publish(signer, rotated)
    clock.advance(COOLDOWN_SECONDS)
    assert same(await source.key(spec(), "k2", "ES256"), rotated)


async def test_a_refresh_that_began_before_a_rotation_does_not_hide_the_new_key(
    source, spec, publisher, signer, new_signer, clock
):
    rotated = new_signer("ES256", "k2")
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    clock.advance(FRESH_SECONDS + 1)
    publisher.answers["/jwks"] = [publisher.pages["/jwks"]]  # what was read before the rotation, sent after it
    publisher.publish(rotated)
    publisher.gate.clear()
    assert same(await source.key(spec(), "k1", "ES256"), signer)  # begins a refresh
    waiting = asyncio.create_task(source.key(spec(), "k2", "ES256"))
    await asyncio.sleep(0)
    publisher.gate.set()
    assert same(await waiting, rotated)
    assert publisher.asked.count("/jwks") == 3


async def test_a_fault_while_fetching_counts_as_a_failure(spec, signer, clock):
    asked = []

    async def fetch(url, ca, addresses):
        asked.append(url)
        raise LookupError

    source = KeySource(fetch, clock=clock)
    with pytest.raises(LookupError):
        await source.key(spec(), "k1", "ES256")
    assert await refusal(source, spec(), "k1") == ("issuer-unreachable", 503)
    assert len(asked) == 1
    clock.advance(RETRY_SECONDS)
    with pytest.raises(LookupError):
        await source.key(spec(), "k1", "ES256")


@pytest.mark.parametrize("minutes", [1, 60, 2880])
async def test_an_issuer_says_how_old_its_keys_may_become(source, spec, publisher, signer, clock, minutes):
    issuer = spec(max_stale=timedelta(minutes=minutes))
    publisher.publish(signer)
    await source.key(issuer, "k1", "ES256")
    publisher.fails()
    clock.advance(minutes * 60)
    assert same(await source.key(issuer, "k1", "ES256"), signer)
    await settle(source)
    clock.advance(1)
    assert await refusal(source, issuer, "k1") == ("issuer-unreachable", 503)
    publisher.publish(signer)
    clock.advance(RETRY_SECONDS)
    assert same(await source.key(issuer, "k1", "ES256"), signer)


async def test_an_unknown_key_of_an_issuer_that_is_down_may_be_tried_again(source, spec, publisher, signer):
    publisher.publish(signer)
    await source.key(spec(), "k1", "ES256")
    publisher.fails()
    assert await refusal(source, spec(), "k2") == ("issuer-unreachable", 503)
    assert await refusal(source, spec(), "k2") == ("issuer-unreachable", 503)
    assert same(await source.key(spec(), "k1", "ES256"), signer)


async def test_many_tokens_wait_for_one_fetch_and_one_that_leaves_takes_none_along(source, spec, publisher, signer):
    publisher.publish(signer)
    publisher.gate.clear()
    waiting = [asyncio.create_task(source.key(spec(), "k1", "ES256")) for _ in range(50)]
    assert await asyncio.to_thread(publisher.arrived.wait, 5)
    waiting.pop(0).cancel()
    publisher.gate.set()
    assert all(same(key, signer) for key in await asyncio.gather(*waiting))
    assert publisher.asked == [DISCOVERY, "/jwks"]


@pytest.mark.parametrize(
    ("published", "found"),
    [
        pytest.param(["ES256"], True, id="one key"),
        pytest.param(["ES256", "RS256", "EdDSA"], True, id="one key that fits"),
        pytest.param(["RS256"], False, id="none that fits"),
    ],
)
async def test_a_token_without_kid_needs_exactly_one_key_that_fits(source, spec, publisher, signers, published, found):
    publisher.publish(*(signers[alg] for alg in published))
    if found:
        assert same(await source.key(spec(), None, "ES256"), signers["ES256"])
    else:
        assert await refusal(source, spec(), None) == ("unknown-key", 401)


@pytest.mark.parametrize("kid", [None, "k1"])
async def test_two_keys_that_fit_are_no_key(source, spec, publisher, signer, new_signer, kid):
    publisher.publish(signer, new_signer("ES256", "k1"))
    assert await refusal(source, spec(), kid) == ("unknown-key", 401)


async def test_two_keys_of_one_name_and_two_kinds_are_told_apart(source, spec, publisher, signer, signers, new_signer):
    publisher.publish(signer, new_signer("RS256", "k1", signers["RS256"].key))
    assert same(await source.key(spec(), "k1", "ES256"), signer)
    assert same(await source.key(spec(), "k1", "RS256"), signers["RS256"])


async def test_an_issuer_is_not_given_anothers_keys(source, spec, publisher, signer, new_signer, tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [new_signer("ES256", "theirs").jwk()]}))
    publisher.publish(signer)
    other = spec(name="other", issuer="https://other.example", jwks_file=file)
    assert await source.key(other, "theirs", "ES256")
    assert await source.key(spec(), "k1", "ES256")
    assert await refusal(source, other, "k1") == ("unknown-key", 401)
    assert await refusal(source, spec(), "theirs") == ("unknown-key", 401)


async def test_warming_tries_every_issuer_and_never_fails(source, spec, publisher, signer, tmp_path):
    publisher.publish(signer)
    down = spec(name="down", issuer="https://down.example", jwks_file=tmp_path / "missing.json")
    await source.warm([down, spec()])
    publisher.fails()
    assert same(await source.key(spec(), "k1", "ES256"), signer)
    assert await refusal(source, down, "k1") == ("issuer-unreachable", 503)


@pytest.mark.parametrize("kid", ["../../../../dev/null", "k1; DROP TABLE keys", "http://evil.example/k", "%s%n"])
async def test_a_kid_is_only_ever_compared(source, spec, publisher, signer, new_signer, kid, caplog):
    publisher.publish(signer)
    with pytest.raises(Refusal) as refused:
        await source.key(spec(), kid, "ES256")
    assert refused.value.reason == "unknown-key"
    assert kid not in str(refused.value) + caplog.text
    assert set(publisher.asked) == {DISCOVERY, "/jwks"}
    odd = new_signer("ES256", kid)
    publisher.publish(odd)
    assert same(await KeySource().key(spec(), kid, "ES256"), odd)


async def test_an_issuer_of_assertions_is_never_looked_up(source, spec, publisher, signer):
    publisher.publish(signer)
    saml = spec(name="adfs", algorithms=(), saml=SamlTrust((b"",)))
    await source.warm([saml])
    assert publisher.asked == []
    await source.warm([saml, spec()])
    assert publisher.asked == [DISCOVERY, "/jwks"]
