"""One guard around every hook: what goes wrong in a stage becomes a refusal, never a passage.

Law: after any exception in any hook, nothing of that exchange reaches the server and nothing more of the server
reaches the client. mitmproxy itself logs an addon's exception and goes on with the flow.
Law: what no stage understands is not relayed. `lockdown.py` sees to it that mitmproxy makes no flow of raw TCP, UDP,
DNS or WebSocket; should it make one all the same, every message of it is emptied.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence

from mitmproxy import connection, dns, exceptions, flow, hooks, http, tcp, udp
from mitmproxy.proxy import layer, server_hooks

from coatcheck.errors import GATEWAY_FAULT, Refusal
from coatcheck.exchange import Exchanges
from coatcheck.proxy.answer import answer, connect_answer

logger = logging.getLogger("coatcheck")

LIFECYCLE = frozenset({"load", "configure", "running", "done", "update"})
"""Hooks of the process, not of traffic: `lifecycle.py` handles them, and an error there ends the process."""

NOT_RELAYED = ("dns_request", "dns_response", "tcp_message", "udp_message", "websocket_message")
"""Hooks of what no stage understands, at which it can still be stopped: to kill such a flow stops nothing."""

type Hook = Callable[[object], Awaitable[None] | None]


class FailClosed:
    """The stages as mitmproxy will see them: each hook runs the stages in order, under the guard.

    `hooks` holds one function for every hook that some stage implements, by name. `cut` ends a client's connection.
    """

    def __init__(
        self,
        stages: Sequence[object],
        exchanges: Exchanges,
        cut: Callable[[connection.Client], None] = lambda _client: None,
    ) -> None:
        self._exchanges = exchanges
        self._cut = cut
        self.hooks: dict[str, Hook] = {}
        for name in hooks.all_hooks.keys() - LIFECYCLE:
            functions = [function for stage in stages if (function := getattr(stage, name, None)) is not None]
            if functions:
                self.hooks[name] = self._guarded(name, functions)
        for name in NOT_RELAYED:
            self.hooks.setdefault(name, _stop)

    def _guarded(self, name: str, functions: Sequence[Hook]) -> Hook:
        """One hook. mitmproxy awaits every hook of traffic; the stages' may be either kind."""

        async def guarded(data: object) -> None:
            self._restore(name, data)
            for function in functions:
                try:
                    result = function(data)
                    if result is not None:
                        await result
                except BaseException as error:  # noqa: BLE001 - the one place that must catch everything
                    self._catch(name, data, error)

        return guarded

    def _catch(self, name: str, data: object, error: BaseException) -> None:
        """A `Refusal` is an answer; anything else a fault. What ends the process or this task goes on doing so."""
        if isinstance(error, Refusal):
            self._refuse(data, error)
            return
        self._fault(name, data, error)
        task = asyncio.current_task()
        is_ended = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
        if is_ended or isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            raise error

    def _restore(self, name: str, data: object) -> None:
        """A refusal made while the server's answer was coming in stays the answer when it has come in."""
        if name == "response" and isinstance(data, http.HTTPFlow):
            exchange = self._exchanges.get(data)
            if exchange is not None and exchange.refusal is not None and not exchange.streaming:
                data.response = answer(exchange.refusal, exchange)

    def _fault(self, name: str, data: object, error: BaseException) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        # the text of an exception may quote what it failed on: only its type and place are logged
        logger.error("%s failed: %s at %s:%s", name, type(error).__name__, frame.filename, frame.lineno)
        if isinstance(data, http.HTTPFlow) and (exchange := self._exchanges.get(data)) is not None:
            exchange.fault = f"{name}: {type(error).__name__}"
            exchange.release = None
        if isinstance(data, layer.NextLayer):
            self._cut(data.context.client)  # without a layer it would wait for ever
        self._refuse(
            data, Refusal("gateway-fault", "the gateway failed", status=503, code=GATEWAY_FAULT, retryable=True)
        )

    def _refuse(self, data: object, refusal: Refusal) -> None:
        match data:
            case http.HTTPFlow():
                exchange = self._exchanges.get(data)
                if exchange is not None:
                    exchange.refusal = refusal
                    exchange.release = None
                is_connect = data.request.method == "CONNECT"
                data.response = connect_answer(refusal) if is_connect else answer(refusal, exchange)
            case server_hooks.ServerConnectionHookData():
                data.server.error = refusal.message
            case connection.Client():
                data.error = refusal.message
            case _:
                # TLS set-up and layer choice: stop here, so that no later addon supplies a default
                raise exceptions.AddonHalt


async def _stop(data: object) -> None:
    """Takes everything out of a flow's newest message."""
    logger.error("something that is not HTTP was stopped: %s", type(data).__name__)
    match data:
        case dns.DNSFlow():
            data.response = None
            data.error = flow.Error("not relayed")
        case tcp.TCPFlow() | udp.UDPFlow():
            data.messages[-1].content = b""
        case http.HTTPFlow() if data.websocket is not None:
            data.websocket.messages[-1].drop()
        case _:
            raise exceptions.AddonHalt
