"""Tests of story/certificates.py."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from story.certificates import Authority, CertificateFiles, make_authority


def handshake(files: CertificateFiles, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake between a server with `files` and `client`; raises what the client raises."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(files.certificate, files.key)
    near, far = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(far, server_side=True).close()
        except OSError:
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(near, server_hostname=name).close()
    finally:
        near.close()
        thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_accepts_its_server(authority: Authority, name: str):
    files = authority.server_cert("localhost", "127.0.0.1", "::1")
    handshake(files, ssl.create_default_context(cafile=authority.ca_pem), name)


def test_a_client_refuses_another_name(authority: Authority):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority.server_cert("localhost"), ssl.create_default_context(cafile=authority.ca_pem), "other.test")


def test_a_client_refuses_another_authority(authority: Authority, tmp_path: Path):
    other = make_authority(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority.server_cert("localhost"), ssl.create_default_context(cafile=other.ca_pem), "localhost")


def test_private_keys_are_readable_by_the_owner_alone(authority: Authority):
    assert authority.server_cert("localhost").key.stat().st_mode & 0o777 == 0o600
    assert "KEY" not in repr(authority)
