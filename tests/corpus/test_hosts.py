"""A host is one plain, declared name or address on one declared port; a disguise of it is none."""

import pytest
from ground import denied

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

BAD_HOSTS = {
    "two that differ": ("Host: {api}", "Host: evil.example"),
    "two that agree": ("Host: {api}", "Host: {api}"),
    "one under another spelling": ("Host: {api}", "hOST: evil.example"),
    "an empty one": ("Host:",),
    "a blank one": ("Host: \t",),
    "none": (),
    "a path in it": ("Host: localhost/../x",),
    "a query in it": ("Host: {api}/health?x=",),
    "userinfo in it": ("Host: localhost@{api}",),
    "a comma list": ("Host: {api}, evil.example",),
    "a space in it": ("Host: local host",),
    "a port that is none": ("Host: localhost:http",),
    "a port and nothing": ("Host: localhost:",),
    "a port too large": ("Host: localhost:65536",),
    "two ports": ("Host: {api}:443",),
    "brackets around a name": ("Host: [localhost]",),
    "a zone": ("Host: [fe80::1%25lo]",),
    "not ASCII": ("Host: exämple",),
    "a percent sign": ("Host: local%68ost",),
    "a backslash": ("Host: localhost\\evil.example",),
}


@pytest.mark.attack("HTTP-20")
@pytest.mark.parametrize("lines", BAD_HOSTS.values(), ids=BAD_HOSTS)
def test_a_host_header_that_is_not_one_plain_authority_is_refused(ground, lines) -> None:
    with ground.watch(), ground.tunnel() as client:
        lines = [line.format(api=ground.api.authority) for line in lines]
        denied(client.outcome(ground.post(without=["Host"], more=lines)), 400)


@pytest.mark.attack("HTTP-20")
@pytest.mark.parametrize("port", ["1", "443", "80"])
def test_a_host_header_with_another_port_is_misdirected(ground, port) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(without=["Host"], more=[f"Host: localhost:{port}"])), 421, "misdirected")


@pytest.mark.attack("HTTP-20")
@pytest.mark.parametrize("host", ["LOCALHOST:{port}", "localhost.:{port}"])
def test_a_host_header_in_another_spelling_leaves_in_the_one_of_the_target(ground, host) -> None:
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        line = "Host: " + host.format(port=ground.api.port)
        assert client.outcome(ground.post(without=["Host"], more=[line])).status == 200
    assert watch.arrived()[0].headers["host"] == ground.api.authority


DISGUISES = [
    "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.0.1", "127.000.000.001", "0", "0.0.0.0",
    "127.0.0.2", "[::ffff:127.0.0.1]", "[::1%25lo]", "[::1%lo]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]",
    "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "127.0.0.1.", "localhost..", ".localhost",
    "local%68ost", "169.254.169.254", "[v1.a]",
]  # fmt: skip


@pytest.mark.attack("HTTP-46")
@pytest.mark.parametrize("host", DISGUISES)
def test_an_address_in_disguise_is_refused(ground, host) -> None:
    with ground.watch("proxy", refusals=2), ground.client() as client, ground.client() as tunnel:
        authority = f"{host}:{ground.rest.port}"
        denied(tunnel.connect(ground.token(), authority), (400, 403))
        denied(client.outcome(ground.get(f"http://{authority}/repos/a", host=authority)), (400, 403))


@pytest.mark.attack("HTTP-46")
def test_a_trailing_dot_does_not_make_another_host(ground) -> None:
    """`localhost.` is the declared host on its declared port, and no host at all on another."""
    with ground.watch("proxy", arrive=1), ground.client() as client, ground.client() as other:
        authority = f"localhost.:{ground.rest.port}"
        assert client.outcome(ground.get(f"http://{authority}/repos/a", host=authority)).status == 200
        denied(other.outcome(ground.get("http://localhost./repos/a", host="localhost.")), 403, "unknown-host")


@pytest.mark.attack("HTTP-46")
def test_an_address_that_the_policy_does_not_list_is_not_dialled(ground) -> None:
    before = ground.private.mark()
    with ground.client() as client:
        url, host = f"http://{ground.private.authority}/x", ground.private.authority
        denied(client.outcome(ground.get(url, host=host)), (403, 502))
    assert ground.private.mark() == before
    ground.is_well("proxy")


FOREIGN = {
    "a letter": "exämple.example",
    "full width": "localho\uff53t",
    "full-width stop": "evil\uff0eexample",
    "ideographic stop": "evil\u3002example",
    "a ligature": "of\ufb01ce.example",
    "a long s": "localho\u017ft",
    "Cyrillic": "l\u043ecalhost",
    "a soft hyphen": "local\u00adhost",
    "a bidi mark": "local\u202ehost",
}


@pytest.mark.attack("HTTP-47")
@pytest.mark.parametrize("host", FOREIGN.values(), ids=FOREIGN)
def test_a_host_that_is_not_ascii_is_refused(ground, host) -> None:
    with ground.watch("proxy", refusals=2), ground.client() as client, ground.client() as tunnel:
        authority = f"{host}:{ground.rest.port}"
        denied(tunnel.connect(ground.token(), authority), 400)
        denied(client.outcome(ground.get(f"http://{authority}/repos/a", host=authority)), 400)


@pytest.mark.attack("HTTP-47")
@pytest.mark.parametrize("host", ["xn--exmple-cua.example", "xn--localhst-4fc", "xn--a", "xn--", "XN--LOCALHST-4FC"])
def test_a_punycode_host_is_reached_only_where_it_is_declared(ground, host) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), f"{host}:{ground.api.port}"), (400, 403))


PORTS = [
    "0",
    "65536",
    "99999",
    "-1",
    "+443",
    "",
    "4a3",
    " 443",
    "4_4",
    "\u0664\u0664\u0663",
    "1e3",
    "443:443",
    "00000443",
]


@pytest.mark.attack("HTTP-50")
@pytest.mark.parametrize("port", PORTS)
def test_a_port_that_is_no_port_is_refused(ground, port) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), f"localhost:{port}"), (400, 403))


@pytest.mark.attack("HTTP-50")
@pytest.mark.parametrize("port", ["22", "25", "6379", "443", "80", "8080"])
def test_a_port_that_is_not_declared_is_refused(ground, port) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), f"localhost:{port}"), 403, "unknown-host")


@pytest.mark.attack("HTTP-50")
def test_connect_without_a_port_is_refused(ground) -> None:
    with ground.watch(), ground.client() as client:
        denied(client.connect(ground.token(), "localhost"), (400, 403))
