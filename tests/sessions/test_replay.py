"""Conversations held again with a real server on loopback."""

import json
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.mcp.call import Json
from coatcheck.sessions.replay import READS, Replayed, replay

PAGES = {"fresh-2": ["b"]}


class Shop(BaseHTTPRequestHandler):
    """A small MCP server with sessions and pages. It keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    server: "ShopServer"

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path, dict(self.headers), None))
        self._answer(200, {"stock": 3})

    do_DELETE = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = json.loads(body)
        self.server.asked.append(("POST", self.path, {k.lower(): v for k, v in self.headers.items()}, message))
        first = message[0] if isinstance(message, list) else message
        if first["method"] == "initialize":
            self.server.count += 1
            self._answer(200, self._result(first), ("Mcp-Session-Id", f"fresh-{self.server.count}"))
        elif "id" not in first:
            self._answer(202, None)
        elif isinstance(message, list):
            self._answer(200, [self._result(item) for item in message])
        else:
            self._answer(200, self._result(first))

    def _result(self, message: Mapping[str, Any]) -> dict[str, Any]:
        params = message.get("params", {})
        result: dict[str, Any] = {"of": message["method"], "name": params.get("name")}
        if message["method"] == "tools/list":
            result = (
                {"tools": PAGES[params["cursor"]]} if "cursor" in params else {"tools": ["a"], "nextCursor": "fresh-2"}
            )
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _answer(self, status: int, value: Json, *headers: tuple[str, str]) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class ShopServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shop)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.count = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def send(self, method: str, url: str, headers, body: bytes):
        target = urlsplit(url)
        connection = HTTPConnection("127.0.0.1", target.port or 80, timeout=60)
        connection.request(method, target.path, body, dict(headers))
        response = connection.getresponse()
        answer = response.status, response.getheaders(), response.read()
        connection.close()
        return answer


@pytest.fixture
def shop() -> Iterator[ShopServer]:
    with ShopServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def rpc(method: str, request_id: int | None = 1, **params: Json) -> dict[str, Json]:
    message: dict[str, Json] = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if request_id is None else message | {"id": request_id}


def ok(message: Mapping[str, Json], **result: Json) -> dict[str, Json]:
    params = message["params"]
    assert isinstance(params, dict)
    of: dict[str, Json] = {"of": message["method"], "name": params.get("name")}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result or of}


def asked(shop: ShopServer, message: dict[str, Json], **fields: object) -> dict[str, object]:
    answer = ok(message) if "id" in message else None
    return {"message": message, "answer": answer, "url": shop.url, "status": 200 if answer else 202, **fields}


def verdicts(done: list[Replayed]) -> list[bool | str | None]:
    return [item.skipped or item.same for item in done]


OLD = [("Mcp-Session-Id", "old-1"), ("MCP-Protocol-Version", "2025-11-25")]


def test_a_conversation_is_held_again_with_a_session_of_its_own(shop: ShopServer, record):
    session = record(
        asked(shop, rpc("initialize", 0, protocolVersion="2025-11-25"), answer_headers=OLD[:1]),
        asked(shop, rpc("notifications/initialized", None), headers=OLD),
        asked(shop, rpc("prompts/get", 2, name="greet"), headers=OLD),
    )
    done = list(replay(session, shop.send))
    assert verdicts(done) == [True, True, True]
    assert [item.title for item in done] == ["initialize", "notifications/initialized", "prompts/get greet"]
    (_, _, first, initialize), (_, _, second, _), (_, _, third, got) = shop.asked
    assert initialize == rpc("initialize", 0, protocolVersion="2025-11-25") | {"id": "replay-1"}
    assert [headers.get("mcp-session-id") for headers in (first, second, third)] == [None, "fresh-1", "fresh-1"]
    assert third["mcp-protocol-version"] == "2025-11-25"
    assert got == rpc("prompts/get", 2, name="greet")


def test_two_clients_in_one_record_keep_their_own_sessions(shop: ShopServer, record):
    session = record(
        *(
            asked(shop, rpc("initialize", 0), answer_headers=[("Mcp-Session-Id", old)])
            for old in ("old-1", "old-2")
        ),
        *(asked(shop, rpc("ping"), headers=[("mcp-session-id", old)]) for old in ("old-2", "old-1", "old-3")),
    )  # fmt: skip
    done = list(replay(session, shop.send))
    assert verdicts(done) == [True, True, True, True, "its MCP session was not opened again"]
    assert [headers.get("mcp-session-id") for _, _, headers, _ in shop.asked[2:]] == ["fresh-2", "fresh-1"]


def test_a_call_is_made_only_where_its_tool_is_named(shop: ShopServer, record):
    session = record(*(asked(shop, rpc("tools/call", name=name)) for name in ("get_stock", "get_price", "refund")))
    assert verdicts(list(replay(session, shop.send))) == ["its tool is not named"] * 3
    assert shop.asked == []
    assert verdicts(list(replay(session, shop.send, tools=["get_*"]))) == [True, True, "its tool is not named"]
    assert [message["params"]["name"] for *_, message in shop.asked] == ["get_stock", "get_price"]


@pytest.mark.parametrize("method", sorted(READS - {"initialize", "notifications/initialized", "tools/list"}))
def test_reads_are_always_sent(shop: ShopServer, record, method: str):
    assert verdicts(list(replay(record(asked(shop, rpc(method))), shop.send))) == [True]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"message": rpc("logging/setLevel")}, "not a read: logging/setLevel", id="another method"),
        pytest.param({"message": rpc("tasks/cancel", taskId="t")}, "not a read: tasks/cancel", id="a task"),
        pytest.param(
            {"message": rpc("notifications/cancelled", None)}, "a notification of its own moment", id="cancelled"
        ),
        pytest.param(
            {"message": {"jsonrpc": "2.0", "id": 1, "result": {}}},
            "an answer to the server, not a question",
            id="answer",
        ),
        pytest.param({"message": None, "http": "DELETE"}, "not a read: DELETE", id="the end of a session"),
        pytest.param({"message": {"x": 1}}, "not a read: POST", id="plain HTTP"),
        pytest.param({"message": None, "http": "GET"}, "a stream of events, not a question", id="a stream"),
        pytest.param({"message": rpc("ping"), "raw": b'{"jsonrpc":"2.0"'}, "not a read: POST", id="not JSON"),
        pytest.param(
            {"message": rpc("ping"), "raw": b"x" * 1_100_000}, "its body was cut when it was recorded", id="cut"
        ),
        pytest.param(
            {"message": rpc("ping"), "raw": b'[{"jsonrpc":"2.0","method":"ping","id":1},1]'},
            "some of its messages are not JSON-RPC",
            id="a mixed batch",
        ),
    ],
)  # fmt: skip
def test_what_is_not_sent_says_why(shop: ShopServer, record, fields, reason: str):
    (done,) = replay(record({"answer": {"x": 1}, "url": shop.url, **fields}), shop.send)
    assert (done.skipped, done.same, done.now) == (reason, None, "")
    assert shop.asked == []


@given(
    label=st.sampled_from(sorted(READS)),
    method=st.sampled_from(["tools/call", "resources/subscribe", "completion/complete", "x", ""]),
    in_batch=st.booleans(),
)
def test_a_record_that_calls_itself_a_read_is_judged_by_its_bytes(label: str, method: str, in_batch: bool):
    from datetime import UTC, datetime

    from coatcheck.sessions.body import Body
    from coatcheck.sessions.lines import CallLine, RequestLine
    from coatcheck.sessions.read import Exchange

    class Crafted:
        def exchanges(self):
            message: Json = rpc(method, name="refund")
            body = Body.of(json.dumps([message] if in_batch else message).encode())
            calls = (CallLine(label),)
            line = RequestLine(1, datetime.now(UTC), "POST", "http://x.test/", (), body, calls, "allow", ())
            yield Exchange(1, line)

    def send(*_: object):
        raise AssertionError("sent")

    (done,) = replay(Crafted(), send)  # type: ignore[arg-type]
    assert done.skipped


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_what_was_not_allowed_at_once_is_sent_only_where_it_is_named(shop: ShopServer, record, decision: str):
    session = record(
        asked(shop, rpc("tools/call", name="refund"), decision=decision),
        asked(shop, rpc("prompts/get", name="greet"), decision=decision),
    )
    reason = f"not allowed at once when it was recorded: {decision}"
    assert verdicts(list(replay(session, shop.send))) == [reason, reason]
    assert verdicts(list(replay(session, shop.send, tools=["refund"]))) == [True, reason]


def test_an_answer_that_differs_is_shown(shop: ShopServer, record):
    session = record(asked(shop, rpc("ping"), answer=ok(rpc("ping"), of="ping", name="before")))
    (done,) = replay(session, shop.send)
    assert (done.same, done.recorded) == (False, "200 result")
    assert done.now == '200 result; $.result.name: "before" is now null'


def test_without_a_recorded_answer_nothing_is_compared(shop: ShopServer, record):
    (done,) = replay(record(asked(shop, rpc("ping"), has_answer=False)), shop.send)
    assert (done.same, done.recorded, done.now, done.skipped) == (None, "no answer", "200 result", None)


def test_an_answer_recorded_as_a_stream_equals_the_same_result_as_json(shop: ShopServer, record):
    session = record(asked(shop, rpc("ping"), events=[json.dumps(ok(rpc("ping")))]))
    assert verdicts(list(replay(session, shop.send))) == [True]


def test_a_recorded_cursor_is_replaced_by_the_one_given_now(shop: ShopServer, record):
    first, second = rpc("tools/list"), rpc("tools/list", 2, cursor="old-2")
    session = record(
        asked(shop, first, answer=ok(first, tools=["a"], nextCursor="old-2")),
        asked(shop, second, answer=ok(second, tools=["b"])),
    )
    assert verdicts(list(replay(session, shop.send))) == [True, True]
    assert shop.asked[1][3]["params"] == {"cursor": "fresh-2"}


def test_a_batch_goes_if_all_of_it_may(shop: ShopServer, record):
    both: list[Json] = [rpc("ping", 1), rpc("tools/call", 2, name="refund")]
    answers: list[Json] = [ok(rpc("ping", 1)), ok(rpc("tools/call", 2, name="refund"))]
    session = record({"message": both, "answer": answers, "url": shop.url})
    assert verdicts(list(replay(session, shop.send))) == ["its tool is not named"]
    assert verdicts(list(replay(session, shop.send, tools=["refund"]))) == [True]


def test_plain_http_reads_are_sent(shop: ShopServer, record):
    session = record({
        "message": None, "http": "GET", "url": shop.url.replace("mcp", "stock"), "answer": {"stock": 3},
        "headers": [], "accepts": "application/json",
    })  # fmt: skip
    assert verdicts(list(replay(session, shop.send))) == [True]


def test_headers_of_one_connection_and_of_one_caller_are_left_out(shop: ShopServer, record):
    headers = [
        ("Authorization", "Bearer placeholder"), ("Cookie", "a=b"), ("Connection", "close, X-Hop"), ("X-Hop", "1"),
        ("Host", "elsewhere.test"), ("Content-Length", "9"), ("Proxy-Authorization", "Basic x"), ("Last-Event-ID", "7"),
        ("Mcp-Method", "ping"), ("Mcp-Name", "n"), ("MCP-Protocol-Version", "2026-07-28"), ("X-Kept", "1"),
    ]  # fmt: skip
    assert verdicts(list(replay(record(asked(shop, rpc("ping"), headers=headers)), shop.send))) == [True]
    got = shop.asked[0][2]
    assert not {"authorization", "cookie", "x-hop", "proxy-authorization", "last-event-id"} & got.keys()
    assert got["host"].startswith("127.0.0.1:")
    assert (got["mcp-method"], got["mcp-name"], got["mcp-protocol-version"]) == ("ping", "n", "2026-07-28")
    assert got["x-kept"] == "1"


def test_bodies_without_anything_of_one_conversation_are_sent_byte_for_byte(record):
    sent = []

    def send(_method: str, _url: str, _headers: object, body: bytes):
        sent.append(body)
        return 200, [], b""

    raw = b'{ "jsonrpc": "2.0", "id": 1.0e0, "method": "ping" }'.replace(b"1.0e0", b"7")
    list(replay(record({"message": rpc("ping"), "raw": raw}), send))
    assert sent == [raw]
