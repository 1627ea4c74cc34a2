"""A certificate authority for the servers of the story.

Law: private keys stay in the authority's folder, in files of mode 0600.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import trustme


class CertificateFiles(NamedTuple):
    """A server's certificate chain and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose own certificate is `ca_pem`."""

    folder: Path
    ca_pem: Path
    _authority: trustme.CA = field(repr=False)

    def server_cert(self, host: str, *others: str) -> CertificateFiles:
        """Issues a certificate for `host` (a name or an IP address) and `others`; returns its files."""
        issued = self._authority.issue_cert(host, *others)
        stem = host.replace("*", "any").replace(":", "_")
        files = CertificateFiles(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        _write_private(files.key, issued.private_key_pem.bytes())
        return files


def make_authority(folder: Path) -> Authority:
    """Makes an authority in `folder` (made where missing, 0700); its certificate is `folder/ca.pem`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="coatcheck story")
    ca_pem = folder / "ca.pem"
    ca_pem.write_bytes(authority.cert_pem.bytes())
    return Authority(folder, ca_pem, authority)


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
