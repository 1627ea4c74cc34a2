"""A bundle adds the gateway's CA to what was trusted before, and never holds a private key."""

import ssl
import stat
from pathlib import Path

import certifi
import pytest
import trustme

from coatcheck.client.bundle import bundle_of, gateway_certificate, system_roots, write_private
from coatcheck.errors import CoatcheckError
from coatcheck.proxy.authority import make_authority


def subjects(pem: bytes) -> list[object]:
    """Who the certificates are of, as OpenSSL reads them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem.decode("ascii"))
    return [certificate["subject"] for certificate in context.get_ca_certs()]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA(organization_name="the gateway")


def pem_of(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


def test_the_gateways_own_certificate_is_taken(tmp_path) -> None:
    path = make_authority(tmp_path)
    assert len(subjects(gateway_certificate(path))) == 1


def test_a_file_with_a_private_key_is_refused(tmp_path) -> None:
    make_authority(tmp_path)
    with pytest.raises(CoatcheckError, match="holds a private key"):
        gateway_certificate(tmp_path / "mitmproxy-ca.pem")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "no certificate there", id="empty"),
        pytest.param(b"\xff\xfe\x00", "no certificate there", id="binary"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read", id="garbage"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n", "no certificate there", id="half of one"),
        pytest.param(b"a" * (9 * 1024 * 1024), "too large", id="too large"),
    ],
)
def test_what_is_no_certificate_is_refused(tmp_path, content, words) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(CoatcheckError, match=words):
        gateway_certificate(path)


def test_a_missing_file_is_an_error_with_a_hint(tmp_path) -> None:
    with pytest.raises(CoatcheckError) as caught:
        gateway_certificate(tmp_path / "none.pem")
    assert "ca/ca.pem" in str(caught.value.problems[0].hint)


def test_ssl_cert_file_says_what_was_trusted(tmp_path, ca) -> None:
    corporate = trustme.CA(organization_name="corporate")
    path = tmp_path / "roots.pem"
    path.write_bytes(b"# a comment\n" + pem_of(corporate))
    roots = system_roots({"SSL_CERT_FILE": str(path)})
    assert subjects(roots) == subjects(pem_of(corporate))
    assert len(subjects(bundle_of(roots, pem_of(ca)))) == 2


def test_ssl_cert_file_that_cannot_be_read_is_an_error_rather_than_other_trust(tmp_path) -> None:
    with pytest.raises(CoatcheckError, match="cannot read"):
        system_roots({"SSL_CERT_FILE": str(tmp_path / "none.pem")})


def test_else_the_systems_roots_are_there_or_certifis(monkeypatch) -> None:
    assert len(subjects(system_roots({}))) > 20
    monkeypatch.setattr("coatcheck.client.bundle._SYSTEM_FILES", ())
    assert len(subjects(system_roots({}))) == len(subjects(Path(certifi.where()).read_bytes()))


def test_a_bundle_holds_every_root_and_the_gateways_once(ca) -> None:
    roots = system_roots({})
    bundle = bundle_of(roots, pem_of(ca))
    assert len(subjects(bundle)) == len(subjects(roots)) + 1
    assert bundle_of(bundle, pem_of(ca)) == bundle
    assert b"PRIVATE" not in bundle_of(roots + b"-----BEGIN PRIVATE KEY-----\nAAAA\n", pem_of(ca))


def test_a_bundle_lets_a_client_trust_the_gateway(ca) -> None:
    issued = ca.issue_cert("server.example")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    issued.configure_cert(server)
    client.load_verify_locations(cadata=bundle_of(system_roots({}), pem_of(ca)).decode("ascii"))
    handshake(server, client)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=system_roots({}).decode("ascii"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A whole TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="server.example"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue


def test_a_written_file_is_private_and_replaces_whatever_was_there(tmp_path) -> None:
    path, target = tmp_path / "bundle.pem", tmp_path / "elsewhere"
    target.write_bytes(b"kept")
    path.symlink_to(target)
    write_private(path, b"content")
    assert (path.read_bytes(), target.read_bytes()) == (b"content", b"kept")
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_folder_that_is_not_there_is_an_operators_error(tmp_path) -> None:
    with pytest.raises(CoatcheckError, match="cannot write"):
        write_private(tmp_path / "none" / "bundle.pem", b"")
