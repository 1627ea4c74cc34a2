"""After a change of the policy, no stream and no relayed tunnel goes on that the new one would deny."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from weakref import WeakKeyDictionary

import pytest
from mitmproxy.test import tflow

from coatcheck.exchange import Exchange, ExchangeId, Tunnel
from coatcheck.identity.caller import Caller
from coatcheck.live import Live
from coatcheck.mcp.call import Call
from coatcheck.mcp.inspect import Inspected
from coatcheck.policy.load import load_policy
from coatcheck.proxy.cut_denied import CutDenied
from coatcheck.proxy.open_tunnel import CONNECT

TEXT = """
coatcheck: 1
gateway: {audience: https://gateway.acme.dev}
issuers:
  ci: {issuer: "https://ci.example", algorithms: [ES256]}
identities:
  bot: {issuer: ci, claims: {sub: bot}}
reviewers:
  sre: {issuer: ci, claims: {sub: anna}}
servers:
  shop: {url: "https://shop.example/mcp"}
  packages: {url: "https://packages.example/", tunnel: true}
rules:
  - {id: watch, who: [bot], server: shop, tools: [watch], effect: allow}
  - {id: relay, who: [bot], server: packages, http: ["CONNECT /"], effect: allow}
"""


class Scene:
    """A stream and a relayed tunnel of one caller; `cut` is what was ended."""

    def __init__(self, folder) -> None:
        self.file = folder / "policy.yaml"
        self.old = self.load(TEXT)
        self.exchanges, self.tunnels, self.cut = WeakKeyDictionary(), WeakKeyDictionary(), []
        later = datetime.now(UTC) + timedelta(minutes=5)
        self.caller = Caller("bot", "ci", "bot", "d" * 32, later, claims={"sub": "bot"})
        self.flow, self.client = tflow.tflow(), tflow.tclient_conn()
        self.stream = self.exchanges[self.flow] = self.exchange("shop", Call("mcp", "tools/call", "watch"))
        self.stream.streaming = True
        relayed = self.exchange("packages", CONNECT)
        self.tunnels[self.client] = Tunnel("packages.example", 443, self.caller.verified, exchange=relayed)

    def load(self, text: str):
        self.file.write_text(text)
        return load_policy(self.file)

    def exchange(self, server: str, call: Call) -> Exchange:
        exchange = Exchange(ExchangeId("x"), self.old, 0.0)
        exchange.caller, exchange.server = self.caller, self.old.servers[server]
        exchange.inspected = Inspected(calls=(call,), body=b"", kind="request", version=None, ids=())
        return exchange

    def run(self, policy) -> tuple[bool, bool]:
        """Whether the stream, and the tunnel, was cut."""
        CutDenied(Live(policy, None, None), self.exchanges, self.tunnels, self.cut.append).run()
        return self.flow.client_conn in self.cut, self.client in self.cut


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("change", "is_cut"),
    [
        pytest.param(("", ""), (False, False), id="nothing"),
        pytest.param(("tools: [watch]", "tools: [other]"), (True, False), id="no-rule-for-the-call"),
        pytest.param(("[watch], effect: allow", "[watch], effect: deny"), (True, False), id="denied"),
        pytest.param(
            ("[watch], effect: allow", "[watch], effect: approve, reviewers: [sre], quorum: 1, expires: 1m"),
            (False, False),
            id="to-be-approved",
        ),
        pytest.param(('"CONNECT /"], effect: allow', '"CONNECT /"], effect: deny'), (False, True), id="no-tunnel"),
        pytest.param(("{sub: bot}}\nreviewers", "{sub: other}}\nreviewers"), (True, True), id="no-identity"),
        pytest.param(("{sub: bot}}\nreviewers", "{sub: bot}, disabled: true}\nreviewers"), (True, True), id="disabled"),
        pytest.param(("https://ci.example", "https://another.example"), (True, True), id="another-issuer"),
    ],
)
def test_what_the_new_policy_denies_is_cut_and_the_rest_goes_on(scene, change, is_cut) -> None:
    new = scene.load(TEXT.replace(*change))
    assert change == ("", "") or TEXT.replace(*change) != TEXT
    assert scene.run(new) == is_cut


def test_a_token_that_became_another_identitys_carries_nothing_on(scene) -> None:
    new = scene.load(TEXT.replace("bot: {issuer", "robot: {issuer").replace("[bot]", "[robot]"))
    assert scene.run(new) == (True, True)


def test_an_identity_that_has_expired_ends_what_it_began(scene) -> None:
    bot = replace(scene.old.identities["bot"], expires=date(2020, 1, 1))
    assert scene.run(replace(scene.old, sha256="q", identities={"bot": bot})) == (True, True)


@pytest.mark.parametrize("change", [{"finished": True}, {"streaming": False}], ids=["over", "not-a-stream"])
def test_what_is_over_or_about_to_be_is_left_alone(scene, change) -> None:
    for name, value in change.items():
        setattr(scene.stream, name, value)
    assert scene.run(scene.load(TEXT.replace("[watch]", "[other]"))) == (False, False)


def test_of_a_gateway_that_only_observes_nothing_is_cut_but_for_its_token(scene) -> None:
    scene.stream.observes = True
    assert scene.run(scene.load(TEXT.replace("[watch]", "[other]"))) == (False, False)
    assert scene.run(scene.load(TEXT.replace("{sub: bot}}\nreviewers", "{sub: other}}\nreviewers")))[0]


@pytest.mark.parametrize("now", ["same", "denies", "allows"])
def test_a_stream_that_begins_after_the_change_is_no_exception(scene, now) -> None:
    texts = {"denies": TEXT.replace("[watch]", "[other]"), "allows": TEXT + "# another\n"}
    live = Live(scene.old if now == "same" else scene.load(texts[now]), None, None)
    CutDenied(live, scene.exchanges, scene.tunnels, scene.cut.append).responseheaders(scene.flow)
    assert scene.cut == ([scene.flow.client_conn] if now == "denies" else [])


def test_an_answer_that_is_no_stream_is_given_to_who_asked_before_the_change(scene) -> None:
    scene.stream.streaming = False
    live = Live(scene.load(TEXT.replace("[watch]", "[other]")), None, None)
    CutDenied(live, scene.exchanges, scene.tunnels, scene.cut.append).responseheaders(scene.flow)
    assert scene.cut == []
