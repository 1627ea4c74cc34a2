"""Whatever breaks inside the gateway, nothing reaches the server that was not released, and the caller is told."""

import inspect as python_inspect
import json
from pathlib import Path

import pytest
from raw import RawClient, call

from story.processes import Gateway

pytestmark = pytest.mark.e2e

FAULTY = Path(__file__).parent / "faulty" / "gateway.py"
BREAKABLE = Path(__file__).parents[1] / "corpus" / "faulty" / "gateway.py"

BEFORE_THE_WIRE = [
    "read_head.http_connect",
    "read_head.requestheaders",
    "read_head.request",
    "limit.requestheaders",
    "open_tunnel.http_connect",
    "open_tunnel.next_layer",
    "guard.http_connect",
    "guard.requestheaders",
    "guard.tls_clienthello",
    "guard.server_connect",
    "guard.tls_start_server",
    "identify.http_connect",
    "identify.requestheaders",
    "inspect.request",
    "authorize.request",
    "pin.request",
    "hold.request",
    "release.request",
]
AFTER_THE_WIRE = ["limit.response", "mask.responseheaders", "mask.response", "record.response"]


class FaultyGateway(Gateway):
    """The same process with another script, told by its environment what to break."""

    def __init__(self, cast, script: Path, **environment: str) -> None:
        super().__init__(cast.policy, cast.state, output=cast.folder / "faulty.out", environment=environment)
        self.command = tuple(str(script) if part.endswith("addons/gateway.py") else part for part in self.command)


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Path:
    """Where a file `STAGE.HOOK` breaks the next call of that hook."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def breakable(cast, faults):
    """One process, in which one hook after the other breaks."""
    with FaultyGateway(cast, BREAKABLE, COATCHECK_TEST_FAULTS=str(faults)) as gateway:
        yield gateway


META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
MODERN = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "get_order"}


def modern_call(tool: str, arguments: dict) -> bytes:
    """A call the shop answers with plain JSON."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def send(gateway, cast, *, modern: bool = True):
    """One allowed call over a connection of its own; the reply, or None where the connection just ended."""
    with RawClient(gateway, cast) as client:
        try:
            reply = client.connect(cast.token())
            if reply.status != 200:
                return reply
            client.start_tls()
            if modern:
                return client.post(modern_call("get_order", {"order_id": "CANARY"}), **MODERN)
            return client.post(call("get_order", {"order_id": "X"}))
        except (EOFError, OSError):
            return None


def send_to_edited(cast, fault: str):
    """The same through a gateway of its own, beside a script that edits what is released."""
    with FaultyGateway(cast, FAULTY, COATCHECK_TEST_FAULT=fault) as gateway:
        return send(gateway, cast, modern=False)


def test_without_a_fault_the_call_reaches_the_server(breakable, cast) -> None:
    """The positive control."""
    before = len(cast.executed())
    reply = send(breakable, cast)
    assert reply.status == 200
    assert len(cast.executed()) == before + 1


@pytest.mark.parametrize("where", BEFORE_THE_WIRE)
@pytest.mark.parametrize("kind", ["raise", "cancel", "memory"])
def test_a_hook_that_raises_lets_no_byte_reach_the_server(breakable, cast, faults, kind, where) -> None:
    before = cast.executed()
    (faults / where).write_text(kind)
    reply = send(breakable, cast)
    assert not (faults / where).exists(), "the hook was called"
    assert cast.executed() == before
    assert reply is None or reply.status >= 500
    if reply is not None and reply.body:
        assert reply.json["error"]["data"]["retryable"] is True


@pytest.mark.parametrize("where", AFTER_THE_WIRE)
def test_a_hook_that_raises_on_the_way_back_withholds_the_answer(breakable, cast, faults, where) -> None:
    (faults / where).write_text("raise")
    reply = send(breakable, cast)
    assert reply.status == 503
    assert b"CANARY" not in reply.body
    assert reply.json["error"]["data"]["reason"] == "gateway-fault"


def test_after_every_fault_the_next_call_is_served(breakable, cast) -> None:
    assert send(breakable, cast).status == 200


def test_an_edit_after_the_release_is_not_sent(fresh) -> None:
    reply = send_to_edited(fresh, "edit")
    assert reply.status == 503
    assert reply.json["error"]["data"]["reason"] == "not-released"
    assert fresh.executed() == []


def test_it_is_the_digest_check_that_stops_the_edit(fresh) -> None:
    send_to_edited(fresh, "edit-unchecked")
    assert [done["tool"] for done in fresh.executed()] == ["delete_order"]


def test_every_hook_of_every_stage_is_in_these_tables() -> None:
    from mitmproxy import hooks

    from coatcheck.proxy import (
        authorize,
        guard,
        hold,
        identify,
        inspect,
        limit,
        mask,
        open_tunnel,
        pin,
        read_head,
        record,
        release,
    )

    found = set()
    modules = (read_head, guard, identify, limit, open_tunnel, inspect, authorize, pin, hold, release, mask, record)
    for module in modules:
        for name, cls in vars(module).items():
            if python_inspect.isclass(cls) and cls.__module__ == module.__name__ and not name.startswith("_"):
                found |= {
                    f"{module.__name__.rpartition('.')[2]}.{hook}" for hook in hooks.all_hooks if hook in vars(cls)
                }
    untested = {
        "read_head.client_connected",  # starts and stops the clock
        "read_head.client_disconnected",
        "read_head.server_connected",
        "read_head.tls_failed_client",  # what can fail here has failed already
        "limit.error",
        "open_tunnel.client_disconnected",
        "guard.server_connected",  # after the handshake: nothing is decided there
        "guard.server_connect_error",
        "record.request",  # opens the recording after the release: its failure takes the release back
        "record.error",
        "record.http_connect_error",
    }
    assert found - untested == {*BEFORE_THE_WIRE, *AFTER_THE_WIRE}


def test_editing_or_removing_the_script_ends_the_process(fresh, tmp_path) -> None:
    for spoil in (lambda script: script.write_text("def broken("), lambda script: script.unlink()):
        script = tmp_path / "gateway.py"
        script.write_text((FAULTY.parents[3] / "addons" / "gateway.py").read_text())
        gateway = Gateway(fresh.policy, fresh.state, output=tmp_path / "out")
        gateway.command = tuple(str(script) if part.endswith("gateway.py") else part for part in gateway.command)
        with gateway:
            spoil(script)
            assert gateway.wait(timeout_seconds=60) == 70
