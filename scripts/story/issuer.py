"""A real OpenID Connect issuer over HTTP on loopback: discovery, a JWKS, and the tokens its keys sign.

Law: a token verifies against the key set served at that moment, until `rotate()` retires its key.
Follows OpenID Connect Discovery 1.0 section 4, RFC 7517 (JWKS) and RFC 7519 (tokens).
"""

import json
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self, assert_never, override

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

type Algorithm = Literal["ES256", "RS256"]
type Claim = str | int | bool | Sequence[Claim] | dict[str, Claim] | None

DISCOVERY_PATH = "/.well-known/openid-configuration"
JWKS_PATH = "/jwks"


@dataclass(frozen=True)
class _SigningKey:
    kid: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    public_jwk: dict[str, object]


class Issuer:
    """An issuer that signs with `algorithm`; a context manager that serves from construction to `close()`.

    `url` is both its base URL and its tokens' `iss`. `fetches` counts the JWKS documents served.
    """

    def __init__(self, algorithm: Algorithm = "ES256", *, port: int = 0) -> None:
        self._algorithm: Algorithm = algorithm
        self._keys = [_make_key(algorithm)]
        self.fetches = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="issuer", daemon=True)
        self._thread.start()

    def token(self, *, audience: str, lifetime: float = 300, **claims: Claim) -> str:
        """A signed token for `audience`, good for `lifetime` seconds from now (negative: already expired).

        `claims` add to or replace the usual ones: `sub` is `repo:acme/shop:ref:refs/heads/main` unless given,
        `jti` is unique. A claim given as None is left out.
        """
        now = int(time.time())
        usual: dict[str, Claim] = {
            "iss": self.url,
            "sub": "repo:acme/shop:ref:refs/heads/main",
            "aud": audience,
            "iat": now if lifetime >= 0 else now + int(lifetime) - 60,
            "exp": now + int(lifetime),
            "jti": secrets.token_hex(8),
        }
        payload = {name: value for name, value in (usual | claims).items() if value is not None}
        key = self._keys[-1]
        return jwt.encode(payload, key.private, algorithm=self._algorithm, headers={"kid": key.kid})

    def rotate(self, *, keep_old: bool = True) -> str:
        """Signs with a new key from now on; the old one is still served where `keep_old`. Returns the new `kid`."""
        kept = self._keys[-1:] if keep_old else []
        self._keys = [*kept, _make_key(self._algorithm)]
        return self._keys[-1].kid

    def close(self) -> None:
        """Stops serving and joins the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _document(self, path: str) -> dict[str, object] | None:
        if path == DISCOVERY_PATH:
            return {
                "issuer": self.url,
                "jwks_uri": self.url + JWKS_PATH,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [self._algorithm],
            }
        if path == JWKS_PATH:
            self.fetches += 1
            return {"keys": [key.public_jwk for key in self._keys]}
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                document = issuer._document(self.path)
                body = json.dumps(document or {"error": "not_found"}).encode()
                self.send_response(404 if document is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Silent: the story's output is its own."""

        return Handler


def _make_key(algorithm: Algorithm) -> _SigningKey:
    kid = secrets.token_hex(8)
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    match algorithm:
        case "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        case "RS256":
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        case _:
            assert_never(algorithm)
    return _SigningKey(kid, private, {**public, "kid": kid, "alg": algorithm, "use": "sig"})
