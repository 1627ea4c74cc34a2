"""The gateway's certificate authority, as mitmproxy keeps it, private to its user."""

import os
from pathlib import Path

from mitmproxy.certs import CertStore

KEY_BITS = 2048


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
