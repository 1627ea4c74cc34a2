import pytest

from coatcheck.policy.model import HttpPattern, Policy, Rule, RuleId, Server
from coatcheck.policy.servers import is_endpoint, is_taken_for_another, server_for, servers_at, speaks_mcp


def server(name, path="/", scheme="https", host="h.example", port=443, **more):
    return Server(name, f"{scheme}://{host}:{port}{path}", scheme, host, port, path, **more)


SERVERS = {
    made.name: made
    for made in (
        server("root"),
        server("mcp", "/mcp"),
        server("deep", "/mcp/deep/"),
        server("plain", "/", "http", port=80),
        server("odd-port", "/", port=8443),
        server("elsewhere", "/api", host="e.example"),
        server("v6", host="2001:db8::1"),
    )
}
POLICY = Policy("https://g.example", "0" * 64, (), servers=SERVERS)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "path", "expected"),
    [
        ("https", "h.example", 443, "/", "root"),
        ("https", "h.example", 443, "/other", "root"),
        ("https", "h.example", 443, "/mcp", "mcp"),
        ("https", "h.example", 443, "/mcp/", "mcp"),
        ("https", "h.example", 443, "/mcp/x", "mcp"),
        ("https", "h.example", 443, "/mcpx", "root"),
        ("https", "h.example", 443, "/MCP", "root"),
        ("https", "h.example", 443, "/mcp/deep", "deep"),
        ("https", "h.example", 443, "/mcp/deep/x", "deep"),
        ("https", "h.example", 443, "/mcp/deeper", "mcp"),
        ("http", "h.example", 80, "/mcp", "plain"),
        ("http", "h.example", 443, "/mcp", None),
        ("https", "h.example", 8443, "/mcp", "odd-port"),
        ("https", "e.example", 443, "/api/x", "elsewhere"),
        ("https", "e.example", 443, "/", None),
        ("https", "unknown.example", 443, "/", None),
        ("https", "2001:db8::1", 443, "/x", "v6"),
        ("https", "h.example", 443, "/mcp/../admin", None),
        ("https", "h.example", 443, "//mcp", None),
        ("https", "h.example", 443, "/%6dcp", None),
        ("https", "h.example", 443, "mcp", None),
        ("https", "h.example", 443, "", None),
    ],
    ids=str,
)
def test_a_request_goes_to_the_longest_prefix_on_a_segment_boundary(scheme, host, port, path, expected):
    found = server_for(POLICY, scheme, host, port, path)
    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/mcp", False),
        ("/mcp/deep/x", False),
        ("/mcp/x", False),
        ("/mcpx", False),
        ("/mcp%2Fx", True),  # of `root` as it stands
        ("/MCP", True),
        ("/mcp;x", True),
        ("/mcp%3Bx/y", True),
        ("/mcp/Deep", True),
    ],
)
def test_a_path_that_another_servers_could_be_is_seen(path, expected):
    found = server_for(POLICY, "https", "h.example", 443, path)
    assert is_taken_for_another(POLICY, found, path) is expected


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("/mcp", "/mcp", True),
        ("/mcp", "/mcp/", True),
        ("/mcp/", "/mcp", True),
        ("/mcp", "/mcp/;x", True),
        ("/mcp", "/mcp/x", False),
        ("/mcp", "/", False),
        ("/", "/", True),
        ("/", "/;x", True),
        ("/", "/mcp", False),
    ],
)
def test_an_endpoint_is_one_however_its_path_is_spelt(url, path, expected):
    assert is_endpoint(server("s", url), path) is expected


def test_servers_are_found_by_host_and_port_whatever_the_scheme():
    assert [found.name for found in servers_at(POLICY, "h.example", 443)] == ["root", "mcp", "deep"]
    assert [found.name for found in servers_at(POLICY, "h.example", 80)] == ["plain"]
    assert servers_at(POLICY, "unknown.example", 443) == ()


@pytest.mark.parametrize(
    ("rules", "tunnel", "expected"),
    [
        pytest.param([], False, True, id="no rule"),
        pytest.param([{"tools": ("x",)}], False, True, id="tools"),
        pytest.param([{"resources": ("x:y",)}], False, True, id="resources"),
        pytest.param([{"prompts": ("x",)}], False, True, id="prompts"),
        pytest.param([{"methods": ("x",)}], False, True, id="methods"),
        pytest.param([{"http": (HttpPattern("GET", "/x"),)}], False, False, id="http only"),
        pytest.param([{"http": (HttpPattern("GET", "/x"),)}, {"tools": ("x",)}], False, True, id="both"),
        pytest.param([{"http": (HttpPattern("CONNECT", "/"),)}], True, False, id="tunnel"),
        pytest.param([], True, False, id="tunnel without a rule"),
    ],
)
def test_a_server_speaks_mcp_unless_its_rules_are_about_http_only(rules, tunnel, expected):
    made = server("s", tunnel=tunnel)
    written = tuple(Rule(RuleId(f"r{n}"), ("any",), "s", "allow", "p:1:1", **what) for n, what in enumerate(rules))
    assert speaks_mcp(Policy("https://g.example", "0", (), servers={"s": made}, rules=written), made) is expected
