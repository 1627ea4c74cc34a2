"""The policy's files change under a running gateway: a good change is taken whole, a bad one opens nothing."""

import http.client
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from far_end import FarEnd, gateway_with
from raw import RawClient, call, head
from reviewer import wait_for_approval

from story.processes import Gateway

pytestmark = pytest.mark.e2e

READ = ("call", "get_order", '{"order_id": "A-1"}')
DENY_READS = """  - id: nobody-reads
    who: [any]
    server: shop
    tools: [get_order]
    effect: deny
masks:
"""


def readiness(gateway) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.control_port, timeout=60)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def lifecycle(cast, event: str) -> list[dict]:
    out = json.loads(cast.cli("journal", "query", "--kind", "lifecycle", "--state", str(cast.state), "--json"))
    return [record for record in out if record["event"] == event]


def outcome(cast, gateway):
    return cast.pipeline(*READ, gateway=gateway, token=cast.token())


def is_denied(result) -> bool:
    return result.error is not None and result.error["data"].get("rule") == "nobody-reads"


def write_whole(path, text: str) -> None:
    """As careful editors do: beside it, then renamed."""
    draft = path.with_name("draft.tmp")
    draft.write_text(text)
    draft.rename(path)


@pytest.fixture
def folder(fresh) -> Path:
    """The policy as a folder of one file."""
    folder = fresh.folder / "policies"
    folder.mkdir()
    fresh.policy.rename(folder / "shop.yaml")
    fresh.policy = folder
    return folder


def test_a_changed_policy_is_taken_and_journaled_with_both_hashes(fresh) -> None:
    before = fresh.policy.read_text()
    with fresh.gateway() as gateway:
        assert outcome(fresh, gateway).error is None
        old = readiness(gateway)[1]["policy"]
        write_whole(fresh.policy, before.replace("masks:\n", DENY_READS))
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] != old)
        assert is_denied(outcome(fresh, gateway))
        new = readiness(gateway)[1]["policy"]
        (record,) = lifecycle(fresh, "policy-loaded")
        assert record["details"] == {"old": old, "new": new}
        write_whole(fresh.policy, before)
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] == old)
        assert outcome(fresh, gateway).error is None


def test_an_open_tunnel_and_a_remembered_token_are_decided_by_the_new_policy(fresh) -> None:
    text = fresh.policy.read_text()
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        client.tunnel(fresh.token())
        assert "result" in client.post(call("get_order", {"order_id": "A"})).body.decode()
        old = readiness(gateway)[1]["policy"]
        write_whole(fresh.policy, text.replace("masks:\n", DENY_READS))
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] != old)
        reply = client.post(call("get_order", {"order_id": "A"}))
        assert reply.json["error"]["data"]["rule"] == "nobody-reads"


def test_what_an_issuers_old_name_vouched_for_is_not_taken_for_the_new_ones(fresh) -> None:
    text = fresh.policy.read_text()
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        client.tunnel(fresh.token())
        old = readiness(gateway)[1]["policy"]
        moved = text.replace(f"issuer: {fresh.issuer.url}", "issuer: https://another-idp.example")
        assert moved != text
        write_whole(fresh.policy, moved)
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] != old)
        before = len(fresh.executed())
        assert client.post(call("get_order", {"order_id": "A"})).status == 401
        assert len(fresh.executed()) == before


BAD = {
    "an unknown key": lambda text: text.replace("effect: allow", "effect: allow\n    efect: deny", 1),
    "no YAML": lambda _: "coatcheck: [1\n",
    "empty": lambda _: "",
    "a deny turned into an allow, beside an error": lambda text: text.replace("effect: deny", "effect: allow").replace(
        "audience:", "audienc:"
    ),
}


def test_an_invalid_change_opens_nothing_and_shows_until_it_is_valid_again(fresh) -> None:
    text = fresh.policy.read_text()
    with fresh.gateway() as gateway:
        old = readiness(gateway)[1]["policy"]
        for number, (name, spoil) in enumerate(BAD.items(), 1):
            assert spoil(text) != text, name
            fresh.policy.write_text(spoil(text))
            gateway.wait_for(lambda number=number: len(lifecycle(fresh, "policy-refused")) == number)
            status, ready = readiness(gateway)
            assert (status, ready["status"], ready["policy"]) == (200, "degraded", old), name
            assert ready["policy_stale"] is True
            assert str(fresh.policy) in ready["problems"]["policy"]
            deleted = fresh.pipeline("call", "delete_order", '{"order_id": "A"}', gateway=gateway, token=fresh.token())
            assert deleted.error["data"]["rule"] == "nobody-deletes"
            assert outcome(fresh, gateway).error is None
        assert not [done for done in fresh.executed() if done["tool"] == "delete_order"]
        fresh.policy.write_text(text)
        gateway.wait_for(lambda: not readiness(gateway)[1]["policy_stale"])
        assert lifecycle(fresh, "policy-loaded")[-1]["details"] == {"old": old, "new": old}
    said = (fresh.folder / "gateway.out").read_text()
    assert "unknown key 'efect'" in said
    assert "hint: did you mean 'effect'?" in said


def test_a_folder_that_is_emptied_removed_or_replaced_by_a_link_keeps_the_old_policy(fresh, folder) -> None:
    file = folder / "shop.yaml"
    text = file.read_text()
    elsewhere = fresh.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "shop.yaml").write_text(text.replace("effect: deny", "effect: allow"))

    def link() -> None:
        shutil.rmtree(folder)
        folder.symlink_to(elsewhere)

    with fresh.gateway() as gateway:
        old = readiness(gateway)[1]["policy"]
        for spoil in (file.unlink, lambda: shutil.rmtree(folder), link):
            spoil()
            gateway.wait_for(lambda: readiness(gateway)[1]["policy_stale"])
            assert readiness(gateway)[1]["policy"] == old
            deleted = fresh.pipeline("call", "delete_order", '{"order_id": "A"}', gateway=gateway, token=fresh.token())
            assert deleted.error["data"]["rule"] == "nobody-deletes"
            assert outcome(fresh, gateway).error is None
            if folder.is_symlink():
                assert "symbolic link" in readiness(gateway)[1]["problems"]["policy"]
                folder.unlink()
            folder.mkdir(exist_ok=True)
            file.write_text(text)
            gateway.wait_for(lambda: not readiness(gateway)[1]["policy_stale"])


def test_an_included_file_is_watched_and_one_that_appears_is_noticed(fresh, folder) -> None:
    file, more = folder / "shop.yaml", folder / "more"
    text = file.read_text()
    with fresh.gateway() as gateway:
        file.write_text(text.replace("coatcheck: 1\n", "coatcheck: 1\ninclude: [more/rules.yaml]\n", 1))
        gateway.wait_for(lambda: readiness(gateway)[1]["policy_stale"])
        more.mkdir()
        rules = "coatcheck: 1\nrules:\n" + DENY_READS.removesuffix("masks:\n")
        (more / "rules.yaml").write_text(rules)
        gateway.wait_for(lambda: not readiness(gateway)[1]["policy_stale"])
        assert is_denied(outcome(fresh, gateway))
        (more / "rules.yaml").write_text(rules.replace("[get_order]", "[list_nothing]"))
        gateway.wait_for(lambda: len(lifecycle(fresh, "policy-loaded")) == 2)
        assert outcome(fresh, gateway).error is None


def test_sighup_reads_the_policy_and_does_not_end_the_gateway(fresh) -> None:
    with fresh.gateway() as gateway:
        old = readiness(gateway)[1]["policy"]
        fresh.policy.write_text(fresh.policy.read_text().replace("masks:\n", DENY_READS))
        os.kill(gateway.pid, signal.SIGHUP)
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] != old)
        assert is_denied(outcome(fresh, gateway))


def test_a_held_call_is_decided_again_by_the_policy_of_the_moment_it_is_approved(fresh) -> None:
    text = fresh.policy.read_text()
    with fresh.gateway() as gateway:
        old = readiness(gateway)[1]["policy"]
        held = fresh.start_pipeline(
            "call", "refund_order", '{"order_id": "R-1", "amount": 1}', gateway=gateway, token=fresh.token()
        )
        approval = wait_for_approval(gateway, "R-1")
        small = DENY_READS.replace("[get_order]", "[refund_order]\n    when: args.amount < 5")
        write_whole(fresh.policy, text.replace("masks:\n", small))
        gateway.wait_for(lambda: readiness(gateway)[1]["policy"] != old)
        fresh.cli("approvals", "approve", approval["id"], "--state", str(fresh.state), "--policy", str(fresh.policy))
        assert is_denied(held.finish())
    assert not [done for done in fresh.executed() if done["tool"] == "refund_order"]


def test_a_server_with_a_gateway_url_cannot_move_without_a_restart(fresh) -> None:
    text = fresh.policy.read_text()
    port = Gateway(fresh.policy, fresh.state, output=fresh.folder / "unused").port
    with fresh.gateway(more=("--set", f"coatcheck_reverse=shop=127.0.0.1:{port}")) as gateway:
        fresh.policy.write_text(text.replace(fresh.shop.url, "https://127.0.0.2:9/mcp"))
        gateway.wait_for(lambda: readiness(gateway)[1]["policy_stale"])
        assert "restart" in (fresh.folder / "gateway.out").read_text()
        assert outcome(fresh, gateway).error is None


def test_a_stream_that_the_new_policy_denies_is_cut_and_another_goes_on(fresh) -> None:
    waits = threading.Event()

    def endless(_heard) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield b'f\r\ndata: {"n":1}\n\n\r\n'
        waits.wait(30)

    with FarEnd(fresh.authority.server_cert("localhost", "127.0.0.1"), endless) as far, ExitStack() as stack:
        policy = f"""
coatcheck: 1
servers:
  events: {{url: "https://{far.authority}/", ca: "{fresh.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: a, who: [group:ci], server: events, http: ["GET /a"], effect: allow}}
  - {{id: b, who: [group:ci], server: events, http: ["GET /b"], effect: allow}}
"""
        gateway = stack.enter_context(gateway_with(fresh, policy))

        def stream(path: str) -> RawClient:
            client = stack.enter_context(RawClient(gateway, authority=far.authority))
            client.tunnel(fresh.token())
            client.send(head(f"GET {path} HTTP/1.1", f"Host: {far.authority}"))
            assert client.read_head().status == 200
            assert b'{"n":1}' in client.read_chunk()
            return client

        cut, kept = stream("/a"), stream("/b")
        (file,) = fresh.folder.glob("policies-*/more.yaml")
        write_whole(file, policy.replace('["GET /a"], effect: allow', '["GET /a"], effect: deny'))
        assert cut.is_ended(10)
        assert not kept.is_ended(0.1)
        waits.set()
