"""A session token is never more than the token it was exchanged for, and can be taken back."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from coatcheck.errors import Refusal
from coatcheck.identity.caller import Caller, Exchanged, Verified
from coatcheck.identity.jose import SESSION_TYPE
from coatcheck.identity.match import match_identity
from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tables import CHANGES, KEYS, TOKENS
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.signing_keys import ROTATE_AFTER
from coatcheck.policy.model import Identity, IssuerSpec, Policy, SamlTrust
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer

AUDIENCE = "https://gateway.acme.dev"
NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
ISSUER = "https://idp.acme.dev"
POLICY = Policy(
    AUDIENCE,
    "p" * 64,
    (),
    issuers={"corp": IssuerSpec("corp", ISSUER, ("ES256",), groups_claim="roles")},
    identities={"bot": Identity("bot", "corp", {"repo": "acme/shop"}, groups=frozenset({"ci"}))},
)
CLAIMS = {"repo": "acme/shop", "roles": ["deploy"], "run_id": "77", "actor": "jane"}


def caller(**claims: object) -> Caller:
    verified = Verified("corp", "repo:acme/shop", CLAIMS | claims, "d" * 32, NOW + timedelta(minutes=5))
    return match_identity(POLICY.identities, POLICY.issuers, verified, now=NOW)


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine) -> SessionStore:
    return SessionStore(engine)


@pytest.fixture
def open_tokens(store):
    """Session tokens of a gateway on the store, as after a start."""
    return lambda key=b"k" * 32, vault="v" * 32: SessionTokens(store, Sealer(key), vault)


@pytest.fixture
def tokens(open_tokens) -> SessionTokens:
    return open_tokens()


@pytest.mark.parametrize("restarted", [False, True], ids=["the one that issued it", "another"])
async def test_it_stands_for_the_same_claims_groups_and_identity(tokens, open_tokens, restarted) -> None:
    token, issued = tokens.issue(caller(), POLICY, now=NOW)
    verified = await (open_tokens() if restarted else tokens).verify(token, POLICY, now=NOW)
    assert verified.exchanged == Exchanged(issued.jti, "bot")
    again = match_identity(POLICY.identities, POLICY.issuers, verified, now=NOW)
    assert replace(again, exchanged=None, expires_at=caller().expires_at) == caller()
    assert verified.expires_at == datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


async def test_where_one_provider_is_an_issuer_of_tokens_and_of_assertions_it_goes_back_to_its_identitys(
    tokens,
) -> None:
    saml = replace(POLICY.issuers["corp"], name="by-saml", algorithms=(), saml=SamlTrust((b"",)))
    bots = {name: replace(POLICY.identities["bot"], name=name, issuer=name) for name in ("corp", "by-saml")}
    policy = replace(POLICY, issuers={"corp": POLICY.issuers["corp"], "by-saml": saml}, identities=bots)
    for name in bots:
        first = Verified(name, "s", CLAIMS, "d" * 32, NOW + timedelta(minutes=5))
        shown = match_identity(policy.identities, policy.issuers, first, now=NOW)
        token, _ = tokens.issue(shown, policy, now=NOW)
        again = await tokens.verify(token, policy, now=NOW)
        assert (again.issuer, match_identity(policy.identities, policy.issuers, again, now=NOW).name) == (name, name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8,
), max_size=5))  # fmt: skip
def test_any_claims_come_back_as_they_were(open_tokens, claims) -> None:
    try:
        json.dumps(claims, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # such claims were refused with the first token
    tokens = open_tokens()
    token, _ = tokens.issue(caller(more=claims), POLICY, now=NOW)
    verified = asyncio.run(open_tokens().verify(token, POLICY, now=NOW))
    assert verified.claims["more"] == claims


def test_it_says_whose_it_is_and_which_run(tokens) -> None:
    token, issued = tokens.issue(caller(nested={"run_id": 1}, **{"kubernetes.io": {"pod": "x"}}), POLICY, now=NOW)
    assert jwt.get_unverified_header(token)["typ"] == "coatcheck-session+jwt"
    assert jwt.decode(token, options={"verify_signature": False}) == {
        "iss": f"urn:coatcheck:gateway:{'v' * 32}",
        "aud": AUDIENCE,
        "sub": "bot",
        "jti": issued.jti,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
        "origin": {
            "iss": ISSUER,
            "sub": "repo:acme/shop",
            "token_id": "d" * 32,
            "run": {"run_id": "77", "actor": "jane"},
        },
    }


def test_a_session_token_is_not_exchanged_again(tokens) -> None:
    with pytest.raises(Refusal, match="token-exchanged"):
        tokens.issue(replace(caller(), exchanged=Exchanged("x", "bot")), POLICY, now=NOW)


@pytest.mark.parametrize(
    ("seconds", "ttl", "reason"),
    [
        pytest.param(3599, 60, None, id="its last second"),
        pytest.param(3600, 60, "token-expired", id="over"),
        pytest.param(-59, 60, None, id="a clock that is behind"),
        pytest.param(600, 10, "token-expired", id="a policy that gives less now"),
        pytest.param(599, 10, None, id="less, and still good"),
        pytest.param(3600, 120, "token-expired", id="a policy that gives more now"),
    ],
)
async def test_it_is_good_for_the_time_that_was_and_is_given(tokens, seconds, ttl, reason) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW.replace(microsecond=0))
    policy = replace(POLICY, session_ttl=timedelta(minutes=ttl), sha256="q" * 64)
    then = NOW.replace(microsecond=0) + timedelta(seconds=seconds)
    if reason is None:
        assert (await tokens.verify(token, policy, now=then)).subject == "repo:acme/shop"
    else:
        with pytest.raises(Refusal, match=reason):
            await tokens.verify(token, policy, now=then)


# -- forgery ----------------------------------------------------------------------------------------------------------


def forged(token: str, key: object, *, header: dict | None = None, alg: str = "ES256", **claims: object) -> str:
    members = jwt.get_unverified_header(token) | (header or {})
    payload = jwt.decode(token, options={"verify_signature": False}) | claims
    headers = {name: value for name, value in members.items() if value is not None and name != "alg"}
    return jwt.encode(payload, key, algorithm=alg, headers=headers)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        pytest.param({}, "bad-signature", id="another key"),
        pytest.param({"header": {"kid": "x"}}, "unknown-key", id="an unknown key"),
        pytest.param({"header": {"kid": None}}, "algorithm-not-allowed", id="no key named"),
        pytest.param({"header": {"typ": "JWT"}}, "token-malformed", id="another typ"),
        pytest.param({"header": {"typ": "COATCHECK-SESSION+JWT"}}, "algorithm-not-allowed", id="another spelling"),
        pytest.param({"aud": "https://else.example"}, "wrong-audience", id="another audience"),
        pytest.param({"iss": "urn:coatcheck:gateway:other"}, "wrong-issuer", id="another gateway"),
        pytest.param({"alg": "HS256"}, "algorithm-not-allowed", id="a shared secret"),
        pytest.param({"alg": "none"}, "token-malformed", id="no signature"),
    ],
)
async def test_what_this_gateway_did_not_sign_is_refused(tokens, how, reason) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    assert await tokens.verify(token, POLICY, now=NOW)
    key: object = ec.generate_private_key(ec.SECP256R1())
    key = {"HS256": "s" * 32, "none": None}.get(how.get("alg"), key)
    with pytest.raises(Refusal, match=reason):
        await tokens.verify(forged(token, key, **how), POLICY, now=NOW)


async def test_its_claims_cannot_be_changed_under_its_signature(tokens) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    header, _, signature = token.split(".")
    payload = forged(token, ec.generate_private_key(ec.SECP256R1()), sub="admin").split(".")[1]
    with pytest.raises(Refusal, match="bad-signature"):
        await tokens.verify(f"{header}.{payload}.{signature}", POLICY, now=NOW)


async def test_of_another_vault_it_is_nothing(tokens, open_tokens) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    with pytest.raises(Refusal, match="wrong-issuer"):
        await open_tokens(vault="w" * 32).verify(token, POLICY, now=NOW)


async def test_under_another_master_key_no_key_opens(tokens, open_tokens) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    with pytest.raises(Refusal, match="unknown-key"):
        await open_tokens(key=b"x" * 32).verify(token, POLICY, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "admin"},
        {"issuer": "https://else.example"},
        {"subject": "else"},
        {"token_id": "e" * 32},
        {"expires_at": 2**40},
        {"issued_at": 2**40},
        {"claims": b"{}"},
        {"wrapped_key": b"x" * 60},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_row_that_was_changed_is_refused(tokens, engine, change) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    assert await tokens.verify(token, POLICY, now=NOW)
    with engine.begin() as connection:
        connection.execute(update(TOKENS).values(change))
    tokens.forget()
    with pytest.raises(Refusal, match="unknown-token"):
        await tokens.verify(token, POLICY, now=NOW)


async def test_two_rows_cannot_change_places(tokens, engine, store) -> None:
    token, issued = tokens.issue(caller(), POLICY, now=NOW)
    _, other = tokens.issue(caller(roles=["admin"]), POLICY, now=NOW)
    with engine.begin() as connection:
        connection.execute(delete(TOKENS).where(TOKENS.c.jti == issued.jti))
        connection.execute(update(TOKENS).values(jti=issued.jti).where(TOKENS.c.jti == other.jti))
    with pytest.raises(Refusal, match="unknown-token"):
        await tokens.verify(token, POLICY, now=NOW)


async def test_a_key_that_was_put_into_the_database_signs_nothing(tokens, open_tokens, engine) -> None:
    """Sealing a key needs the vault's own: whoever writes the database cannot make one that counts."""
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    thief = SessionTokens(tokens._store, Sealer(b"t" * 32), "v" * 32)
    thief.keys.current(now=NOW)
    (kid,) = (key["kid"] for key in thief.keys.jwks()["keys"])
    mine = thief.keys.find(kid).private
    with pytest.raises(Refusal, match="unknown-key"):
        await open_tokens().verify(forged(token, mine, header={"kid": kid}), POLICY, now=NOW)


# -- revocation -------------------------------------------------------------------------------------------------------


async def test_a_revoked_token_is_refused_once_it_is_looked_up_anew(tokens, store) -> None:
    (token, issued), (other, _) = (tokens.issue(caller(), POLICY, now=NOW) for _ in range(2))
    assert await tokens.verify(token, POLICY, now=NOW)
    store.revoke(jti=issued.jti, now=NOW)
    tokens.forget()
    for ask in (tokens.verify(token, POLICY, now=NOW), tokens.renew(issued.jti, POLICY, now=NOW)):
        with pytest.raises(Refusal, match="token-revoked"):
            await ask
    assert await tokens.verify(other, POLICY, now=NOW)


async def test_what_is_looked_up_while_it_is_revoked_is_not_remembered(tokens, store, monkeypatch) -> None:
    token, issued = tokens.issue(caller(), POLICY, now=NOW)
    find = store.find

    def find_slowly(jti: str):
        found = find(jti)
        store.revoke(jti=jti, now=NOW)
        tokens.forget()
        return found

    monkeypatch.setattr(store, "find", find_slowly)
    await tokens.verify(token, POLICY, now=NOW)
    monkeypatch.setattr(store, "find", find)
    with pytest.raises(Refusal, match="token-revoked"):
        await tokens.renew(issued.jti, POLICY, now=NOW)


async def test_while_the_database_fails_none_is_good_and_then_they_are_again(tokens, store, engine) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    problems: dict[str, str] = {}
    watch = asyncio.create_task(tokens.watch(problems, noted([]), nothing))
    assert await tokens.verify(token, POLICY, now=NOW)
    with engine.begin() as connection:
        CHANGES.drop(connection)
        connection.exec_driver_sql("ALTER TABLE session_tokens RENAME TO gone")
    await until(lambda: "session-tokens" in problems)
    with pytest.raises(Refusal, match="state-unavailable") as caught:
        await tokens.verify(token, POLICY, now=NOW)
    assert caught.value.status == 503
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO session_tokens")
    SessionStore(engine)
    await until(lambda: "session-tokens" not in problems)
    assert await tokens.verify(token, POLICY, now=NOW)
    watch.cancel()


async def test_nothing_is_remembered_while_nobody_watches(store, monkeypatch) -> None:
    seconds = 1000.0
    tokens = SessionTokens(store, Sealer(b"k" * 32), "v" * 32, clock=lambda: seconds)
    token, issued = tokens.issue(caller(), POLICY, now=NOW)
    asked: list[str] = []
    find = store.find
    monkeypatch.setattr(store, "find", lambda jti: asked.append(jti) or find(jti))
    watch = asyncio.create_task(tokens.watch({}, noted([]), nothing))
    await until(lambda: tokens._watched_at == seconds)
    for _ in range(3):
        await tokens.verify(token, POLICY, now=NOW)
    assert asked == [issued.jti]
    watch.cancel()
    seconds += 5
    store.revoke(jti=issued.jti, now=NOW)
    with pytest.raises(Refusal, match="token-revoked"):
        await tokens.verify(token, POLICY, now=NOW)


async def test_each_revocation_is_noted_once(tokens, open_tokens, store) -> None:
    issued = [tokens.issue(caller(), POLICY, now=NOW)[1] for _ in range(3)]
    told: list[str] = []
    watches = [asyncio.create_task(open_tokens().watch({}, noted(told), nothing))]
    store.revoke(jti=issued[0].jti, now=NOW)
    await until(lambda: len(told) == 1)
    store.revoke_all(identity="bot", now=NOW)
    await until(lambda: len(told) == 3)
    await until(lambda: not store.unjournaled())
    later = open_tokens()
    before = later._watched_at
    watches.append(asyncio.create_task(later.watch({}, noted(told), nothing)))
    await until(lambda: later._watched_at != before)
    assert sorted(told) == sorted(each.jti for each in issued)
    for watch in watches:
        watch.cancel()


async def test_a_key_that_another_gateway_made_is_found(tokens, open_tokens, engine) -> None:
    token, _ = tokens.issue(caller(), POLICY, now=NOW)
    other = open_tokens()
    assert await other.verify(token, POLICY, now=NOW)
    with engine.begin() as connection:
        connection.execute(delete(KEYS))
    other.keys.load()
    with pytest.raises(Refusal, match="unknown-key"):
        await other._look_again("x")


async def test_no_good_token_is_refused_while_a_key_is_replaced(store) -> None:
    """At the gateway that replaces it and at another, where somebody keeps asking for keys that do not exist."""
    one, other = (SessionTokens(store, Sealer(b"k" * 32), "v" * 32, clock=lambda: 0.0) for _ in range(2))
    one.issue(caller(), POLICY, now=NOW)
    header = {"kid": "x", "typ": SESSION_TYPE}
    unknown = jwt.encode({"iss": one.issuer, "aud": AUDIENCE}, ec.generate_private_key(ec.SECP256R1()), "ES256", header)
    tokens: list[str] = []
    kids = set()
    for minutes in range(-30, 120, 10):
        at = NOW + ROTATE_AFTER + timedelta(minutes=minutes)
        other.keys.load()  # as its watch does, some time after the step before and before the next
        tokens = [*tokens[-5:], one.issue(caller(), POLICY, now=at)[0]]
        kids.add(jwt.get_unverified_header(tokens[-1])["kid"])
        for gateway in (one, other):
            with pytest.raises(Refusal, match="unknown-key"):
                await gateway.verify(unknown, POLICY, now=at)
            for token in tokens:
                assert (await gateway.verify(token, POLICY, now=at)).exchanged is not None
            gateway.forget()
    assert len(kids) == 2


async def nothing() -> None:
    """Nothing is under way."""


def noted(told: list[str]):
    async def note(issued) -> None:
        told.append(issued.jti)

    return note


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.01)
