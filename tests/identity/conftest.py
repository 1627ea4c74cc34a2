"""A real issuer: real keys, real signatures, and a loopback server that publishes them."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from coatcheck.policy.model import IssuerSpec

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AUDIENCE = "https://gateway.acme.dev"


class Signer:
    """One signing key, with its public half as a JWK."""

    def __init__(self, alg: str, kid: str | None, key: object = None) -> None:
        self.alg, self.kid, self.key = alg, kid, key or new_key(alg)

    def jwk(self, **members: object) -> dict[str, object]:
        algorithm = {"R": RSAAlgorithm, "P": RSAAlgorithm}.get(self.alg[0])
        algorithm = algorithm or (OKPAlgorithm if self.alg == "EdDSA" else ECAlgorithm)
        jwk = algorithm.to_jwk(self.key.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return jwk | ({"kid": self.kid} if self.kid else {}) | {"use": "sig"} | members

    def sign(self, claims: dict[str, object], **header: object) -> str:
        """A token with these header members beside `alg`, `kid` and `typ`; a None takes one out."""
        members = {"typ": "JWT"} | ({"kid": self.kid} if self.kid else {}) | header
        members = {name: value for name, value in members.items() if value is not None or name == "typ"}
        return jwt.encode(claims, self.key, algorithm=self.alg, headers=members)

    def sign_raw(self, header: str, payload: str) -> str:
        """A token whose header and payload are exactly these texts, signed all the same."""
        signing_input = f"{b64(header.encode())}.{b64(payload.encode('utf-8', 'surrogatepass'))}"
        algorithm = jwt.PyJWS().get_algorithm_by_name(self.alg)
        return f"{signing_input}.{b64(algorithm.sign(signing_input.encode(), self.key))}"


def new_key(alg: str) -> object:
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if alg.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[alg])
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(*signers: Signer) -> bytes:
    return json.dumps({"keys": [signer.jwk() for signer in signers]}).encode()


class Publisher:
    """A loopback web server. `pages` maps a path to a body, or to (status, headers, body); `asked` holds the paths
    asked for; `answers` come before the page, once each. All wait for `gate`; `arrived` is set by the first request.
    """

    def __init__(self) -> None:
        self.pages: dict[str, bytes | tuple[int, dict[str, str], bytes]] = {}
        self.answers: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(self.path)
                publisher.arrived.set()
                publisher.gate.wait(10)
                first = publisher.answers.get(self.path)
                page = first.pop(0) if first else publisher.pages.get(self.path, (404, {}, b""))
                status, headers, body = (200, {}, page) if isinstance(page, bytes) else page
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, *signers: Signer) -> None:
        self.pages["/jwks"] = jwks(*signers)
        self.pages["/.well-known/openid-configuration"] = json.dumps(
            {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        ).encode()

    def fails(self, status: int = 500) -> None:
        self.pages = dict.fromkeys(self.pages, (status, {}, b"out of order"))

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


class Clock:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def audience() -> str:
    return AUDIENCE


@pytest.fixture
def claims(publisher: Publisher) -> Callable[..., dict[str, object]]:
    """Good claims at `NOW`; a change to `...` takes one out."""
    seconds = int(NOW.timestamp())
    good = {"iss": publisher.url, "aud": AUDIENCE, "sub": "repo:acme/shop", "jti": "j-1"}
    good |= {"iat": seconds, "exp": seconds + 300}
    return lambda **changes: {name: value for name, value in (good | changes).items() if value is not ...}


@pytest.fixture(scope="session")
def new_signer() -> Callable[..., Signer]:
    return Signer


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def other_publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer("ES256", "k1")


@pytest.fixture(scope="session")
def signers(signer: Signer) -> dict[str, Signer]:
    """One signer an algorithm, keyed by it."""
    rsa_key = new_key("RS256")
    others = [Signer("ES384", "k-es384"), Signer("EdDSA", "k-eddsa")]
    rsas = [Signer(alg, f"k-{alg.lower()}", rsa_key) for alg in ("RS256", "PS256")]
    return {each.alg: each for each in (signer, *others, *rsas)}


@pytest.fixture
def spec(publisher: Publisher) -> Callable[..., IssuerSpec]:
    """An issuer found by discovery at the publisher."""

    def make(**changes: object) -> IssuerSpec:
        defaults = {"name": "corp", "issuer": publisher.url, "algorithms": ("ES256",)}
        return IssuerSpec(**(defaults | changes))

    return make
