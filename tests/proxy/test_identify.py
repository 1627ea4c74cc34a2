"""The caller is found anew for every request, and its token is taken off before anything else can see it."""

import base64
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from weakref import WeakKeyDictionary

import pytest
from mitmproxy.proxy.mode_specs import ProxyMode

from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, ExchangeId, Tunnel
from coatcheck.identity.keys import KeySource
from coatcheck.identity.match import match_identity
from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.identity.verify import Verifier
from coatcheck.live import Live
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.model import Identity, IssuerSpec, Policy, Rule, RuleId
from coatcheck.proxy.identify import Identify
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer
from story.issuer import Issuer

AUDIENCE = "https://gateway.shop.example"


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def live(issuer) -> Live:
    issuers = {"ci": IssuerSpec("ci", issuer.url, ("ES256",))}
    identities = {
        "reader": Identity("reader", "ci", {"role": "reader"}),
        "writer": Identity("writer", "ci", {"role": "writer"}),
    }
    policy = Policy(AUDIENCE, "p" * 64, (), issuers=issuers, identities=identities)
    return Live(policy, Verifier(issuers, AUDIENCE, KeySource()), None)


@pytest.fixture
def tunnels():
    return WeakKeyDictionary()


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine) -> SessionTokens:
    return SessionTokens(SessionStore(engine), Sealer(b"k" * 32), "v" * 32)


@pytest.fixture
def identify(live, exchanges, tunnels, sessions) -> Identify:
    return Identify(live, exchanges, tunnels, sessions)


@pytest.fixture
def token(issuer):
    return lambda **claims: issuer.token(audience=AUDIENCE, **({"role": "reader"} | claims))


@pytest.fixture
def arrives(flow, exchanges, live):
    """The flow as the guard leaves it, with these headers."""

    def arrives(**headers: str):
        flow.request.headers.clear()
        exchange = Exchange(ExchangeId("x"), live.policy, 0.0)
        for name, value in {"Host": "shop.test", **headers}.items():
            flow.request.headers[name.replace("_", "-")] = value
            exchange.headers[name.replace("_", "-").lower()] = value
        exchanges[flow] = exchange
        return exchange

    return arrives


def basic(token: str, user: str = "ci") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def left_of(flow) -> str:
    """Everything of the flow's head and of what is kept beside it."""
    return repr(flow.request.headers.fields)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda t: {"Proxy_Authorization": basic(t)}, id="basic"),
        pytest.param(lambda t: {"Proxy_Authorization": f"Bearer {t}"}, id="bearer"),
        pytest.param(lambda t: {"Authorization": f"Bearer {t}"}, id="authorization"),
        pytest.param(lambda t: {"Proxy_Authorization": basic(t), "Authorization": f"Bearer {t}"}, id="both"),
    ],
)
async def test_a_good_token_gives_a_caller_and_is_taken_off(identify, arrives, flow, token, headers) -> None:
    shown = token()
    exchange = arrives(**headers(shown))
    await identify.requestheaders(flow)
    assert exchange.caller.name == "reader"
    assert flow.request.headers.fields == ((b"Host", b"shop.test"),)
    assert set(exchange.headers) == {"host"}
    assert shown not in repr(exchange.caller)


async def test_an_authorization_that_is_the_servers_business_is_left_alone(identify, arrives, flow, token) -> None:
    exchange = arrives(Proxy_Authorization=basic(token()), Authorization="Bearer coat_placeholder")
    await identify.requestheaders(flow)
    assert flow.request.headers["authorization"] == "Bearer coat_placeholder"
    assert exchange.caller.name == "reader"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param(lambda t: {"Proxy_Authorization": basic("garbage")}, "token-malformed", id="garbage"),
        pytest.param(lambda t: {"Proxy_Authorization": basic(t(lifetime=-60))}, "token-expired", id="expired"),
        pytest.param(lambda t: {"Authorization": f"Bearer {t(lifetime=-60)}"}, "token-expired", id="expired, inside"),
        pytest.param(
            lambda t: {"Proxy_Authorization": basic(t()), "Authorization": f"Bearer {t()}"}, "two-tokens", id="two"
        ),
        pytest.param(lambda t: {"Proxy_Authorization": f"Basic {t()}"}, "token-malformed", id="not base64"),
        pytest.param(lambda t: {"Authorization": f"Bearer {t()},x"}, "two-tokens", id="a list"),
        pytest.param(lambda t: {"Proxy_Authorization": basic(t(role="none"))}, "unknown-identity", id="nobody"),
    ],
)
async def test_a_bad_token_is_refused_and_taken_off_all_the_same(
    identify, arrives, flow, token, headers, reason
) -> None:
    shown = headers(token)
    exchange = arrives(**shown)
    with pytest.raises(Refusal) as caught:
        await identify.requestheaders(flow)
    assert caught.value.reason == reason
    assert exchange.caller is None
    assert flow.request.headers.fields == ((b"Host", b"shop.test"),)
    assert all(value.split()[-1] not in caught.value.message for value in shown.values())


async def test_a_token_is_taken_off_where_the_guard_refused_before(identify, arrives, flow, token) -> None:
    exchange = arrives(Proxy_Authorization=basic(token()), Authorization=f"Bearer {token()}")
    exchange.headers = {}  # the guard raised before it had read them
    with pytest.raises(Refusal):
        await identify.requestheaders(flow)
    assert flow.request.headers.fields == ((b"Host", b"shop.test"),)


async def test_a_token_under_a_spelling_that_the_guard_refuses_is_taken_off(identify, arrives, flow, token) -> None:
    """Headers with `_` for `-` are refused as twins; mitmweb shows what was refused."""
    shown = token()
    exchange = arrives()
    exchange.headers = {}
    flow.request.headers["Proxy_Authorization"] = basic(shown)
    with pytest.raises(Refusal):
        await identify.requestheaders(flow)
    assert basic(shown) not in left_of(flow)


async def test_the_caller_is_found_anew_for_every_request(identify, arrives, flow, token) -> None:
    for role in ("reader", "writer", "reader"):
        exchange = arrives(Proxy_Authorization=basic(token(role=role)))
        await identify.requestheaders(flow)
        assert exchange.caller.name == role


async def test_the_claims_that_conditions_name_are_kept_for_the_journal(identify, arrives, flow, token, live) -> None:
    when = compile_condition('caller.claims.run_id == "7" && args.x == caller.claims.job.stage')
    rule = Rule(RuleId("r"), ("any",), "shop", "allow", "p:1:1", tools=("*",), when=when)
    live.policy = replace(live.policy, sha256="q" * 64, rules=(rule,))
    exchange = arrives(Proxy_Authorization=basic(token(run_id="7", job={"stage": "w", "more": 1}, other="x")))
    await identify.requestheaders(flow)
    assert exchange.caller.named == {"role": "reader", "run_id": "7", "job.stage": "w"}


async def test_two_tokens_with_one_jti_are_each_their_own_caller(identify, arrives, flow, token) -> None:
    """What an issuer writes into `jti` must not decide who is calling."""
    for role in ("reader", "writer"):
        exchange = arrives(Proxy_Authorization=basic(token(role=role, jti="the same")))
        await identify.requestheaders(flow)
        assert exchange.caller.name == role


async def test_a_caller_expires_with_the_token_it_showed(identify, arrives, flow, token) -> None:
    ends = []
    for lifetime in (100, 300):
        exchange = arrives(Proxy_Authorization=basic(token(lifetime=lifetime, jti="renewed")))
        await identify.requestheaders(flow)
        ends.append(exchange.caller.expires_at)
    assert ends[1] - ends[0] >= timedelta(seconds=199)


async def test_a_change_of_the_policy_counts_at_once(identify, arrives, flow, token, live) -> None:
    shown = token()
    arrives(Proxy_Authorization=basic(shown))
    await identify.requestheaders(flow)
    identities = {"reader": Identity("reader", "ci", {"role": "reader"}, disabled=True)}
    live.policy = Policy(AUDIENCE, "q" * 64, (), issuers=live.policy.issuers, identities=identities)
    arrives(Proxy_Authorization=basic(shown))
    with pytest.raises(Refusal, match="identity-disabled"):
        await identify.requestheaders(flow)


# -- tunnels ----------------------------------------------------------------------------------------------------------


async def test_connect_without_a_token_is_407(identify, arrives, flow, tunnels) -> None:
    arrives()
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    with pytest.raises(Refusal) as caught:
        await identify.http_connect(flow)
    assert (caught.value.reason, caught.value.status) == ("token-missing", 407)


async def test_a_tunnels_token_counts_for_what_is_asked_in_it(identify, arrives, flow, token, tunnels) -> None:
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    assert not flow.request.headers.get("proxy-authorization")
    exchange = arrives()
    await identify.requestheaders(flow)
    assert exchange.caller.name == "reader"


async def test_a_token_inside_wins_over_the_tunnels(identify, arrives, flow, token, tunnels) -> None:
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    exchange = arrives(Authorization=f"Bearer {token(role='writer')}")
    await identify.requestheaders(flow)
    assert exchange.caller.name == "writer"


async def test_a_bad_token_at_connect_is_told_inside(identify, arrives, flow, token, tunnels) -> None:
    tunnels[flow.client_conn] = tunnel = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token(lifetime=-60)))
    await identify.http_connect(flow)
    assert flow.response is None
    assert tunnel.refusal.reason == "token-expired"
    arrives()
    with pytest.raises(Refusal, match="token-expired"):
        await identify.requestheaders(flow)


async def test_a_tunnel_does_not_outlive_its_token(identify, arrives, flow, token, tunnels) -> None:
    tunnels[flow.client_conn] = tunnel = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    verified = tunnel.verified
    tunnel.verified = type(verified)(
        verified.issuer, verified.subject, verified.claims, verified.token_id, datetime.now(UTC) - timedelta(seconds=1)
    )
    arrives()
    with pytest.raises(Refusal, match="token-expired"):
        await identify.requestheaders(flow)


async def test_a_tunnel_goes_on_under_a_policy_that_verifies_its_token_alike(
    identify, arrives, flow, token, tunnels, live
) -> None:
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    identities = {"robot": Identity("robot", "ci", {"role": "reader"})}
    live.policy = replace(live.policy, sha256="q" * 64, identities=identities)
    exchange = arrives()
    await identify.requestheaders(flow)
    assert exchange.caller.name == "robot"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, issuers={"ci": replace(p.issuers["ci"], issuer="https://another.test")}),
        lambda p: replace(p, issuers={"ci": replace(p.issuers["ci"], algorithms=("RS256",))}),
        lambda p: replace(p, issuers={}),
        lambda p: replace(p, audience="https://another.gateway.example"),
    ],
    ids=["issuer", "algorithms", "no-issuer", "audience"],
)
async def test_a_tunnel_does_not_outlive_what_its_token_was_verified_by(
    identify, arrives, flow, token, tunnels, live, change
) -> None:
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    live.policy = change(replace(live.policy, sha256="q" * 64))
    arrives()
    with pytest.raises(Refusal, match="policy-changed"):
        await identify.requestheaders(flow)


async def test_no_token_is_verified_for_a_policy_that_was_replaced_meanwhile(
    identify, arrives, flow, token, live
) -> None:
    arrives(Authorization=f"Bearer {token()}")
    live.policy = replace(live.policy, sha256="q" * 64)
    with pytest.raises(Refusal, match="policy-changed"):
        await identify.requestheaders(flow)


@pytest.mark.parametrize(
    ("mode", "path", "status"),
    [
        pytest.param("regular", "/mcp", 407, id="at the proxy"),
        pytest.param("reverse:http://shop.test", "/mcp", 401, id="at a gateway URL"),
        pytest.param("reverse:http://shop.test", "/.well-known/oauth-protected-resource", 404, id="discovery"),
    ],
)
async def test_no_token_is_told_in_the_terms_of_its_place(identify, arrives, flow, mode, path, status) -> None:
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    flow.request.path = path
    arrives()
    with pytest.raises(Refusal) as caught:
        await identify.requestheaders(flow)
    assert caught.value.status == status


async def test_another_connections_tunnel_does_not_count(identify, arrives, flow, token, tunnels) -> None:
    from mitmproxy.test import tflow

    other = tflow.tclient_conn()
    tunnels[other] = Tunnel("shop.test", 443)
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    arrives(Proxy_Authorization=basic(token()))
    await identify.http_connect(flow)
    flow.client_conn = other
    arrives()
    with pytest.raises(Refusal, match="token-missing"):
        await identify.requestheaders(flow)


async def test_what_was_refused_already_gets_no_caller_and_still_loses_its_token(
    identify, arrives, flow, token
) -> None:
    from coatcheck.proxy.answer import answer

    exchange = arrives(Proxy_Authorization=basic(token()))
    flow.response = answer(Refusal("bad-host", "x"))
    await identify.requestheaders(flow)
    assert exchange.caller is None
    assert flow.request.headers.fields == ((b"Host", b"shop.test"),)
    assert json.loads(flow.response.content)["error"]["data"]["reason"] == "bad-host"


# -- session tokens ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def session_token(live, sessions, token):
    """A session token of the caller whose token has these claims, and its id."""

    async def session_token(**claims: str) -> tuple[str, str]:
        now = datetime.now(UTC)
        verified = await live.verifier.verify(token(**claims), now=now)
        caller = match_identity(live.policy.identities, live.policy.issuers, verified, now=now)
        shown, issued = sessions.issue(caller, live.policy, now=now)
        return shown, issued.jti

    return session_token


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda t: {"Proxy_Authorization": basic(t)}, id="basic"),
        pytest.param(lambda t: {"Proxy_Authorization": f"Bearer {t}"}, id="bearer"),
        pytest.param(lambda t: {"Authorization": f"Bearer {t}"}, id="authorization"),
        pytest.param(lambda t: {"Proxy_Authorization": basic(t), "Authorization": f"Bearer {t}"}, id="both"),
    ],
)
async def test_a_session_token_is_taken_in_either_place_and_taken_off(
    identify, arrives, flow, session_token, headers
) -> None:
    shown, jti = await session_token()
    exchange = arrives(**headers(shown))
    await identify.requestheaders(flow)
    assert (exchange.caller.name, exchange.caller.exchanged.jti) == ("reader", jti)
    assert flow.request.headers.fields == ((b"Host", b"shop.test"),)
    assert shown not in repr(exchange)


async def test_a_session_token_beside_another_token_is_two(identify, arrives, flow, session_token, token) -> None:
    shown, _ = await session_token()
    for other in (token(), (await session_token())[0]):
        arrives(Proxy_Authorization=basic(shown), Authorization=f"Bearer {other}")
        with pytest.raises(Refusal, match="two-tokens"):
            await identify.requestheaders(flow)
        assert flow.request.headers.fields == ((b"Host", b"shop.test"),)


async def test_the_caller_of_a_session_token_has_the_claims_and_groups_of_the_first(
    identify, arrives, flow, session_token, live
) -> None:
    shown, _ = await session_token(run_id="77", repository="acme/shop")
    exchange = arrives(Authorization=f"Bearer {shown}")
    await identify.requestheaders(flow)
    assert (exchange.caller.claims["run_id"], exchange.caller.claims["repository"]) == ("77", "acme/shop")
    assert (exchange.caller.issuer, exchange.caller.subject) == ("ci", "repo:acme/shop:ref:refs/heads/main")


async def test_a_tunnels_session_token_is_asked_after_for_every_request(
    identify, arrives, flow, session_token, tunnels, sessions, engine
) -> None:
    tunnels[flow.client_conn] = Tunnel("shop.test", 443)
    shown, jti = await session_token()
    arrives(Proxy_Authorization=basic(shown))
    await identify.http_connect(flow)
    exchange = arrives()
    await identify.requestheaders(flow)
    assert exchange.caller.name == "reader"
    SessionStore(engine).revoke(jti=jti, now=datetime.now(UTC))
    sessions.forget()
    arrives()
    with pytest.raises(Refusal, match="token-revoked"):
        await identify.requestheaders(flow)


@pytest.mark.parametrize("change", ["taken out", "disabled", "expired", "other claims", "another's claims now"])
async def test_the_present_policy_decides_about_a_session_token(
    identify, arrives, flow, session_token, live, change
) -> None:
    shown, _ = await session_token()
    arrives(Authorization=f"Bearer {shown}")
    await identify.requestheaders(flow)
    reader = Identity("reader", "ci", {"role": "reader"})
    identities, reason = {
        "taken out": ({}, "unknown-identity"),
        "disabled": ({"reader": replace(reader, disabled=True)}, "identity-disabled"),
        "expired": ({"reader": replace(reader, expires=date(2020, 1, 1))}, "identity-expired"),
        "other claims": ({"reader": replace(reader, claims={"role": "nobody"})}, "unknown-identity"),
        "another's claims now": ({"other": replace(reader, name="other")}, "identity-changed"),
    }[change]
    live.policy = Policy(AUDIENCE, "q" * 64, (), issuers=live.policy.issuers, identities=identities)
    arrives(Authorization=f"Bearer {shown}")
    with pytest.raises(Refusal, match=reason):
        await identify.requestheaders(flow)


async def test_a_session_token_dies_with_its_issuer(identify, arrives, flow, session_token, live) -> None:
    shown, _ = await session_token()
    elsewhere = {"ci": IssuerSpec("ci", "https://elsewhere.example", ("ES256",))}
    live.policy = Policy(AUDIENCE, "q" * 64, (), issuers=elsewhere, identities=live.policy.identities)
    arrives(Authorization=f"Bearer {shown}")
    with pytest.raises(Refusal, match="wrong-issuer"):
        await identify.requestheaders(flow)


async def test_a_token_of_a_one_time_issuer_is_for_exchange_alone(
    identify, arrives, flow, session_token, token, live
) -> None:
    once = {"ci": replace(live.policy.issuers["ci"], one_time=True)}
    live.policy = Policy(AUDIENCE, "q" * 64, (), issuers=once, identities=live.policy.identities)
    shown, _ = await session_token()
    exchange = arrives(Proxy_Authorization=basic(shown))
    await identify.requestheaders(flow)
    assert exchange.caller.name == "reader"
    arrives(Proxy_Authorization=basic(token()))
    with pytest.raises(Refusal, match="token-one-time"):
        await identify.requestheaders(flow)


ASTRAY = {
    "a header of its own": lambda t: {"X-Token": t},
    "a cookie": lambda t: {"Cookie": f"a=b; token={t}; c=d"},
    "basic credentials for the server": lambda t: {"Authorization": basic(t)},
    "another scheme": lambda t: {"Authorization": f"Token {t}"},
    "another scheme that begins alike": lambda t: {"Authorization": f"Bearer{t}"},
    "among words": lambda t: {"User-Agent": f"agent ({t})"},
}


@pytest.mark.parametrize("place", ["a tunnel", "its own"])
@pytest.mark.parametrize("name", ASTRAY)
async def test_a_token_of_ours_elsewhere_in_a_head_goes_no_further(
    identify, arrives, flow, token, tunnels, name, place
) -> None:
    shown = token()
    if place == "a tunnel":
        tunnels[flow.client_conn] = Tunnel("shop.test", 443)
        arrives(Proxy_Authorization=basic(shown))
        await identify.http_connect(flow)
    headers = {} if place == "a tunnel" else {"Proxy_Authorization": basic(shown)}
    exchange = arrives(**headers, **ASTRAY[name](shown))
    with pytest.raises(Refusal) as refused:
        await identify.requestheaders(flow)
    assert (refused.value.status, refused.value.reason) == (401, "token-astray")
    assert exchange.caller is None
    assert shown not in left_of(flow) + repr(exchange)
    assert basic(shown) not in left_of(flow) + repr(exchange)
    for other in (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2Vsc2UuZXhhbXBsZSJ9.AA",
        token(aud="https://else.example"),
    ):
        exchange = arrives(**headers, **ASTRAY[name](other))
        await identify.requestheaders(flow)
        assert exchange.caller is not None
        assert other in left_of(flow) or basic(other) in left_of(flow)


async def test_a_token_of_ours_in_a_path_goes_no_further(identify, arrives, flow, token) -> None:
    shown = token()
    for path in (f"/x?access_token={shown}", f"/{shown}/x"):
        arrives(Proxy_Authorization=basic(shown))
        flow.request.path = path
        with pytest.raises(Refusal, match="token-astray"):
            await identify.requestheaders(flow)
        assert shown not in flow.request.path
    arrives(Proxy_Authorization=basic(shown))
    flow.request.path = f"/x?access_token={token(aud='https://else.example')}"
    await identify.requestheaders(flow)
    assert "eyJ" in flow.request.path
