"""Whatever stops on the way, nothing leaves without the record that it may; whoever waits is told or cut off."""

import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ground import denied, wait_until
from raw import call
from server import Server, good, silent

from story.part import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

FAULTY = Path(__file__).parent / "faulty" / "gateway.py"
STALL_SECONDS = 5.0
BLOCK_SECONDS = 6.0  # longer than the pause between two measurements of the loop's lag

BEFORE_THE_WIRE = [
    "hang_up.client_connected", "read_head.client_connected",
    "read_head.http_connect", "guard.http_connect", "identify.http_connect", "open_tunnel.http_connect",
    "open_tunnel.next_layer",
    "read_head.requestheaders", "guard.requestheaders", "discover.requestheaders", "identify.requestheaders",
    "limit.requestheaders", "limit_rate.request",
    "read_head.request", "decode_body.request", "keep_back.request",
    "inspect.request", "authorize.request", "pin.request", "hold.request",
    "journal_request.request", "legacy_sse.request", "record.request", "release.request",
    "guard.tls_clienthello", "guard.server_connect", "guard.tls_start_server",
]  # fmt: skip
"""What a call passes before its first byte leaves."""
BESIDE_THE_WIRE = [
    "hang_up.server_connected", "guard.server_connected", "read_head.server_connected", "read_slowly.server_connected",
    "read_head.client_disconnected", "open_tunnel.client_disconnected", "hang_up.client_disconnected",
    "hang_up.server_disconnected",
]  # fmt: skip
"""What decides nothing: a fault there changes nothing for the call, or ends it."""
AFTER_THE_WIRE = [
    "mask.responseheaders",
    "cut_denied.responseheaders",
    "read_slowly.responseheaders",
    "journal_request.responseheaders",
    "close_after.responseheaders",
    "legacy_sse.response",
    "mask.response",
    "read_slowly.response",
    "limit.response",
    "record.response",
    "journal_request.response",
    "close_after.response",
]


class Caller(threading.Thread):
    """One allowed call of the tool `get_…` from a client that waits for its answer."""

    def __init__(self, ground, tool: str) -> None:
        super().__init__(daemon=True)
        self.ground, self.tool, self.reply, self.seconds = ground, tool, None, 0.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        with self.ground.client(timeout=80) as client:
            assert client.connect(self.ground.token()).status == 200
            self.reply = client.start_tls().outcome(self.ground.post(call(self.tool)))
        self.seconds = time.monotonic() - began


EVERYWHERE = [
    *BEFORE_THE_WIRE,
    *BESIDE_THE_WIRE,
    *AFTER_THE_WIRE,
    "limit.error",
    "legacy_sse.error",
    "record.error",
    "sse.feed",
]


def tool_of(hook: str) -> str:
    return "get_" + hook.replace(".", "_")


def allowed(ground) -> set[str]:
    """The tools of the calls whose allow is in the journal."""
    return {one["name"] for record in ground.journal() if record["kind"] == "request" for one in record["calls"]}


class Watched:
    """The good answer, and for each arriving call whether its allow was in the journal by then."""

    def __init__(self, ground) -> None:
        self._ground = ground
        self.arrived: dict[str, bool] = {}

    def __call__(self, peer, heard) -> None:
        recorded = allowed(self._ground)
        (tool,) = [tool for tool in (*map(tool_of, EVERYWHERE), "get_order") if f'"{tool}"' in heard.body.decode()]
        self.arrived[tool] = tool in recorded
        good(peer, heard)


@pytest.mark.attack("FAIL-04")
def test_a_stage_that_stalls_delays_its_request_and_nothing_leaves_before_its_allow(place, tmp_path) -> None:
    with place.running(script=FAULTY, COATCHECK_TEST_FAULTS=str(tmp_path)) as ground:
        watched = Watched(ground)
        with ground.api.answering(watched):
            callers = {}
            for hook in [*BEFORE_THE_WIRE, *BESIDE_THE_WIRE, *AFTER_THE_WIRE]:
                (tmp_path / hook).write_text(f"stall {STALL_SECONDS}")
                callers[hook] = Caller(ground, tool_of(hook))
                assert wait_until(lambda hook=hook: not (tmp_path / hook).exists(), seconds=60), hook
                if hook in BEFORE_THE_WIRE:
                    assert tool_of(hook) not in watched.arrived
            for caller in callers.values():
                caller.join(90)
        ground.is_well()
    assert {hook: caller.reply.status for hook, caller in callers.items()} == dict.fromkeys(callers, 200)
    slow = [hook for hook, caller in callers.items() if caller.seconds >= STALL_SECONDS]
    assert sorted({*slow, *BESIDE_THE_WIRE}) == sorted(callers)
    assert watched.arrived == {tool_of(hook): True for hook in callers}


@pytest.mark.attack("FAIL-11")
def test_a_hook_that_blocks_shows_and_nothing_leaves_without_its_allow(place, tmp_path) -> None:
    with place.running(script=FAULTY, COATCHECK_TEST_FAULTS=str(tmp_path)) as ground:
        ground.is_well()
        assert "coatcheck_loop_lag_seconds" in asked(ground, "/metrics")
        watched = Watched(ground)
        with ground.api.answering(watched):
            (tmp_path / "authorize.request").write_text(f"block {BLOCK_SECONDS}")
            callers = [Caller(ground, tool_of("authorize.request"))]
            assert wait_until(lambda: not (tmp_path / "authorize.request").exists(), seconds=60)
            with pytest.raises((TimeoutError, urllib.error.URLError)):
                asked(ground, "/healthz", timeout=1)
            callers.append(Caller(ground, "get_order"))
            assert watched.arrived == {}
            for caller in callers:
                caller.join(90)
        (lag,) = [
            line for line in asked(ground, "/metrics").splitlines() if line.startswith("coatcheck_loop_lag_seconds ")
        ]
        assert float(lag.split()[1]) > 0.3
        assert '"ok"' in asked(ground, "/healthz")
        assert [caller.reply.status for caller in callers] == [200, 200]
        assert set(watched.arrived.values()) == {True}


def asked(ground, path: str, *, timeout: float = 60) -> str:
    """What the control port answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(ground.gateway.control_url + path, timeout=timeout) as reply:
        return reply.read().decode()


@pytest.mark.attack("FAIL-05")
@pytest.mark.parametrize(
    "body", [b"[" * 9_000_000, b'{"a":' * 1_000_000, b'"' + b"\\" * 999_999], ids=["lists", "objects", "escapes"]
)
def test_what_exhausts_a_parser_is_refused_and_the_gateway_goes_on(place, body) -> None:
    with place.running() as ground, ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(body)), (400, 503))


@pytest.mark.attack("FAIL-08")
def test_touching_the_script_ends_the_process_and_nothing_is_forwarded_after(place, tmp_path) -> None:
    script = tmp_path / "gateway.py"
    script.write_text((ROOT / "addons" / "gateway.py").read_text())
    with place.running(script=script) as ground:
        ground.is_well()
        before = ground.api.mark()
        script.touch()
        assert ground.gateway.wait(timeout_seconds=30) == 70
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as it comes
            ground.client()
        assert ground.api.mark() == before


@pytest.mark.attack("FAIL-14")
def test_requests_in_flight_when_the_process_is_killed_fail_and_are_not_sent_again(place) -> None:
    count = 100
    with place.running() as ground:
        clients = [ground.tunnel(timeout=60) for _ in range(count)]
        before = ground.api.mark()
        with ground.api.answering(silent):
            for number, client in enumerate(clients):
                client.send(ground.post(call("get_order", {"number": number}, call_id=number)))
            sent = ground.api.wait_for_requests(before, count, seconds=60)
            ground.gateway.kill()
            for client in clients:
                with client, pytest.raises((EOFError, OSError)):
                    client.read()
        assert len({heard.body for heard in sent}) == count
        ground.gateway.start()
        ground.is_well()
        assert len(ground.api.requests_since(before)) == count + 1
        ground.gateway.stop()
        names = [record["kind"] for record in ground.journal()]
        assert names.count("request") >= count + 1


@pytest.mark.attack("HTTP-49")
def test_the_address_that_was_checked_is_the_one_that_is_dialled(place, tmp_path) -> None:
    """The name resolves to a listed address, then to one that is not, then to both, then to the listed one."""
    with Server() as listed, Server(address="127.0.0.3", port=listed.port) as private:
        policy = tmp_path / "policy.yaml"
        text = place.policy_text()
        server = f"  moving:\n    url: http://moving.example:{listed.port}/\n    addresses: [127.0.0.1/32]\n"
        rule = (
            "  - id: job-follows\n    who: [group:ci]\n    server: moving\n    http: ['GET /**']\n    effect: allow\n"
        )
        policy.write_text(text.replace("rules:\n", f"{server}rules:\n{rule}"))
        answers = "127.0.0.1,127.0.0.3,127.0.0.1+127.0.0.3,127.0.0.3+127.0.0.1,127.0.0.1"
        with place.running(policy=policy, script=FAULTY, COATCHECK_TEST_MOVING=answers) as ground:
            statuses = []
            for _ in range(5):
                with ground.client() as client:
                    host = f"moving.example:{listed.port}"
                    statuses.append(client.outcome(ground.get(f"http://{host}/x", host=host)).status)
        assert statuses == [200, 502, 502, 502, 200]  # five connections used five answers: each was resolved once
        assert len(listed.peers) == 2
        assert private.peers == []
