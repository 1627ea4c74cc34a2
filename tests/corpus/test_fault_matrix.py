"""Each hook of each stage, with a fault in it: no request reaches a server without a record that it may."""

import importlib
import inspect
import itertools
import pkgutil
import ssl
from pathlib import Path

import pytest
from ground import wait_until
from mitmproxy import hooks
from raw import call
from server import response, saying
from test_faults import (
    AFTER_THE_WIRE,
    BEFORE_THE_WIRE,
    BESIDE_THE_WIRE,
    EVERYWHERE,
    FAULTY,
    STALL_SECONDS,
    Watched,
    allowed,
    tool_of,
)

from coatcheck import proxy
from coatcheck.proxy.fail_closed import LIFECYCLE
from story.part import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

ELSEWHERE = [
    "limit.error", "legacy_sse.error", "record.error", "record.http_connect_error", "guard.server_connect_error",
    "read_head.tls_failed_client",
]  # fmt: skip
"""What comes only where something else has failed already."""
KINDS = ["raise", "cancel", "memory"]
STALL = f"stall {STALL_SECONDS}"
"""What the hooks of a call do in `test_faults.py`, all of them at once."""
CANNOT_STALL = {"sse.feed": "it is no hook, and not asynchronous: a pause of it is the event loop's, as is tried there"}


def hooks_of_the_stages() -> set[str]:
    """`STAGE.HOOK` for each hook of traffic of each class in `proxy/`."""
    importlib.import_module("coatcheck.chain")  # and with it whatever declares hooks
    found, traffic = set(), hooks.all_hooks.keys() - LIFECYCLE
    for module in pkgutil.iter_modules(proxy.__path__):
        for cls in vars(importlib.import_module(f"coatcheck.proxy.{module.name}")).values():
            if inspect.isclass(cls) and cls.__module__ == f"coatcheck.proxy.{module.name}":
                found |= {f"{module.name}.{hook}" for hook in traffic & vars(cls).keys()}
    return found


def test_every_hook_of_every_stage_is_in_these_tables() -> None:
    assert hooks_of_the_stages() == {*EVERYWHERE, *ELSEWHERE} - CANNOT_STALL.keys()
    assert {"sse.feed", *hooks_of_the_stages()} == {
        *BEFORE_THE_WIRE, *BESIDE_THE_WIRE, *AFTER_THE_WIRE, *ELSEWHERE, *CANNOT_STALL,
    }  # fmt: skip


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("faults")


GONE = free_port()
"""Where a server is declared, and nobody listens."""


@pytest.fixture(scope="module")
def faulty(place, faults, tmp_path_factory):
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    server = f"  gone: {{url: 'http://127.0.0.1:{GONE}/', addresses: [127.0.0.1/32]}}\n"
    rule = "  - {id: job-waits, who: [group:ci], server: gone, http: ['GET /**'], effect: allow}\n"
    policy.write_text(place.policy_text().replace("rules:\n", f"{server}rules:\n{rule}"))
    with place.running(policy=policy, script=FAULTY, COATCHECK_TEST_FAULTS=str(faults)) as ground:
        yield ground


def taken(file: Path) -> bool:
    return wait_until(lambda: not file.exists(), seconds=10)


@pytest.mark.attack("FAIL-01", "FAIL-04", "FAIL-05")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", BEFORE_THE_WIRE)
def test_a_fault_before_the_wire_lets_nothing_reach_a_server(faulty, faults, hook, kind) -> None:
    watched = Watched(faulty)
    (faults / hook).write_text(kind)
    with faulty.api.answering(watched):
        reply = attempt(faulty, tool_of(hook))
    assert taken(faults / hook)
    assert reply is None or reply.status in (502, 503)
    assert watched.arrived == {}
    faulty.is_well()


@pytest.mark.attack("FAIL-01", "FAIL-02", "FAIL-04", "FAIL-05")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", AFTER_THE_WIRE)
def test_a_fault_on_the_way_back_withholds_the_answer(faulty, faults, hook, kind) -> None:
    secret = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"CANARY"}]}}'
    with faulty.watch(refusals=None, arrive=1), faulty.api.answering(saying(response(secret))):
        (faults / hook).write_text(kind)
        reply = attempt(faulty, tool_of(hook))
        assert taken(faults / hook)
    assert reply is None or (reply.status == 503 and b"CANARY" not in reply.body)
    assert tool_of(hook) in allowed(faulty)


@pytest.mark.attack("FAIL-02", "FAIL-04", "FAIL-05")
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_in_a_stream_ends_it_and_no_later_event_passes(faulty, faults, kind) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    events = [
        b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%s"}}\n\n' % one
        for one in (b"FIRST", b"SECOND")
    ]
    with faulty.api.answering(saying(head, *events, close=True)):
        (faults / "sse.feed").write_text(kind)
        with faulty.tunnel() as client:
            client.send(faulty.post(call(tool_of("sse.feed"))))
            said = client.rest()
        assert taken(faults / "sse.feed")
    assert b"FIRST" not in said
    assert b"SECOND" not in said
    with faulty.api.answering(saying(head, *events, close=True)), faulty.tunnel() as client:
        client.send(faulty.post(call(tool_of("sse.feed"))))
        assert b"SECOND" in client.rest()


@pytest.mark.attack("FAIL-01", "FAIL-04", "FAIL-05")
@pytest.mark.parametrize(
    ("hook", "kind"),
    [*itertools.product([*BESIDE_THE_WIRE, *ELSEWHERE], KINDS), *((hook, STALL) for hook in ELSEWHERE)],
)
def test_a_fault_where_nothing_is_decided_lets_nothing_out_either(faulty, faults, hook, kind) -> None:
    watched = Watched(faulty)
    (faults / hook).write_text(kind)
    if hook == "record.http_connect_error":
        with faulty.client() as client:
            assert client.connect(faulty.token(), authority="nobody.example:443").status >= 400
    elif hook == "guard.server_connect_error":
        with faulty.client() as client:
            client.outcome(faulty.get(f"http://127.0.0.1:{GONE}/x", host=f"127.0.0.1:{GONE}"))
    elif hook == "read_head.tls_failed_client":
        with faulty.client() as client:
            assert client.connect(faulty.token()).status == 200
            with pytest.raises(ssl.SSLError):  # it does not know the gateway's authority
                ssl.create_default_context().wrap_socket(client.sock, server_hostname="localhost")
    else:
        with faulty.api.answering(saying(b"", close=True) if hook in ELSEWHERE else watched):
            attempt(faulty, tool_of(hook))
    assert taken(faults / hook)
    assert set(watched.arrived.values()) <= {True}
    faulty.is_well()


def attempt(ground, tool: str):
    """One call on a connection of its own; None where that just ended."""
    try:
        with ground.client() as client:
            reply = client.connect(ground.token())
            return client.start_tls().outcome(ground.post(call(tool))) if reply.status == 200 else reply
    except (EOFError, OSError):
        return None
