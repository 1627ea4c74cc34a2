"""Issuers that sign whatever they are told to, publish whatever they are told to, and fail as they are told to."""

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from ground import AUDIENCE, REPOSITORY_ID, Ground, Kind, denied
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from raw import Reply, proxy_authorization

DISCOVERY = "/.well-known/openid-configuration"

type Page = tuple[int, Mapping[str, str], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A key pair. `jwk` is what is published of it; its members can be changed."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "k1", **members: object) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any
        if algorithm.startswith("ES"):
            self.private = ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
            public = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            size = 1024 if members.pop("weak", False) else 2048
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=size)
            public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        self.jwk = {**public, "alg": algorithm, "use": "sig"} | ({"kid": kid} if kid else {}) | members

    def sign(self, header: str, payload: str, *, algorithm: str | None = None) -> str:
        """A token of exactly these texts, signed."""
        content = f"{b64(header.encode())}.{b64(payload.encode('utf-8', 'surrogatepass'))}"
        method = jwt.PyJWS().get_algorithm_by_name(algorithm or self.algorithm)
        return f"{content}.{b64(method.sign(content.encode(), self.private))}"


class Party:
    """An issuer on loopback; a context manager. The last of `keys` signs; `page` answers instead where it is set."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys) or [Key()]
        self.page: Callable[[str], Page | None] | None = None
        self.asked: list[str] = []
        party = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                party.asked.append(self.path)
                status, headers, body = (party.page and party.page(self.path)) or party._own(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
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
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _own(self, path: str) -> Page:
        document: dict[str, object] = {"keys": [key.jwk for key in self.keys]}
        if path == DISCOVERY:
            document = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return 200, {}, json.dumps(document).encode()

    def claims(self, **changes: object) -> dict[str, object]:
        """Good claims of the identity that this issuer's tokens are; `...` takes one out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "repo:acme/shop", "jti": secrets.token_hex(8)}
        good |= {"iat": now - 600, "exp": now + 300, "repository_id": REPOSITORY_ID}
        return {name: value for name, value in (good | changes).items() if value is not ...}

    def header(self, **changes: object) -> dict[str, object]:
        """The header of its good tokens."""
        key = self.keys[-1]
        good = {"alg": key.algorithm, "typ": "JWT"} | ({"kid": key.kid} if key.kid else {})
        return {name: value for name, value in (good | changes).items() if value is not ...}

    def token(self, *, key: Key | None = None, header: dict[str, object] | None = None, **claims: object) -> str:
        """A token with these claims changed, and these members of its header."""
        head = json.dumps(self.header(**(header or {})))
        return (key or self.keys[-1]).sign(head, json.dumps(self.claims(**claims)))

    def raw(self, *, header: str | None = None, payload: str | None = None) -> str:
        """A token of exactly this header or payload."""
        return self.keys[-1].sign(header or json.dumps(self.header()), payload or json.dumps(self.claims()))


@contextmanager
def running(place: Ground, parties: Mapping[str, Party], **issuer: str) -> Iterator[Ground]:
    """A gateway that knows these issuers too, each with an identity of its name; `issuer` adds to a party's entry."""
    issuers, identities = [], []
    for name, party in parties.items():
        algorithms = sorted({key.algorithm for key in party.keys} & {"ES256", "RS256", "PS256"}) or ["ES256"]
        more = issuer.get(name, "")
        entry = (
            more if "algorithms" in more else f"algorithms: {json.dumps(algorithms)}" + (f", {more}" if more else "")
        )
        issuers.append(f'  {name}: {{issuer: "{party.url}", {entry}}}\n')
        groups = "" if "groups" in entry else ", groups: [ci]"
        identities.append(f'  {name}: {{issuer: {name}, claims: {{repository_id: "{REPOSITORY_ID}"}}{groups}}}\n')
    text = place.policy_text()
    text = text.replace("issuers:\n", "issuers:\n" + "".join(issuers), 1)
    text = text.replace("identities:\n", "identities:\n" + "".join(identities), 1)
    policy = place.folder / f"tokens-{secrets.token_hex(4)}.yaml"
    policy.write_text(text)
    with place.running(policy=policy) as ground:
        yield ground


def present(ground: Ground, token: str, *, kind: Kind = "proxy") -> Reply:
    """What a request with this token is answered: as a whole URL to the proxy port, or in a tunnel."""
    with ground.client() as client:
        if kind == "tunnel":
            assert client.connect(token).status == 200
            reply = client.start_tls().outcome(ground.post())
        else:
            reply = client.outcome(ground.get(ground.rest_url(), proxy_authorization(token), token=False))
    assert reply is not None
    return reply


def accepted(ground: Ground, token: str, *, kind: Kind = "proxy") -> None:
    """Asserts that a request with this token arrives."""
    reply = present(ground, token, kind=kind)
    assert reply.status == 200, (reply, reply.body)


def refused(
    ground: Ground, token: str, reason: str | Collection[str], *, status: int = 401, kind: Kind = "proxy"
) -> None:
    """Asserts that a request with this token is refused, recorded and not sent; a good one of the ground's then is."""
    with ground.watch(kind) as watch:
        reply = present(ground, token, kind=kind)
        denied(reply, status, reason)
        assert not any(part.encode() in reply.body for part in token.split(".") if len(part) > 8)
    assert watch.refused_for() == [reply.reason_code]
