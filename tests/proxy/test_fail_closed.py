"""Whatever a stage raises becomes a refusal, and is told without a word of what it failed on."""

import asyncio
import json
import logging
from types import SimpleNamespace

import pytest
from mitmproxy import exceptions, hooks, http
from mitmproxy.connection import Client
from mitmproxy.proxy import server_hooks
from mitmproxy.test import tflow

from coatcheck.errors import Refusal
from coatcheck.exchange import Release
from coatcheck.proxy.fail_closed import LIFECYCLE, NOT_RELAYED, FailClosed

CANARY = "sk-live-5f1d0c7e9a3b4826"
FAULTS = [ValueError, RuntimeError, AssertionError, MemoryError, RecursionError, asyncio.CancelledError, StopIteration]
FAULTS += [TimeoutError, OSError, exceptions.AddonHalt, exceptions.OptionsError]
FLOW_HOOKS = ["requestheaders", "request", "responseheaders", "response", "error"]


def stage(error: BaseException | type[BaseException] | None, *names: str, asynchronous: bool = False, ran=None):
    """A stage whose hooks end with `error`."""

    def end(_data: object) -> None:
        if ran is not None:
            ran.append(names)
        if error is not None:
            raise error if isinstance(error, BaseException) else error(CANARY)

    async def end_later(data: object) -> None:
        await asyncio.sleep(0)
        end(data)

    return SimpleNamespace(**dict.fromkeys(names, end_later if asynchronous else end))


def run(exchanges, name: str, data: object, *stages: object) -> None:
    asyncio.run(FailClosed(stages, exchanges).hooks[name](data))


def error_of(flow: http.HTTPFlow) -> dict:
    return json.loads(flow.response.content)["error"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FLOW_HOOKS)
@pytest.mark.parametrize("error", FAULTS, ids=lambda error: error.__name__)
def test_a_fault_is_a_503_and_takes_the_release_back(exchanges, exchange_of, flow, error, name, asynchronous) -> None:
    exchange = exchange_of(flow)
    exchange.release = Release(b"x")
    exchange.request_id = "mine"
    run(exchanges, name, flow, stage(error, name, asynchronous=asynchronous))
    assert exchange.release is None
    raised = RuntimeError if asynchronous and error is StopIteration else error  # what Python makes of it (PEP 479)
    assert exchange.fault == f"{name}: {raised.__name__}"
    assert exchange.refusal.reason == "gateway-fault"
    assert flow.response.status_code == 503
    assert json.loads(flow.response.content)["id"] == "mine"
    assert error_of(flow)["code"] == 5030
    assert error_of(flow)["data"]["retryable"] is True
    assert CANARY not in flow.response.text


@pytest.mark.parametrize("name", FLOW_HOOKS)
def test_without_a_fault_the_flow_stays_as_it_is(exchanges, exchange_of, flow, name) -> None:
    exchange = exchange_of(flow)
    exchange.release = Release(b"x")
    run(exchanges, name, flow, stage(None, name), stage(None, name, asynchronous=True))
    assert exchange.release is not None
    assert exchange.fault is None
    assert flow.response is None


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FLOW_HOOKS)
def test_a_refusal_becomes_its_answer(exchanges, exchange_of, flow, name, asynchronous) -> None:
    exchange = exchange_of(flow)
    exchange.release = Release(b"x")
    exchange.request_id = 7
    refusal = Refusal("bad-host", "the host is bad", status=421, code=-32600, rule="r")
    run(exchanges, name, flow, stage(refusal, name, asynchronous=asynchronous))
    assert exchange.refusal is refusal
    assert exchange.release is None
    assert exchange.fault is None
    assert flow.response.status_code == 421
    assert json.loads(flow.response.content)["id"] == 7
    assert error_of(flow)["data"]["reason"] == "bad-host"


def test_the_stages_after_a_refusal_still_run_so_that_tokens_are_taken_off(exchanges, exchange_of, flow) -> None:
    exchange_of(flow)
    ran: list[tuple[str, ...]] = []
    first, second = stage(Refusal("a", "a"), "request", ran=ran), stage(RuntimeError, "request", ran=ran)
    run(exchanges, "request", flow, first, second, stage(None, "request", ran=ran))
    assert len(ran) == 3
    assert flow.response.status_code == 503


@pytest.mark.parametrize("error", [RuntimeError, Refusal("a", "a", status=200)], ids=["fault", "refusal"])
def test_a_flow_without_an_exchange_is_refused_too(exchanges, flow, error) -> None:
    run(exchanges, "requestheaders", flow, stage(error, "requestheaders"))
    assert flow.response is not None
    assert json.loads(flow.response.content)["id"] is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(RuntimeError, 503, id="fault"),
        pytest.param(Refusal.unauthenticated("token-missing", "a token is needed", status=407), 407, id="no token"),
        pytest.param(Refusal("unknown-host", "no such server", status=403), 403, id="unknown host"),
        pytest.param(Refusal.denied("policy-denied", "the policy says no"), 403, id="denied"),
    ],
)
def test_a_refused_connect_is_never_a_tunnel(exchanges, exchange_of, flow, error, status) -> None:
    """mitmproxy opens the tunnel for every answer from 200 to 299."""
    exchange_of(flow)
    flow.request.method = "CONNECT"
    run(exchanges, "http_connect", flow, stage(error, "http_connect"))
    assert flow.response.status_code == status
    assert flow.response.reason.startswith("coatcheck: ")


@pytest.mark.parametrize("error", [*FAULTS, Refusal("address-refused", "refused")], ids=str)
@pytest.mark.parametrize("name", ["server_connect", "server_connected"])
def test_a_connection_to_a_server_is_not_made(exchanges, name, error) -> None:
    flow = tflow.tflow()
    data = server_hooks.ServerConnectionHookData(flow.server_conn, flow.client_conn)
    run(exchanges, name, data, stage(None, name))
    assert data.server.error is None
    run(exchanges, name, data, stage(error, name))
    assert data.server.error
    assert CANARY not in data.server.error


@pytest.mark.parametrize("error", [*FAULTS, Refusal("a", "refused")], ids=str)
def test_a_client_is_not_served(exchanges, error) -> None:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    run(exchanges, "client_connected", client, stage(None, "client_connected"))
    assert client.error is None
    run(exchanges, "client_connected", client, stage(error, "client_connected"))
    assert client.error
    assert CANARY not in client.error


@pytest.mark.parametrize("error", [*FAULTS, Refusal("a", "refused")], ids=str)
@pytest.mark.parametrize("name", ["tls_clienthello", "tls_start_client", "tls_start_server", "next_layer"])
def test_no_later_addon_supplies_what_a_stage_failed_to(exchanges, name, error) -> None:
    data = SimpleNamespace(ssl_conn=None, layer=None)
    run(exchanges, name, data, stage(None, name))
    with pytest.raises(exceptions.AddonHalt):
        run(exchanges, name, data, stage(error, name))
    assert data == SimpleNamespace(ssl_conn=None, layer=None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_ends_the_process_goes_on_and_leaves_nothing_released(exchanges, exchange_of, flow, error) -> None:
    exchange = exchange_of(flow)
    exchange.release = Release(b"x")
    hook = FailClosed([stage(error, "request")], exchanges).hooks["request"]
    waiting = hook(flow)
    with pytest.raises(error):
        waiting.send(None)
    assert exchange.release is None
    assert flow.response.status_code == 503


async def test_a_real_cancellation_is_passed_on(exchanges, exchange_of, flow) -> None:
    exchange = exchange_of(flow)
    exchange.release = Release(b"x")
    entered = asyncio.Event()

    async def waits(_flow: http.HTTPFlow) -> None:
        entered.set()
        await asyncio.Event().wait()

    ran: list[tuple[str, ...]] = []
    stages = [SimpleNamespace(request=waits), stage(None, "request", ran=ran)]
    task = asyncio.create_task(FailClosed(stages, exchanges).hooks["request"](flow))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert exchange.release is None
    assert exchange.fault == "request: CancelledError"
    assert ran == []


async def test_a_cancellation_that_nobody_asked_for_is_a_fault(exchanges, exchange_of, flow) -> None:
    exchange_of(flow)
    hook = FailClosed([stage(asyncio.CancelledError, "request", asynchronous=True)], exchanges).hooks["request"]
    await asyncio.create_task(hook(flow))
    assert flow.response.status_code == 503


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: error.__name__)
def test_the_log_tells_type_and_place_and_nothing_of_the_text(exchanges, exchange_of, flow, caplog, error) -> None:
    exchange_of(flow)
    with caplog.at_level(logging.DEBUG):
        run(exchanges, "request", flow, stage(error, "request"))
    (record,) = [record for record in caplog.records if record.name == "coatcheck"]
    assert record.getMessage().startswith(f"request failed: {error.__name__} at ")
    assert "test_fail_closed.py" in record.getMessage()
    assert record.exc_info is None
    assert CANARY not in caplog.text


def test_a_refusal_is_not_logged(exchanges, exchange_of, flow, caplog) -> None:
    exchange_of(flow)
    with caplog.at_level(logging.DEBUG, logger="coatcheck"):
        run(exchanges, "request", flow, stage(Refusal("a", "a"), "request"))
    assert not caplog.records


def test_a_refusal_made_while_the_answer_came_in_stays_the_answer(exchanges, exchange_of, flow) -> None:
    exchange = exchange_of(flow)
    refusing = stage(Refusal("server-failed", "unreadable", status=502), "responseheaders")
    run(exchanges, "responseheaders", flow, refusing)
    flow.response = http.Response.make(200, b"what the server said")
    run(exchanges, "response", flow, stage(None, "response"))
    assert flow.response.status_code == 502
    assert b"server said" not in flow.response.content
    assert exchange.refusal.reason == "server-failed"


def test_an_answer_without_a_refusal_stays_the_servers(exchanges, exchange_of, flow) -> None:
    exchange_of(flow)
    flow.response = http.Response.make(200, b"what the server said")
    run(exchanges, "response", flow, stage(None, "response"))
    assert flow.response.content == b"what the server said"


def test_every_hook_that_a_stage_has_is_guarded_and_no_lifecycle_hook(exchanges) -> None:
    names = sorted(hooks.all_hooks)
    guarded = FailClosed([stage(None, *names)], exchanges).hooks
    assert guarded.keys() == set(names) - LIFECYCLE
    assert FailClosed([stage(None, "request")], exchanges).hooks.keys() == {"request", *NOT_RELAYED}
    assert all(asyncio.iscoroutinefunction(hook) for hook in guarded.values())
