"""Record: what became of the exchange, in the journal, the session's recording and the metrics.

Law: each exchange has one outcome record, however it ended; content written here is already masked.
What is written of a whole answer is written when it is on its way, before the loop does anything else: the caller does
not wait for it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Sequence

from mitmproxy import http

from coatcheck.control.metrics import Metrics
from coatcheck.errors import Refusal
from coatcheck.exchange import Exchange, Exchanges
from coatcheck.http.paths import starred
from coatcheck.identity.caller import Caller
from coatcheck.journal.records import OutcomeName, outcome_record, refusal_record, run_of
from coatcheck.journal.writer import JournalWriter
from coatcheck.masking.masker import Masker
from coatcheck.masking.rules import REDACTED
from coatcheck.masking.strings import TooCostly
from coatcheck.mcp.call import Json
from coatcheck.mcp.size import check_size
from coatcheck.mcp.strict_json import dump_json, parse_json
from coatcheck.policy.decision import Allow, Decision, Hold
from coatcheck.policy.model import Policy
from coatcheck.proxy.hang_up import TIMED_OUT
from coatcheck.proxy.inspect import LARGE
from coatcheck.proxy.maskers import Maskers
from coatcheck.sessions.recorder import SessionKey, SessionRecorder

logger = logging.getLogger("coatcheck")

_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
"""Headers whose values are never recorded: what a caller brings of its own is no more ours to keep than the vault's."""


class Record:
    """Last stage on the way back, before the release on the way there: opens the recording, ends the exchange."""

    def __init__(
        self,
        exchanges: Exchanges,
        journal: JournalWriter,
        recorder: SessionRecorder,
        maskers: Maskers,
        metrics: Metrics,
    ) -> None:
        self._exchanges = exchanges
        self._journal = journal
        self._recorder = recorder
        self._maskers = maskers
        self._metrics = metrics

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Opens the recording of a request that is about to be released."""
        exchange = self._exchanges.get(flow)
        return self._begin(flow, exchange) if exchange is not None and exchange.writing is not None else None

    def _begin(self, flow: http.HTTPFlow, exchange: Exchange) -> Awaitable[None] | None:
        """A recording for whatever was understood and has a caller: also what was then denied."""
        if exchange.recording is not None or exchange.caller is None or exchange.server is None or not exchange.calls:
            return None
        body = flow.request.data.content or b""
        if len(body) > LARGE:
            return self._begin_large(flow, exchange, body)
        self._open(flow, exchange, self._masked_body(exchange, body))
        return None

    async def _begin_large(self, flow: http.HTTPFlow, exchange: Exchange, body: bytes) -> None:
        self._open(flow, exchange, await asyncio.to_thread(self._masked_body, exchange, body))

    def _open(self, flow: http.HTTPFlow, exchange: Exchange, body: bytes) -> None:
        assert exchange.caller is not None
        assert exchange.server is not None
        key = SessionKey(exchange.caller.name, exchange.caller.token_id, exchange.server.name)
        exchange.recording = self._recorder.begin(
            key,
            issuer=exchange.caller.issuer,
            subject=exchange.caller.subject,
            url=exchange.server.url,
            policy=exchange.policy.sha256,
            run=run_of(exchange.caller.claims),
        )
        exchange.recording.request(
            method=flow.request.method,
            url=f"{exchange.target}{starred(flow.request.path)}",
            headers=_pairs(flow.request.headers),
            body=body,
            calls=exchange.calls,
            decision=decision_word(exchange.decision),
            rules=_rules(exchange),
            approval=exchange.approval,
        )

    def _masked_body(self, exchange: Exchange, body: bytes) -> bytes:
        assert exchange.server is not None
        masker = self._maskers.get(exchange.policy, exchange.server.name)
        if not masker or not body:
            return body
        inspected = exchange.inspected
        value: Json = None
        if inspected is not None and inspected.value is not None and body is inspected.body:
            value = inspected.value
        try:
            return self._masked_by(masker, body, value, is_message=exchange.is_mcp)
        except TooCostly:
            return REDACTED.encode()

    @staticmethod
    def _masked_by(masker: Masker, body: bytes, value: Json, *, is_message: bool) -> bytes:
        """`body` masked; `value` is what it was read to, where that is at hand."""
        if value is None:
            try:
                check_size(body)
                value = parse_json(body)
            except Refusal:
                return masker.mask_text(body.decode("utf-8", "replace"), Counter()).encode()
        mask = masker.mask_message if is_message else masker.mask_json
        masked = mask(value, Counter(), written=body)
        return body if masked is value else dump_json(masked)

    def response(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """The exchange was answered, by the server or by a refusal."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.finished or not flow.live:
            return None
        begun = self._begin(flow, exchange)
        if begun is not None:
            return self._close_after(begun, flow, exchange)
        self._close_soon(flow, exchange)
        return None

    async def _close_after(self, begun: Awaitable[None], flow: http.HTTPFlow, exchange: Exchange) -> None:
        await begun
        self._close_soon(flow, exchange)

    def _close_soon(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Closes it at the loop's next turn; mitmproxy sends what the hooks leave of an answer in this one."""
        exchange.is_answered = True
        asyncio.get_running_loop().call_soon(self._close_safely, flow, exchange)

    def _close_safely(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """No hook is around this any more: what goes wrong is told here, in words that quote nothing."""
        try:
            if not exchange.finished:
                self._close(flow, exchange)
        except Exception as error:  # noqa: BLE001 - as in `fail_closed.py`
            logger.error("exchange %s is not recorded to its end: %s", exchange.id, type(error).__name__)  # noqa: TRY400
            exchange.finished = True

    def _close(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        assert flow.response is not None
        if exchange.recording is not None:
            body = b"" if exchange.streaming else flow.response.raw_content or b""
            exchange.recording.response(flow.response.status_code, _pairs(flow.response.headers), body)
        exchange.bytes_sent = exchange.bytes_sent or len(flow.response.raw_content or b"")
        self._finish(exchange, flow.response.status_code, "answered")

    def error(self, flow: http.HTTPFlow) -> None:
        """The exchange broke off."""
        exchange = self._exchanges.get(flow)
        if exchange is None or exchange.is_answered or exchange.finished:
            return
        message = flow.error.msg if flow.error else ""
        has_left = "disconnected" in message.lower() or "killed" in message.lower()
        if flow.client_conn.error == TIMED_OUT and flow.response is None:
            has_left = False  # it was waiting, for a server that does not answer
        self._finish(exchange, None, "client-left" if has_left else "server-failed")

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """A CONNECT was refused."""
        exchange = self._exchanges.get(flow)
        if exchange is not None and not exchange.finished and flow.response is not None:
            self._finish(exchange, flow.response.status_code, "refused")

    def refused_ask(self, exchange: Exchange, refusal: Refusal, method: str) -> None:
        """The server asked its client `method`, which no rule lets it ask: of this exchange, which goes on.

        Where it only observes, the client was asked.
        """
        record = refusal_record(
            exchange=exchange.id,
            caller=exchange.caller,
            target=str(exchange.target),
            refusal=refusal,
            policy=exchange.policy.sha256,
            was_served=exchange.observes,
            asked=method,
        )
        self._journal.append_later("refusal", record)

    def refused_head(self, refusal: Refusal) -> None:
        """A head that never became an exchange."""
        record = refusal_record(exchange="-", caller=None, target="-", refusal=refusal, policy=None)
        self._journal.append_later("refusal", record)
        self._metrics.finished(server="-", outcome="refused", seconds=0.0, scrubbed=0)

    def refused_token(self, refusal: Refusal, caller: Caller | None, policy: Policy) -> None:
        """A token that the control port does not exchange. No request was sent for it, so there is no exchange."""
        record = refusal_record(exchange="-", caller=caller, target="/token", refusal=refusal, policy=policy.sha256)
        self._journal.append_later("refusal", record)

    def _finish(self, exchange: Exchange, status: int | None, outcome: OutcomeName) -> None:
        exchange.finished = True
        if exchange.fault is not None:
            outcome = "fault"
        elif exchange.refusal is not None:
            outcome = "refused"
        target = str(exchange.target) if exchange.target else "-"
        if exchange.refusal is not None:
            record = refusal_record(
                exchange=exchange.id,
                caller=exchange.caller,
                target=target,
                refusal=exchange.refusal,
                policy=exchange.policy.sha256,
                shadow=exchange.shadow,
            )
            self._journal.append_later("refusal", record)
        seconds = time.monotonic() - exchange.started
        if exchange.release is not None or exchange.sent:
            self._journal.append_later(
                "outcome",
                outcome_record(
                    exchange=exchange.id,
                    status=status,
                    outcome=outcome,
                    milliseconds=round(seconds * 1000, 1),
                    masked=exchange.masked,
                    scrubbed=Counter(f"{hit.secret}:{hit.encoding}" for hit in exchange.scrubbed),
                    bytes_sent=exchange.bytes_sent,
                    session=exchange.recording.session if exchange.recording else None,
                ),
            )
        if exchange.recording is not None:
            exchange.recording.end(outcome)
        server = exchange.server.name if exchange.server else "-"
        self._metrics.finished(server=server, outcome=outcome, seconds=seconds, scrubbed=len(exchange.scrubbed))


def decision_word(decision: Decision | None) -> str:
    """`allow`, `approve` or `deny`: the effect that was applied."""
    match decision:
        case Allow():
            return "allow"
        case Hold():
            return "approve"
        case _:
            return "deny"


def _rules(exchange: Exchange) -> Sequence[str]:
    return exchange.decision.rules if exchange.decision is not None else ()


def _pairs(headers: http.Headers) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), "***" if name.lower() in _CREDENTIALS else value.decode("latin-1"))
        for name, value in headers.fields
    ]
