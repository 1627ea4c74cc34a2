"""Tests of story/pipeline.py and story/cast.py: a proxy that adds the credential stands in for the gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from story.cast import Cast, Outcome, Pipeline, StoryError, read_outcome
from story.processes import BareProxy
from story.shop import EVENTS


@pytest.fixture(scope="module")
def proxy(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareProxy]:
    add = f"|~q|Authorization|Bearer {cast.credential}"
    trust = ["--set", f"ssl_verify_upstream_trusted_ca={cast.authority.ca_pem}", "--set", "stream_large_bodies=1"]
    with BareProxy(tmp_path_factory.mktemp("proxy"), more=["--modify-headers", add, *trust]) as proxy:
        yield proxy


def through(proxy: BareProxy, cast: Cast, *arguments: str) -> Outcome:
    way = f"http://127.0.0.1:{proxy.port}"
    return Pipeline((cast.shop.url, *arguments), proxy=way, ca=proxy.ca_pem).finish()


def test_without_a_credential_the_shop_refuses_and_with_the_proxy_it_answers(cast: Cast, proxy: BareProxy):
    direct = Pipeline((cast.shop.url, "call", "list_orders"), proxy=None, ca=cast.authority.ca_pem).finish()
    assert direct.error is not None
    assert through(proxy, cast, "call", "list_orders").error is None


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_list_is_the_tools_names(cast: Cast, proxy: BareProxy, mode: str):
    result = through(proxy, cast, "--mode", mode, "list").result
    assert isinstance(result, list)
    assert {"get_order", "whoami"} <= set(result)


def test_an_export_shows_each_event_with_its_time(cast: Cast, proxy: BareProxy):
    outcome = through(proxy, cast, "export")
    assert len(outcome.events) == EVENTS
    assert [event.at for event in outcome.events] == sorted(event.at for event in outcome.events)
    assert outcome.events[-1].at - outcome.events[0].at > 0.5
    assert outcome.error is outcome.failed is None


def test_whoami_shows_what_the_server_received(cast: Cast, proxy: BareProxy):
    assert cast.credential in through(proxy, cast, "whoami").text


def test_an_unreachable_proxy_is_a_failure_not_an_error(cast: Cast):
    outcome = Pipeline((cast.shop.url, "list"), proxy="http://127.0.0.1:9", ca=cast.authority.ca_pem).finish()
    assert outcome.failed
    assert outcome.error is None


def test_output_without_a_last_word_is_refused():
    assert read_outcome('{"event": {"at": 0.1, "text": "x"}}\n{"result": 1}').events[0].at == 0.1
    with pytest.raises(StoryError):
        read_outcome('{"event": {"at": 0.1, "text": "x"}}')


def test_the_policy_names_the_real_parts(cast: Cast):
    text = cast.policy.read_text()
    assert cast.shop.url in text
    assert cast.issuer.url in text
    assert "$.." in text
    assert "audience: https://other.example" in cast.policy_text(audience="https://other.example")
    assert cast.credential not in text


def test_the_scene_ends_with_its_block(tmp_path: Path):
    with Cast(tmp_path) as scene:
        assert scene.shop.is_running
        assert scene.executed() == []
    assert not scene.shop.is_running
