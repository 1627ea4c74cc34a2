"""Token exchange over a real socket: a caller's token in, a session token out, and nothing for anything else."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from coatcheck.approvals.store import ApprovalStore
from coatcheck.control.metrics import Metrics
from coatcheck.control.server import ControlPort
from coatcheck.control.tokens import TokenExchange
from coatcheck.errors import JournalError, Refusal
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.keys import KeySource
from coatcheck.identity.one_time import UsedTokens
from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tables import TOKENS
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.token_request import GRANT_TYPE, JWT, SAML2
from coatcheck.identity.verify import Verifier
from coatcheck.live import Live
from coatcheck.policy.model import Identity, IssuerSpec, Policy
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer
from story.issuer import Issuer
from story.part import free_port

AUDIENCE = "https://gateway.shop.example"


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as issuer:
        yield issuer


class Port:
    """A control port on a socket of its own, with a real database, verifier and signer behind it."""

    def __init__(self, issuer: Issuer, folder) -> None:
        self.issuer = issuer
        issuers = {"ci": IssuerSpec("ci", issuer.url, ("ES256",))}
        identities = {
            "bot": Identity("bot", "ci", {"repo": "shop"}),
            "off": Identity("off", "ci", {"repo": "off"}, disabled=True),
        }
        policy = Policy(AUDIENCE, "5" * 64, (), issuers=issuers, identities=identities)
        self.live = Live(policy, Verifier(issuers, AUDIENCE, KeySource()), None)
        state = StateDirectory(folder / "state")
        state.create()
        self.engine = state.open_database()
        self.store = SessionStore(self.engine)
        self.tokens = SessionTokens(self.store, Sealer(b"k" * 32), "v" * 32)
        self.journaled: list[str] = []
        self.refusals: list[tuple[str, str | None]] = []
        self.journal_works = True
        self.assertions: list[bytes] = []
        self.port = free_port()
        self.control: ControlPort | None = None

    async def note(self, token) -> None:
        if not self.journal_works:
            raise JournalError("no space left")
        self.journaled.append(token.jti)

    def note_refused(self, refusal: Refusal, caller: Caller | None, policy: Policy) -> None:
        assert policy is self.live.policy
        self.refusals.append((refusal.reason, caller and caller.name))

    def verify_assertion(self, assertion: bytes, issuers, *, audience: str, now: datetime) -> Verified:
        self.assertions.append(assertion)
        assert audience == AUDIENCE
        if assertion == b"<bad/>":
            raise Refusal.unauthenticated("assertion-unsigned", "not signed")
        return Verified("ci", "saml", {"repo": "shop"}, "a" * 32, now + timedelta(minutes=5))

    def listen(self, *, with_saml: bool = False) -> None:
        saml = self.verify_assertion if with_saml else None
        exchange = TokenExchange(self.live, self.tokens, UsedTokens(self.engine), self.note, self.note_refused, saml)
        self.control = ControlPort(self.live, ApprovalStore(self.engine), Metrics(), None, exchange.routes())
        self.control.listen("127.0.0.1", self.port)

    def token(self, **claims) -> str:
        return self.issuer.token(audience=AUDIENCE, **({"repo": "shop"} | claims))

    async def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> HTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = HTTPRequest(f"http://127.0.0.1:{self.port}{path}", method, named, body)
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    async def exchange(self, token: str, **more: str) -> tuple[int, dict]:
        form = {"grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": JWT} | more
        response = await self.ask("/token", method="POST", body=urlencode(form).encode())
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "application/json"
        return response.code, json.loads(response.body)


@pytest.fixture
def port(issuer, tmp_path):
    port = Port(issuer, tmp_path)
    yield port
    if port.control is not None:
        port.control.close()
    port.engine.dispose()


async def test_a_good_token_gives_a_session_token_that_is_journaled_before_it_is_told(port) -> None:
    port.listen()
    status, answer = await port.exchange(port.token())
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)
    verified = await port.tokens.verify(answer["access_token"], port.live.policy, now=datetime.now(UTC))
    assert [verified.exchanged.jti] == port.journaled


async def test_the_time_it_is_good_for_is_the_policys(port) -> None:
    port.live.policy = replace(port.live.policy, session_ttl=timedelta(minutes=5))
    port.listen()
    assert (await port.exchange(port.token()))[1]["expires_in"] == 300


@pytest.mark.parametrize(
    ("claims", "status", "reason"),
    [
        pytest.param({"repo": "else"}, 403, "unknown-identity", id="nobody"),
        pytest.param({"repo": "off"}, 403, "identity-disabled", id="switched off"),
        pytest.param({"lifetime": -60}, 401, "token-expired", id="expired"),
        pytest.param({"iss": "https://else.example"}, 401, "wrong-issuer", id="another issuer"),
        pytest.param({"sub": None}, 401, "claim-missing", id="no subject"),
    ],
)
async def test_a_token_that_is_nobodys_gives_none_and_that_is_journaled(port, claims, status, reason) -> None:
    port.listen()
    assert (await port.exchange(port.token()))[0] == 200
    refused, answer = await port.exchange(port.token(**claims))
    assert (refused, answer["error"], answer["reason"]) == (status, "invalid_request", reason)
    assert set(answer) == {"error", "error_description", "reason"}
    assert len(port.journaled) == len(port.store.list()) == 1
    assert port.refusals == [(reason, None)]


async def test_a_bad_token_is_challenged_as_http_wants_and_a_bad_request_is_not(port) -> None:
    port.listen()
    form = {"grant_type": GRANT_TYPE, "subject_token": port.token(lifetime=-60), "subject_token_type": JWT}
    response = await port.ask("/token", method="POST", body=urlencode(form).encode())
    assert (response.code, response.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    response = await port.ask("/token", method="POST", body=urlencode(form | {"grant_type": "password"}).encode())
    assert (response.code, "WWW-Authenticate" in response.headers) == (400, False)
    assert port.refusals == [("token-expired", None)]


async def test_no_token_is_told_that_the_journal_does_not_hold(port) -> None:
    port.listen()
    port.journal_works = False
    status, answer = await port.exchange(port.token())
    assert (status, answer["error"], answer["reason"]) == (503, "temporarily_unavailable", "state-unavailable")
    assert "access_token" not in answer


async def test_no_token_is_told_that_the_database_does_not_hold(port) -> None:
    port.listen()
    with port.engine.begin() as connection:
        TOKENS.drop(connection)
    status, answer = await port.exchange(port.token())
    assert (status, answer["error"]) == (503, "temporarily_unavailable")
    assert port.journaled == []


async def test_a_token_that_counts_once_counts_once_and_is_not_spent_for_nothing(port) -> None:
    once = {"ci": replace(port.live.policy.issuers["ci"], one_time=True)}
    port.live.policy = replace(port.live.policy, issuers=once)
    port.listen()
    token = port.token()
    assert (await port.exchange(token, audience="https://else.example"))[1]["error"] == "invalid_target"
    assert (await port.exchange(token))[0] == 200
    status, answer = await port.exchange(token)
    assert (status, answer["error"], answer["reason"]) == (401, "invalid_request", "token-replayed")
    assert port.refusals == [("token-replayed", "bot")]
    assert (await port.exchange(port.token()))[0] == 200


async def test_without_saml_an_assertion_is_an_unsupported_type(port) -> None:
    port.listen()
    status, answer = await port.exchange("PGEvPg", subject_token_type=SAML2)
    assert (status, answer["error"], answer["reason"]) == (400, "unsupported_token_type", "unsupported-token-type")


async def test_with_saml_an_assertion_gives_a_session_token(port) -> None:
    idp = IssuerSpec("idp", "urn:idp", (), saml=object())  # a stand-in's: it is not looked into here
    port.live.policy = replace(port.live.policy, issuers=port.live.policy.issuers | {"idp": idp})
    port.listen(with_saml=True)
    status, answer = await port.exchange(encoded(b"<good/>"), subject_token_type=SAML2)
    assert status == 200
    verified = await port.tokens.verify(answer["access_token"], port.live.policy, now=datetime.now(UTC))
    assert (verified.subject, port.assertions) == ("saml", [b"<good/>"])
    assert (await port.exchange(encoded(b"<bad/>"), subject_token_type=SAML2))[1]["reason"] == "assertion-unsigned"
    status, answer = await port.exchange("<bad/>", subject_token_type=SAML2)
    assert (status, answer["error"], answer["reason"]) == (401, "invalid_request", "token-malformed")


async def test_a_session_token_is_no_reviewers(port) -> None:
    port.listen()
    shown = (await port.exchange(port.token()))[1]["access_token"]
    response = await port.ask("/approvals", Authorization=f"Bearer {shown}")
    assert response.code == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_tokens_are_posted_for(port, method) -> None:
    port.listen()
    body = b"x" if method == "PUT" else None
    response = await port.ask("/token", method=method, body=body)
    assert response.code == 405
    assert json.loads(response.body)["error"] == "invalid_request"


async def test_the_keys_are_public(port) -> None:
    port.listen()
    await port.exchange(port.token())
    response = await port.ask("/.well-known/jwks.json")
    (key,) = json.loads(response.body)["keys"]
    assert (response.code, key["alg"], key["use"], "d" in key) == (200, "ES256", "sig", False)


async def test_a_description_holds_only_what_oauth_lets_it(port) -> None:
    port.listen()
    form = urlencode({"grant_type": GRANT_TYPE, "subject_token": 'é"\\\n', "subject_token_type": '"\\é'}).encode()
    response = await port.ask("/token", method="POST", body=form)
    described = json.loads(response.body)["error_description"]
    assert not set(described) & set('"\\')
    assert described.isascii()
    assert described.isprintable()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
