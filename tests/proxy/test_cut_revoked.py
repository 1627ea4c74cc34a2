"""Of a revoked token no tunnel and no stream goes on; everybody else's does."""

from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

import pytest
from mitmproxy.test import tflow

from coatcheck.exchange import Exchange, ExchangeId, Tunnel
from coatcheck.identity.caller import Caller, Verified
from coatcheck.identity.session_store import SessionStore
from coatcheck.identity.session_tables import TOKENS
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.live import Live
from coatcheck.policy.model import IssuerSpec, Policy
from coatcheck.proxy.cut_revoked import CutRevoked
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer

POLICY = Policy("urn:test:gw", "p" * 64, (), issuers={"ci": IssuerSpec("ci", "https://ci.example", ("ES256",))})
FIRST = Caller("bot", "ci", "sub", "d" * 32, datetime.now(UTC) + timedelta(minutes=5))


class Scene:
    """Session tokens with what they began; `cut` is whose connections were ended."""

    def __init__(self, folder) -> None:
        state = StateDirectory(folder / "state")
        state.create()
        self.engine = state.open_database()
        self.store = SessionStore(self.engine)
        self.sessions = SessionTokens(self.store, Sealer(b"k" * 32), "v" * 32)
        self.exchanges, self.tunnels, self.cut = WeakKeyDictionary(), WeakKeyDictionary(), []
        live = Live(POLICY, None, None)
        self.cut_revoked = CutRevoked(live, self.exchanges, self.tunnels, self.sessions, self.cut.append)

    async def verified(self, *, issued: datetime | None = None) -> Verified:
        now = issued or datetime.now(UTC)
        token, _ = self.sessions.issue(FIRST, POLICY, now=now)
        return await self.sessions.verify(token, POLICY, now=now)

    def streams(self, verified: Verified, **changes: object):
        """A flow whose answer streams to the caller."""
        flow = tflow.tflow()
        exchange = self.exchanges[flow] = Exchange(ExchangeId("x"), POLICY, 0.0)
        exchange.streaming = True
        exchange.caller = Caller("bot", "ci", "sub", "d" * 32, verified.expires_at, exchanged=verified.exchanged)
        for name, value in changes.items():
            setattr(exchange, name, value)
        return flow

    def relays(self, verified: Verified):
        """A client connection that is relayed unopened."""
        client = tflow.tclient_conn()
        exchange = Exchange(ExchangeId("x"), POLICY, 0.0)
        self.tunnels[client] = Tunnel("shop.test", 443, verified=verified, exchange=exchange)
        return client

    async def revoke_and_run(self, *revoked: Verified) -> None:
        for verified in revoked:
            self.store.revoke(jti=verified.exchanged.jti, now=datetime.now(UTC))
        self.sessions.forget()
        await self.cut_revoked.run()


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    scene.engine.dispose()


async def test_streams_and_relayed_tunnels_of_a_revoked_token_are_cut_and_others_are_not(scene) -> None:
    taken, kept = await scene.verified(), await scene.verified()
    ours = [scene.relays(taken), (stream := scene.streams(taken)).client_conn]
    others = [scene.relays(kept), (other := scene.streams(kept)).client_conn]
    await scene.revoke_and_run(taken)
    assert scene.cut == ours
    assert not set(map(id, scene.cut)) & set(map(id, others))
    assert stream is not other


@pytest.mark.parametrize("changes", [{"finished": True}, {"streaming": False}], ids=["over", "not a stream"])
async def test_what_is_over_or_about_to_be_is_left_alone(scene, changes) -> None:
    taken = await scene.verified()
    flow = scene.streams(taken, **changes)
    await scene.revoke_and_run(taken)
    assert scene.cut == []
    assert flow in scene.exchanges


async def test_what_a_platforms_own_token_began_goes_on(scene) -> None:
    taken = await scene.verified()
    flow = scene.streams(taken, caller=FIRST)
    client = scene.relays(Verified("ci", "sub", {}, "d" * 32, FIRST.expires_at))
    await scene.revoke_and_run(taken)
    assert scene.cut == []
    assert (flow in scene.exchanges, client in scene.tunnels) == (True, True)


async def test_a_stream_may_outlive_its_token_and_a_database_that_fails(scene) -> None:
    flow = scene.streams(await scene.verified(issued=datetime.now(UTC) - timedelta(hours=2)))
    await scene.revoke_and_run()
    with scene.engine.begin() as connection:
        TOKENS.drop(connection)
    await scene.revoke_and_run()
    assert scene.cut == []
    assert flow in scene.exchanges
