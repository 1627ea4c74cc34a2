"""Head and body in one write: the same bytes in the same order as mitmproxy's own, in fewer commands."""

from collections.abc import Callable

import pytest
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import Request, Response
from mitmproxy.options import Options
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server

from coatcheck.proxy import one_write

ORIGINAL = {Http1Client: Http1Client.send, Http1Server: Http1Server.send}
HEAD = b"\r\n\r\n"


@pytest.fixture(params=[True, False], ids=["ours", "mitmproxy's"])
def is_ours(request, monkeypatch) -> bool:
    """With and without: what both do is the law, where they differ is the saving."""
    if not request.param:
        for kind, send in ORIGINAL.items():
            monkeypatch.setattr(kind, "send", send)
    return request.param


@pytest.fixture(autouse=True)
def installed(monkeypatch) -> None:
    for kind, send in ORIGINAL.items():
        monkeypatch.setattr(kind, "send", send)
    one_write.install()


def context() -> Context:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    made = Context(client, Options())
    made.server = Server(address=("127.0.0.1", 3))
    made.server.state = ConnectionState.OPEN
    return made


def server(request: Request | None = None) -> Http1Server:
    """mitmproxy's side towards the client, where `request` has been read."""
    made = Http1Server(context())
    made.request = request or Request.make("POST", "http://shop.test/", b"", {})
    return made


def run(connection, *sent) -> list[bytes | str]:
    """Per write its bytes, per other command its name."""
    return [
        command.data if isinstance(command, commands.SendData) else type(command).__name__
        for event in sent
        for command in connection.send(event)
    ]


def answer(body: bytes, **headers: str) -> Response:
    return Response.make(200, body, {"content-length": str(len(body)), **headers})


def test_a_request_is_one_write(is_ours):
    request = Request.make("POST", "http://shop.test/x", b"the body", {})
    sent = run(
        Http1Client(context()),
        http.RequestHeaders(1, request, end_stream=False),
        http.RequestData(1, b"the body"),
        http.RequestEndOfMessage(1),
    )
    assert len(sent) == (1 if is_ours else 2)
    assert b"".join(sent).endswith(HEAD + b"the body")


def test_an_answer_is_one_write(is_ours):
    sent = run(
        server(),
        http.ResponseHeaders(1, answer(b"the body"), end_stream=False),
        http.ResponseData(1, b"the body"),
        http.ResponseEndOfMessage(1),
    )
    assert len(sent) == (1 if is_ours else 2)
    assert b"".join(sent).endswith(HEAD + b"the body")


@pytest.mark.usefixtures("is_ours")
def test_a_message_without_a_body_leaves_at_its_head():
    request = Request.make("GET", "http://shop.test/x", b"", {})
    assert run(Http1Client(context()), http.RequestHeaders(1, request, end_stream=True))[0].endswith(HEAD)
    assert run(server(), http.ResponseHeaders(1, answer(b""), end_stream=True))[0].endswith(HEAD)


@pytest.mark.usefixtures("is_ours")
def test_the_head_of_a_stream_leaves_at_once():
    response = answer(b"", **{"transfer-encoding": "chunked"})
    response.stream = True
    connection = server()
    assert run(connection, http.ResponseHeaders(1, response, end_stream=False))[0].endswith(HEAD)
    assert run(connection, http.ResponseData(1, b"event")) == [b"5\r\nevent\r\n"]


@pytest.mark.usefixtures("is_ours")
@pytest.mark.parametrize(
    "event", [http.ResponseEndOfMessage(1), http.ResponseData(1, b"")], ids=lambda event: type(event).__name__
)
def test_a_head_whose_body_does_not_come_leaves_all_the_same(event):
    sent = run(server(), http.ResponseHeaders(1, answer(b"x"), end_stream=False), event)
    assert sent[0].endswith(HEAD)


@pytest.mark.usefixtures("is_ours")
def test_a_head_leaves_before_its_connection_closes():
    error = http.ResponseProtocolError(1, "over", http.ErrorCode.GENERIC_SERVER_ERROR)
    sent = run(server(), http.ResponseHeaders(1, answer(b"x"), end_stream=False), error)
    assert sent[0].endswith(HEAD)
    assert sent[1] == "CloseConnection"


def test_a_request_that_is_broken_off_before_its_body_does_not_leave():
    request = Request.make("POST", "http://shop.test/x", b"the body", {"authorization": "Bearer secret"})
    error = http.RequestProtocolError(1, "over", http.ErrorCode.GENERIC_CLIENT_ERROR)
    assert run(Http1Client(context()), http.RequestHeaders(1, request, end_stream=False), error) == ["CloseConnection"]


@pytest.mark.usefixtures("is_ours")
def test_a_large_body_is_not_copied():
    body = b"x" * (one_write.SMALL + 1)
    sent = run(server(), http.ResponseHeaders(1, answer(body), end_stream=False), http.ResponseData(1, body))
    assert sent[0].endswith(HEAD)
    assert sent[1] is body


def test_the_second_message_of_a_connection_is_its_own():
    connection = server()
    many: Callable[[bytes], list[bytes | str]] = lambda body: run(  # noqa: E731
        connection,
        http.ResponseHeaders(connection.stream_id, answer(body), end_stream=False),
        http.ResponseData(connection.stream_id, body),
    )
    first, second = many(b"one"), many(b"two")
    assert first[0].endswith(HEAD + b"one")
    assert second[0].endswith(HEAD + b"two")
