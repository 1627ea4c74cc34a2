"""The certificates that clients trust: the system's roots and the gateway's CA, in one PEM file.

Law: a bundle adds the gateway's CA to what was trusted before, and takes nothing away.
Law: no private key ever gets into a bundle, and a file that holds one is refused as a CA certificate.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import certifi

from coatcheck.errors import CoatcheckError

MAX_PEM_BYTES = 8 * 1024 * 1024

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Debian and Alpine; Fedora; openSUSE; macOS and the BSDs."""


def gateway_certificate(path: Path) -> bytes:
    """The gateway's CA certificate (PEM), one or several. Raises `CoatcheckError` for anything else."""
    hint = "it is ca/ca.pem of the gateway's state directory"
    data = _read(path, hint)
    if b"PRIVATE KEY-----" in data:
        raise CoatcheckError("the file holds a private key", where=str(path), hint=hint)
    found = _CERTIFICATE.findall(data)
    if not found:
        raise CoatcheckError("no certificate there", where=str(path), hint=hint)
    try:
        ssl.create_default_context(cadata=b"\n".join(found).decode("ascii"))
    except ssl.SSLError:
        raise CoatcheckError("the certificate cannot be read", where=str(path), hint=hint) from None
    return _joined(found)


def system_roots(environ: Mapping[str, str]) -> bytes:
    """The roots trusted until now (PEM): `SSL_CERT_FILE`'s where it is set, else the system's, else certifi's.

    Raises `CoatcheckError` where `SSL_CERT_FILE` is set and cannot be read: to guess in its place would change trust.
    """
    if named := environ.get("SSL_CERT_FILE"):
        found = _CERTIFICATE.findall(_read(Path(named), "unset SSL_CERT_FILE, or let it name a file of certificates"))
        return _joined(found)
    for candidate in _SYSTEM_FILES:
        if Path(candidate).is_file():
            return _joined(_CERTIFICATE.findall(_read(Path(candidate), None)))
    return _joined(_CERTIFICATE.findall(Path(certifi.where()).read_bytes()))


def bundle_of(roots: bytes, certificate: bytes) -> bytes:
    """One PEM text of both; the gateway's certificate first, and no certificate twice."""
    return _joined(list(dict.fromkeys(_CERTIFICATE.findall(certificate) + _CERTIFICATE.findall(roots))))


def write_private(path: Path, content: bytes) -> None:
    """A new file, 0600, put in its place at once; whoever reads it while it is replaced sees the old or the new one.

    Raises `CoatcheckError`.
    """
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        written.unlink(missing_ok=True)
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        written.replace(path)
    except OSError as error:
        raise CoatcheckError(f"cannot write: {error.strerror}", where=str(path)) from None


def _joined(certificates: list[bytes]) -> bytes:
    return b"".join(certificate + b"\n" for certificate in certificates)


def _read(path: Path, hint: str | None) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise CoatcheckError(f"cannot read: {error.strerror}", where=str(path), hint=hint) from None
    if len(data) > MAX_PEM_BYTES:
        raise CoatcheckError("too large for a file of certificates", where=str(path), hint=hint)
    return data
