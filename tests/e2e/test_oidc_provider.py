"""A certified OpenID provider as the issuer: its tokens, a key rotation under traffic, its end and its return.

`scripts/oidc-provider` installs it.
"""

import base64
import json
import shutil
import signal
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from far_end import FarEnd, gateway_with
from raw import RawClient, Reply, head, proxy_authorization

from coatcheck.journal.read import records
from story.cast import AUDIENCE, Cast
from story.part import LOOPBACK, Part, clean_environment, free_port
from story.processes import Gateway

FOLDER = Path(__file__).parent / "oidc_provider"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (FOLDER / "node_modules/oidc-provider").exists() or shutil.which("node") is None,
        reason="oidc-provider is not installed: run scripts/oidc-provider",
    ),
]


class Provider(Part):
    """npm's oidc-provider with two clients: `rs` signs with RS256, `es` with ES256. Its keys survive a restart."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        node = shutil.which("node")
        assert node is not None
        super().__init__(
            "the provider",
            [node, str(FOLDER / "provider.mjs"), str(self.port), str(folder / "provider-keys.json"), AUDIENCE],
            output=folder / "provider.out",
            environment=clean_environment(),
            exit_codes=(0, -signal.SIGTERM),
        )

    def is_ready(self) -> bool:
        try:
            return bool(self._ask("/.well-known/openid-configuration"))
        except OSError:
            return False

    def token(self, client: str, *, audience: str = AUDIENCE) -> str:
        """An access token by client credentials."""
        form = {"grant_type": "client_credentials", "scope": "call", "resource": audience}
        basic = base64.b64encode(f"{client}:{client}-secret".encode()).decode()
        answer = self._ask("/token", urllib.parse.urlencode(form).encode(), Authorization=f"Basic {basic}")
        return json.loads(answer)["access_token"]

    def rotate(self) -> None:
        """Signs with new keys from now on, and publishes the old ones beside them."""
        self._ask("/_rotate", b"")

    def _ask(self, path: str, data: bytes | None = None, **headers: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            return answer.read()


def policy(provider: Provider, books: FarEnd) -> str:
    return f"""
coatcheck: 1
issuers:
  idp: {{issuer: "{provider.url}", algorithms: [RS256, ES256], typ: at+jwt, groups: roles}}
identities:
  read-stage: {{issuer: idp, claims: {{client_id: rs, stage: rs-stage}}}}
  write-stage: {{issuer: idp, claims: {{client_id: es, stage: es-stage}}}}
servers:
  books: {{url: "http://{books.authority}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: stages-read, who: [read-stage, write-stage], server: books, http: ["GET /orders/**"], effect: allow}}
  - {{id: one-stage-writes, who: [write-stage], server: books, http: ["PUT /orders/**"], effect: allow}}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    provider: Provider
    books: FarEnd
    gateway: Gateway

    def ask(self, token: str, method: str = "GET", path: str = "/orders/1") -> Reply:
        """One request of a connection of its own."""
        authority = self.books.authority
        with RawClient(self.gateway, authority=authority) as client:
            first = f"{method} http://{authority}{path} HTTP/1.1"
            length = ("Content-Type: application/json", "Content-Length: 2") if method == "PUT" else ()
            client.send(
                head(first, f"Host: {authority}", *length, proxy_authorization(token)) + (b"{}" if length else b"")
            )
            return client.read()


@pytest.fixture(scope="module")
def scene(cast: Cast) -> Iterator[Scene]:
    with (
        Provider(cast.folder) as provider,
        FarEnd() as books,
        gateway_with(cast, policy(provider, books)) as gateway,
    ):
        yield Scene(provider, books, gateway)


@pytest.mark.parametrize(("client", "algorithm"), [("rs", "RS256"), ("es", "ES256")])
def test_a_token_by_client_credentials_is_its_clients(scene: Scene, client: str, algorithm: str) -> None:
    token = scene.provider.token(client)
    assert jwt.get_unverified_header(token) | {"alg": algorithm, "typ": "at+jwt"} == jwt.get_unverified_header(token)
    assert scene.ask(token).status == 200
    before = len(scene.books.heard)
    other = scene.ask(scene.provider.token(client, audience="https://other.shop.example"))
    assert (other.status, other.reason_code) == (401, "wrong-audience")
    flipped = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    forged = scene.ask(flipped)
    assert (forged.status, forged.reason_code) == (401, "bad-signature")
    assert len(scene.books.heard) == before


def test_two_stages_of_one_pipeline_are_told_apart_by_their_claims(scene: Scene) -> None:
    reader, writer = scene.provider.token("rs"), scene.provider.token("es")
    before = len(list(records(scene.gateway.state / "journal")))
    assert [scene.ask(token, "GET").status for token in (reader, writer)] == [200, 200]
    assert [scene.ask(token, "PUT").status for token in (reader, writer)] == [403, 200]
    written = list(records(scene.gateway.state / "journal"))[before:]
    callers = [record["caller"]["name"] for record in written if record["kind"] == "request"]
    assert callers == ["read-stage", "write-stage", "write-stage"]
    (refusal,) = [record for record in written if record["kind"] == "refusal"]
    assert (refusal["caller"], refusal["reason"]) == ("read-stage", "policy-denied")


def test_no_valid_request_is_refused_while_the_keys_rotate(scene: Scene) -> None:
    seen: list[tuple[str, int]] = []
    problems: list[BaseException] = []
    is_over = threading.Event()

    def work(client: str) -> None:
        try:
            while not is_over.is_set():
                token = scene.provider.token(client)
                seen.append((jwt.get_unverified_header(token)["kid"], scene.ask(token).status))
        except BaseException as problem:
            problems.append(problem)

    workers = [threading.Thread(target=work, args=(client,)) for client in ("rs", "es", "rs", "es")]
    for worker in workers:
        worker.start()
    try:
        scene.gateway.wait_for(lambda: len(seen) >= 20 or bool(problems), within_seconds=60)
        old, kept = {kid for kid, _ in seen}, scene.provider.token("rs")
        scene.provider.rotate()
        turned = len(seen)
        scene.gateway.wait_for(lambda: len(seen) >= turned + 40 or bool(problems), within_seconds=60)
    finally:
        is_over.set()
        for worker in workers:
            worker.join(timeout=30)
    assert problems == []
    assert {status for _, status in seen} == {200}
    assert len({kid for kid, _ in seen} - old) == 2, "both new keys were in use"
    assert scene.ask(kept).status == 200


def test_a_provider_that_is_killed_and_comes_back_is_not_missed_where_its_keys_are_known(scene: Scene) -> None:
    assert scene.ask(scene.provider.token("es")).status == 200
    tokens = [scene.provider.token(client) for client in ("rs", "es", "rs")]
    scene.provider.kill()
    assert [scene.ask(token).status for token in tokens] == [200, 200, 200]
    scene.provider.start()
    assert [scene.ask(scene.provider.token(client)).status for client in ("rs", "es")] == [200, 200]


def test_a_provider_that_is_down_when_the_gateway_starts_is_a_503_until_it_is_back(fresh: Cast) -> None:
    with Provider(fresh.folder) as provider, FarEnd() as books:
        token = provider.token("es")
        provider.kill()
        with gateway_with(fresh, policy(provider, books)) as gateway:
            scene = Scene(provider, books, gateway)
            down = scene.ask(token)
            assert (down.status, down.reason_code, down.json["retryable"]) == (503, "issuer-unreachable", True)
            assert books.heard == []
            provider.start()
            gateway.wait_for(lambda: scene.ask(token).status == 200, within_seconds=30)
            assert scene.ask(provider.token("rs")).status == 200
