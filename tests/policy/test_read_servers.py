from datetime import timedelta

import pytest


@pytest.mark.parametrize(
    ("audience", "what"),
    [
        *(pytest.param(word, "a generic word", id=word) for word in ("gateway", "api", "MCP", "coatcheck", "default")),
        pytest.param("urn:gateway", "a generic word", id="generic urn"),
        pytest.param("urn:acme:gateway", "not a URN of its own", id="generic end"),
        pytest.param("http://gateway.example.com", "not a URL of https", id="http"),
        pytest.param("gateway.example.com", "not a URL of https", id="no scheme"),
        pytest.param("https://gateway.example.com/?x", "query or fragment", id="query"),
        pytest.param("https://u:p@gateway.example.com/", "user or password", id="userinfo"),
    ],
)
def test_an_audience_that_others_could_share_is_refused(draft, audience, what):
    text = draft.edited("audience: https://gateway.example.com", f"audience: {audience}")
    assert any(what in said for _, said, _ in draft.faults(text))


@pytest.mark.parametrize("audience", ["https://gateway.example.com/prod", "urn:example:coatcheck:prod"])
def test_an_audience_of_its_own_is_taken(draft, audience):
    assert draft.load(draft.edited("https://gateway.example.com", audience)).audience == audience


URL = "https://mcp.warehouse.internal:8443/mcp"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        pytest.param("ftp://host.example/", "not a URL of http or https", id="scheme"),
        pytest.param("https://user@host.example/", "user or password", id="userinfo"),
        pytest.param("https://host.example/x?y", "query or fragment", id="query"),
        pytest.param("https://host.example/x#", "query or fragment", id="fragment"),
        pytest.param("https://host.example./", "trailing dot", id="trailing dot"),
        pytest.param("https://*.example.com/", "a wildcard", id="wildcard"),
        pytest.param("https://127.1/", "numeric form", id="short IPv4"),
        pytest.param("https://2130706433/", "numeric form", id="one number"),
        pytest.param("https://0x7f000001/", "numeric form", id="hexadecimal"),
        pytest.param("https://0177.0.0.1/", "numeric form", id="octal"),
        pytest.param("https://127.0.0.0x1/", "numeric form", id="hexadecimal end"),
        pytest.param("https://0/", "numeric form", id="zero"),
        pytest.param("https://256.0.0.1/", "numeric form", id="over a byte"),
        pytest.param("https://[::1%25lo]/", "not an IPv6 address|zone", id="zone"),
        pytest.param("https://[::g]/", "not an IPv6 address", id="bad IPv6"),
        pytest.param("https:///x", "not a host name", id="no host"),
        pytest.param("https://host..example/", "not a host name", id="empty label"),
        pytest.param("https://-x.example/", "not a host name", id="hyphen first"),
        pytest.param("https://host%2eexample/", "not a host name", id="encoded dot"),
        pytest.param("https://h\u00f6st.example/", "outside ASCII", id="outside ASCII"),
        pytest.param("'https://host.example\\\\x/'", "a backslash", id="backslash"),
        pytest.param("https://host.example:0/", "not a port", id="port zero"),
        pytest.param("https://host.example:65536/", "not a port", id="port too large"),
        pytest.param("https://host.example:08/", "not a port", id="port with zero"),
        pytest.param("'https://host.example:'", "not a port", id="empty port"),
        pytest.param("https://host.example/a/../b", "two spellings", id="dot segments"),
        pytest.param("https://host.example/a//b", "two spellings", id="empty segment"),
        pytest.param("https://host.example/%61", "two spellings", id="needless encoding"),
        pytest.param("https://api.githubcopilot.com/mcp", "same URL as 'github'", id="same place twice"),
    ],
)
def test_a_server_is_one_place_spelt_one_way(draft, url, what):
    found = draft.faults(draft.edited(URL, url))
    assert any(part in said for _, said, _ in found for part in what.split("|")), found


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://HOST.example", ("https", "host.example", 443), "/"),
        ("http://127.0.0.1:9000/mcp", ("http", "127.0.0.1", 9000), "/mcp"),
        ("https://[2001:DB8:0::1]:8443/a/b/", ("https", "2001:db8::1", 8443), "/a/b/"),
        ("https://localhost:8443/mcp", ("https", "localhost", 8443), "/mcp"),
        ("https://xn--hst-sna.example/", ("https", "xn--hst-sna.example", 443), "/"),
    ],
)
def test_a_servers_url_is_taken_apart(draft, url, origin, path):
    server = draft.load(draft.edited(f"{URL}\n    ca: ca.pem", f'"{url}"')).servers["warehouse"]
    assert (server.origin, server.path) == (origin, path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param("ca: ca.pem", "ca: other.pem", "no such file: other.pem", id="no CA"),
        pytest.param("ca: ca.pem", "ca: .", "no such file", id="a folder as CA"),
        pytest.param("10.20.0.0/16", "10.20.0.1/16", "not an address range", id="host bits"),
        pytest.param("10.20.0.0/16", "10.20.0.0", "not an address range", id="no prefix"),
        pytest.param(
            "tunnel: true", "tunnel: true, credential: x", "cannot carry a credential", id="tunnel credential"
        ),
        pytest.param("packages.example.com,", "packages.example.com/x,", "a tunnel has no path", id="tunnel path"),
        pytest.param(f"{URL}\n", "http://127.0.0.1/mcp\n", "without https", id="CA without https"),
    ],
)
def test_what_cannot_be_on_a_server_is_refused(draft, old, new, what):
    found = draft.faults(draft.edited(old, new))
    assert any(what in said for _, said, _ in found), found


def test_tools_that_change_are_held_unless_something_else_is_said(draft):
    servers = draft.load().servers
    assert {(server.pins, server.pin_reviewers) for server in servers.values()} == {("hold", ())}
    for mode in ("warn", "hold", "deny"):
        text = draft.edited("credential: github-pat", f"credential: github-pat\n    pins: {mode}")
        assert draft.load(text).servers["github"].pins == mode
    text = draft.edited("credential: github-pat", "credential: github-pat\n    pin_reviewers: [sre, desk]")
    assert draft.load(text).servers["github"].pin_reviewers == ("sre", "desk")


@pytest.mark.parametrize(
    ("added", "what"),
    [
        ("pins: ask", "pins cannot be 'ask'"),
        ("pin_reviewers: []", "an empty list"),
        ("pin_reviewers: [ser]", "unknown reviewer 'ser'"),
        ("pin_reviewers: [web]", "mitmweb does not show pins"),
        ("pins: warn\n    pin_reviewers: [sre]", "'pin_reviewers' on a server with pins warn"),
        ("pins: deny\n    pin_reviewers: [sre]", "'pin_reviewers' on a server with pins deny"),
    ],
)
def test_who_may_accept_a_changed_tool_is_said_where_somebody_is_asked(draft, added, what):
    found = draft.faults(draft.edited("credential: github-pat", f"credential: github-pat\n    {added}"))
    assert len(found) == 1
    assert what in found[0][1]


@pytest.mark.parametrize("key", ["pins: deny", "pin_reviewers: [sre]"])
def test_a_tunnel_has_no_tools_to_pin(draft, key):
    found = draft.faults(draft.edited("tunnel: true", f"tunnel: true, {key}"))
    assert [what for _, what, _ in found] == [f"{key.partition(':')[0]!r} on a tunnel: its tools cannot be seen"]


def test_a_credential_must_be_in_the_vault_where_its_names_are_known(draft):
    assert draft.load(secrets={"github-pat"})
    assert draft.load(secrets=None)
    found = draft.faults(draft.text, secrets=["github-pta"])
    assert found == [("p.yaml:26:17", "unknown secret 'github-pat'", "did you mean 'github-pta'?")]


def test_session_tokens_are_good_for_an_hour_or_what_is_said(draft):
    assert draft.load().session_ttl == timedelta(hours=1)
    for text, ttl in (("1m", timedelta(minutes=1)), ("24h", timedelta(days=1))):
        edited = draft.edited(
            "audience: https://gateway.example.com", f"audience: https://g.example\n  session_ttl: {text}"
        )
        assert draft.load(edited).session_ttl == ttl


@pytest.mark.parametrize("text", ["59s", "25h", "0s", "1", "forever"])
def test_session_tokens_are_good_neither_for_ever_nor_for_nothing(draft, text):
    edited = draft.edited(
        "audience: https://gateway.example.com", f"audience: https://g.example\n  session_ttl: {text}"
    )
    assert any("session_ttl" in said for _, said, _ in draft.faults(edited))


def test_the_old_transport_is_off_unless_a_server_says_so(draft):
    assert not any(server.legacy_sse for server in draft.load().servers.values())
    text = draft.edited("credential: github-pat", "credential: github-pat\n    legacy_sse: true")
    assert draft.load(text).servers["github"].legacy_sse
    assert not draft.load(text.replace("legacy_sse: true", "legacy_sse: false")).servers["github"].legacy_sse
    assert draft.faults(text.replace("legacy_sse: true", "legacy_sse: yes"))


def test_a_tunnel_has_no_streams_to_read(draft):
    found = draft.faults(draft.edited("tunnel: true", "tunnel: true, legacy_sse: true"))
    assert [what for _, what, _ in found] == ["'legacy_sse' on a tunnel: its streams cannot be seen"]
