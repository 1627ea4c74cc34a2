"""The keys that sign session tokens (ES256: RFC 7518 3.4), and their public halves (RFC 7517).

Law: a private key is stored sealed under the vault's master key, bound to its name and age; one that does not open
verifies nothing.
Law: a key signs for `ROTATE_AFTER` and verifies for as long as what it signed can be good, then it is dropped.
Law: a key that takes another's place is published for `ANNOUNCED` before it signs, so that nobody meets it unprepared.
"""

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from coatcheck.errors import VaultError
from coatcheck.identity.session_store import SealedKey, SessionStore
from coatcheck.mcp.call import Json
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.secret import Secret

ALGORITHM = "ES256"
ROTATE_AFTER = timedelta(days=30)
ANNOUNCED = timedelta(hours=1)
LONGEST_TOKEN = timedelta(hours=24)
"""No session token is good for longer."""
MARGIN = timedelta(hours=1)
"""For the clocks of several gateways."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; `kid` is its thumbprint (RFC 7638), `created_at` whole seconds since 1970."""

    kid: str
    created_at: int
    private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """What verifies its signatures."""
        return self.private.public_key()

    @property
    def jwk(self) -> dict[str, Json]:
        """The public half as published."""
        return {**_required_members(self.public), "kid": self.kid, "alg": ALGORITHM, "use": "sig"}

    def signs(self, *, now: datetime) -> bool:
        """Whether it is so young that no other need be made."""
        return now.timestamp() < self.created_at + ROTATE_AFTER.total_seconds()


class SigningKeys:
    """The keys of one database, in memory once loaded. Methods that take `now`, and `load`, block on the database."""

    def __init__(self, store: SessionStore, sealer: Sealer, vault_id: str) -> None:
        self._store = store
        self._sealer = sealer
        self._vault_id = vault_id
        self._keys: dict[str, SigningKey] = {}
        self._making = threading.Lock()

    def load(self) -> None:
        """Reads the keys anew. Raises `StateError`."""
        opened = [self._open(stored) for stored in self._store.signing_keys()]
        self._keys = {key.kid: key for key in opened if key is not None}

    def find(self, kid: str) -> SigningKey | None:
        """The key of that name among those loaded."""
        return self._keys.get(kid)

    def jwks(self) -> dict[str, Json]:
        """The public halves of all keys loaded (RFC 7517 section 5)."""
        return {"keys": [key.jwk for key in self._keys.values()]}

    def current(self, *, now: datetime) -> SigningKey:
        """The key to sign with: the newest that is `ANNOUNCED`, or the newest where none is.

        Where the newest is too old, the next is made here. Raises `StateError`.
        """
        with self._making:
            newest = self._newest()
            if newest is None or not newest.signs(now=now):
                self.load()  # another gateway may have made one
                newest = self._newest()
            if newest is None or not newest.signs(now=now):
                newest = self._make(now)
            return self._newest(until=now - ANNOUNCED) or newest

    def _newest(self, *, until: datetime | None = None) -> SigningKey | None:
        """The newest key, of those made by then."""
        made = [key for key in self._keys.values() if until is None or key.created_at <= until.timestamp()]
        return max(made, key=lambda key: key.created_at, default=None)

    def _make(self, now: datetime) -> SigningKey:
        private = ec.generate_private_key(ec.SECP256R1())
        key = SigningKey(_thumbprint(private.public_key()), int(now.timestamp()), private)
        value = Secret(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        sealed = self._sealer.seal(value, self._facts(key.kid, key.created_at))
        oldest = now - ROTATE_AFTER - LONGEST_TOKEN - MARGIN
        self._store.add_key(SealedKey(key.kid, key.created_at, sealed), drop_before=int(oldest.timestamp()))
        self.load()
        return key

    def _open(self, stored: SealedKey) -> SigningKey | None:
        try:
            der = self._sealer.open(stored.sealed, self._facts(stored.kid, stored.created_at))
            private = load_der_private_key(der.reveal(), None)
        except (VaultError, ValueError, TypeError):
            # the master key is another, or the row was changed: what it signed is refused
            _log.warning("a key for session tokens does not open and is not used")
            return None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or _thumbprint(private.public_key()) != stored.kid:
            return None
        return SigningKey(stored.kid, stored.created_at, private)

    def _facts(self, kid: str, created_at: int) -> Mapping[str, str | int]:
        return {"vault": self._vault_id, "use": "session-token-key", "kid": kid, "created_at": created_at}


def _required_members(public: ec.EllipticCurvePublicKey) -> dict[str, Json]:
    """The members that make the key, in the order of their names."""
    numbers = public.public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _base64url(numbers.x), "y": _base64url(numbers.y)}


def _thumbprint(public: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638 section 3: SHA-256 over the required members, in base64url."""
    members = json.dumps(_required_members(public), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(members).digest()).rstrip(b"=").decode()


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
