"""Envelope encryption: a random data key for each version of a secret, wrapped by a key of the vault's.

Law: what is sealed opens only beside the exact facts it was sealed with (name, version, placeholder, bindings,
vault, purpose): they are the associated data of both layers, so an edited row does not open.
AES-256-GCM with random 96-bit nonces (NIST SP 800-38D); a data key seals one value only.
"""

import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coatcheck.errors import VaultError
from coatcheck.vault.secret import Secret

FORMAT = 1
NONCE_BYTES = 12
SENTINEL = b"coatcheck vault"


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed value: nonce, ciphertext and tag of the data key, and of the value under it."""

    wrapped_key: bytes
    value: bytes


def associated_data(purpose: str, facts: Mapping[str, str | int]) -> bytes:
    """Canonical JSON of the format, the purpose and the facts a sealed value is bound to."""
    content = {"format": FORMAT, "purpose": purpose, **facts}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class Sealer:
    """Seals and opens values under one key-encryption key (32 bytes), held for as long as the vault is open."""

    __slots__ = ("_kek",)

    def __init__(self, kek: bytes) -> None:
        self._kek = AESGCM(kek)

    def seal(self, value: Secret, facts: Mapping[str, str | int]) -> Sealed:
        """Seals one value under a new data key, bound to the facts."""
        data_key = AESGCM.generate_key(bit_length=256)
        return Sealed(
            wrapped_key=_encrypt(self._kek, data_key, associated_data("data-key", facts)),
            value=_encrypt(AESGCM(data_key), value.reveal(), associated_data("value", facts)),
        )

    def open(self, sealed: Sealed, facts: Mapping[str, str | int]) -> Secret:
        """The value. Raises `VaultError` where anything, a fact included, is not as it was sealed."""
        key_data, value_data = associated_data("data-key", facts), associated_data("value", facts)
        return self.open_with(sealed, key_data, value_data)

    def open_with(self, sealed: Sealed, key_data: bytes, value_data: bytes) -> Secret:
        """As `open`, with the associated data of both layers made beforehand."""
        try:
            data_key = _decrypt(self._kek, sealed.wrapped_key, key_data)
            return Secret(_decrypt(AESGCM(data_key), sealed.value, value_data))
        except (InvalidTag, ValueError, TypeError):
            raise VaultError("does not decrypt: changed outside the vault, or damaged") from None


def seal_sentinel(key: bytes, vault_id: str) -> bytes:
    """A known text under its own key: opens with the right master key only."""
    return _encrypt(AESGCM(key), SENTINEL, associated_data("sentinel", {"vault": vault_id}))


def opens_sentinel(key: bytes, vault_id: str, sentinel: bytes) -> bool:
    """Whether the sentinel was sealed under this key for this vault."""
    try:
        return _decrypt(AESGCM(key), sentinel, associated_data("sentinel", {"vault": vault_id})) == SENTINEL
    except (InvalidTag, ValueError, TypeError):
        return False


def fingerprint(key: bytes, value: Secret) -> str:
    """16 hexadecimal digits that tell two values apart; keyed, so that a guess cannot be checked against it."""
    return hmac.digest(key, value.reveal(), "sha256")[:8].hex()


def _encrypt(key: AESGCM, plain: bytes, data: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, plain, data)


def _decrypt(key: AESGCM, sealed: bytes, data: bytes) -> bytes:
    return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], data)
