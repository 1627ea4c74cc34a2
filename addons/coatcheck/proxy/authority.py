"""The gateway's certificate authority, as mitmproxy keeps it, private to its user."""

import os
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import BasicConstraints, ExtensionNotFound, load_pem_x509_certificate
from mitmproxy.certs import CertStore

from coatcheck.errors import StateError
from coatcheck.state import open_private

KEY_BITS = 2048
KEY_FILE = "mitmproxy-ca.pem"
"""mitmproxy's own name: the private key and, behind it, its certificate."""


def make_authority(folder: Path) -> Path:
    """Makes the CA in `folder` (0700) where there is none; returns the path of `ca.pem`, the certificate alone.

    mitmproxy reads its own files (`mitmproxy-ca.pem`) from the same folder, which is its `confdir`.
    """
    before = os.umask(0o077)
    try:
        CertStore.from_store(str(folder), "mitmproxy", KEY_BITS)
        certificate = folder / "ca.pem"
        if not certificate.exists():
            certificate.write_bytes((folder / "mitmproxy-ca-cert.pem").read_bytes())
    finally:
        os.umask(before)
    return certificate


def check_authority(folder: Path, *, now: datetime) -> None:
    """Raises `StateError` where the CA cannot sign, or is not the one that clients were given in `ca.pem`.

    mitmproxy itself would make another one in silence, which no client trusts.
    """
    where = folder / KEY_FILE
    hint = f"put the file back, or make what is missing with: coatcheck init --state {folder.parent}"
    with os.fdopen(open_private(where), "rb") as file:
        data = file.read()
    try:
        certificate, key = load_pem_x509_certificate(data), load_pem_private_key(data, None)
        given = load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        is_authority = certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
    except OSError as error:
        raise StateError(f"cannot open: {error.strerror}", where=str(folder / "ca.pem"), hint=hint) from error
    except (ValueError, TypeError, ExtensionNotFound, UnsupportedAlgorithm):
        raise StateError("not the gateway's certificate authority", where=str(where), hint=hint) from None
    if not is_authority or certificate.public_key() != key.public_key():
        raise StateError("not the gateway's certificate authority", where=str(where), hint=hint)
    if given != certificate:
        raise StateError("another certificate than the gateway signs with", where=str(folder / "ca.pem"), hint=hint)
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise StateError("the certificate is not valid now", where=str(where), hint=hint)
