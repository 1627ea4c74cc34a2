"""Servers of the HTTP+SSE transport that misbehave, byte by byte: the client is told, and never hangs."""

import json
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from far_end import FarEnd, Heard, gateway_with
from raw import RawClient, Reply, call, head

from coatcheck.journal.read import records
from story.cast import Cast
from story.processes import Gateway

pytestmark = pytest.mark.e2e

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nAccepted"
END = b"0\r\n\r\n"


def chunk(*fields: str) -> bytes:
    data = ("\n".join(fields) + "\n\n").encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Old:
    """The far end: says `first` on a stream, `posted` to a POST, and then what was POSTed makes it say."""

    def __init__(self, cast: Cast) -> None:
        self.first: list[bytes] = [chunk("event: endpoint", "data: /m?sid=1")]
        self.posted: list[bytes] = [ACCEPTED]
        self.then: list[bytes] | None = None
        self.is_posted = threading.Event()
        self.far = FarEnd(cast.authority.server_cert("localhost", "127.0.0.1"), self._answer)

    def _answer(self, heard: Heard) -> Iterator[bytes]:
        if heard.first.startswith("POST"):
            self.is_posted.set()
            yield from self.posted
            if not self.posted:
                raise OSError("the connection ends")
            return
        yield STREAM
        yield from self.first
        self.is_posted.wait(10)
        yield from self.then if self.then is not None else [END]


@pytest.fixture(scope="module")
def gateways(cast: Cast) -> Iterator[tuple[Old, Gateway]]:
    """One far end, declared as two servers: the one at `/old` may speak the transport, that at `/new` not."""
    old = Old(cast)
    place = f'ca: "{cast.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"]'
    policy = f"""
coatcheck: 1
servers:
  old: {{url: "https://{old.far.authority}/old", legacy_sse: true, {place}}}
  new: {{url: "https://{old.far.authority}/new", {place}}}
  books: {{url: "https://{old.far.authority}/books", {place}}}
rules:
  - {{id: old, who: [group:ci], server: old, tools: ["*"], effect: allow}}
  - {{id: new, who: [group:ci], server: new, tools: ["*"], effect: allow}}
  - {{id: books, who: [group:ci], server: books, http: ["GET /books/**"], effect: allow}}
"""
    with old.far, gateway_with(cast, policy) as gateway:
        yield old, gateway


@pytest.fixture
def old(gateways: tuple[Old, Gateway]) -> Old:
    old, _ = gateways
    old.first, old.posted, old.then = [chunk("event: endpoint", "data: /m?sid=1")], [ACCEPTED], None
    old.is_posted.clear()
    return old


class Session:
    """A stream, and a connection for messages."""

    def __init__(self, cast: Cast, gateway: Gateway, authority: str) -> None:
        self.stream = RawClient(gateway, cast, authority=authority).tunnel(cast.token())
        self.messages = RawClient(gateway, cast, authority=authority).tunnel(cast.token())
        self.authority = authority
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.sock.close()
        self.messages.sock.close()

    def get(self, path: str = "/old", *more: str) -> Reply:
        accept = "Accept: text/event-stream"
        self.stream.send(head(f"GET {path} HTTP/1.1", f"Host: {self.authority}", accept, *more))
        return self.stream.read_head()

    def event(self) -> dict[str, str]:
        """The next event's fields."""
        while "\n\n" not in self.text:
            self.text += self.stream.read_chunk().decode()
        text, _, self.text = self.text.partition("\n\n")
        return dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)

    def rest(self) -> str:
        """Everything until the stream ends, however it does."""
        out = self.text.encode()
        try:
            while data := self.stream.read_chunk():
                out += data
        except (EOFError, OSError, ValueError):
            pass
        return out.decode()


@pytest.fixture
def session(cast: Cast, gateways: tuple[Old, Gateway]) -> Iterator[Session]:
    old, gateway = gateways
    with Session(cast, gateway, old.far.authority) as made:
        yield made
        old.is_posted.set()


def test_an_absolute_endpoint_of_the_servers_own_origin_is_given_as_a_path(old: Old, session: Session) -> None:
    old.first = [chunk("event: endpoint", f"data: https://{old.far.authority}/m?sid=2")]
    assert session.get().status == 200
    assert session.event() == {"event": "endpoint", "data": "/m?sid=2"}


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("https://attacker.example/m", id="another origin"),
        pytest.param("//attacker.example/m", id="another host"),
        pytest.param("http://{authority}/m", id="another scheme"),
        pytest.param("/new", id="another server"),
        pytest.param("/books/1", id="an API"),
        pytest.param("/m/../books", id="dot segments"),
        pytest.param("/m%2f..%2fbooks", id="encoded slashes"),
        pytest.param("", id="nothing"),
    ],
)
def test_an_endpoint_elsewhere_ends_the_stream_with_an_event_named_error(
    old: Old, session: Session, endpoint: str
) -> None:
    old.first = [chunk("event: endpoint", f"data: {endpoint.format(authority=old.far.authority)}")]
    assert session.get().status == 200
    text = session.rest()
    assert text.startswith("event: error\n")
    assert '"bad-endpoint"' in text
    assert "attacker" not in text
    assert session.stream.is_ended()


@pytest.mark.parametrize("cut", [1, 7, 20, 1000])
def test_without_legacy_sse_the_stream_is_405_however_it_is_cut(old: Old, session: Session, cut: int) -> None:
    data = b"event: endpoint\ndata: /m?sid=1\n\n"
    old.first = [b"%x\r\n%s\r\n" % (len(part := data[at : at + cut]), part) for at in range(0, len(data), cut)]
    reply = session.get("/new")
    assert reply.status == 405
    body = json.loads(session.stream._exactly(int(reply.headers["content-length"])))
    assert body["error"]["data"]["reason"] == "legacy-sse-refused"
    assert "legacy_sse: true" in body["error"]["message"]


def test_without_legacy_sse_a_stream_of_messages_goes_on_as_it_comes(old: Old, session: Session) -> None:
    told = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    old.first = [chunk(f"data: {told}")]
    assert session.get("/new").status == 200
    assert session.event() == {"data": told}


def test_an_endpoint_within_a_stream_of_a_newer_version_ends_it(old: Old, session: Session) -> None:
    assert session.get("/new", "MCP-Protocol-Version: 2025-11-25").status == 200
    assert '"legacy-sse-refused"' in session.rest()
    assert session.stream.is_ended()


def test_a_refused_stream_is_journaled_as_that(gateways: tuple[Old, Gateway], old: Old, session: Session) -> None:
    old.first = [chunk("event: endpoint", "data: https://attacker.example/m")]
    session.get()
    session.rest()
    _, gateway = gateways
    gateway.wait_for(
        lambda: "bad-endpoint" in [one["reason"] for one in records(gateway.state / "journal", kind="refusal")]
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", id="404"),
        pytest.param(b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", id="500"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: https://attacker.example/\r\nContent-Length: 0\r\n\r\n", id="302"
        ),
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
        pytest.param(b"", id="the connection ends"),
    ],
)
def test_a_message_that_the_server_did_not_take_is_told_on_the_stream(old: Old, session: Session, answer) -> None:
    old.posted = [answer] if answer else []
    old.then = []
    session.get()
    session.event()
    told = session.messages.post(call("get_order", call_id="c-1"), path="/m?sid=1")
    assert (told.status, told.body) == (202, b"")
    message = json.loads(session.event()["data"])
    assert (message["id"], message["error"]["code"]) == ("c-1", 5020)


def test_a_stream_that_the_server_ends_tells_every_request_that_waits(old: Old, session: Session) -> None:
    session.get()
    session.event()
    assert session.messages.post(call("get_order", call_id=5), path="/m?sid=1").status == 202
    message = json.loads(session.event()["data"])
    assert (message["id"], message["error"]["data"]["reason"]) == (5, "server-failed")


def test_a_stream_that_breaks_off_tells_every_request_that_waits(old: Old, session: Session) -> None:
    old.then = [b"zz\r\n"]
    session.get()
    session.event()
    assert session.messages.post(call("get_order", call_id=5), path="/m?sid=1").status == 202
    assert '"id":5' in session.rest()


def test_an_answer_to_what_nobody_asked_does_not_pass_and_no_answer_passes_twice(old: Old, session: Session) -> None:
    answers = [chunk("data: " + json.dumps({"jsonrpc": "2.0", "id": one, "result": {"n": one}})) for one in (6, 5, 5)]
    old.then = [*answers, END]
    session.get()
    session.event()
    session.messages.post(call("get_order", call_id=5), path="/m?sid=1")
    assert session.rest().count("result") == 1


def test_a_second_request_with_an_id_that_waits_is_refused_and_the_first_is_answered(
    old: Old, session: Session
) -> None:
    session.get()
    session.event()
    old.then = []
    assert session.messages.post(call("get_order", call_id=5), path="/m?sid=1").status == 202
    again = session.messages.post(call("get_order", call_id="5"), path="/m?sid=1")
    assert (again.status, again.reason_code) == (400, "bad-id")


def test_what_no_rule_lets_the_server_ask_is_a_ping_and_the_server_hears_of_the_denial(
    old: Old, session: Session
) -> None:
    asked = {"jsonrpc": "2.0", "id": "e-1", "method": "elicitation/create", "params": {"message": "your card number"}}
    old.first.append(chunk("data: " + json.dumps(asked)))
    old.then = []
    session.get()
    session.event()
    assert json.loads(session.event()["data"]) == {"jsonrpc": "2.0", "id": "e-1", "method": "ping"}
    reply = json.dumps({"jsonrpc": "2.0", "id": "e-1", "result": {}}).encode()
    before = len(old.far.heard)
    assert session.messages.post(reply, path="/m?sid=1").status == 202
    (heard,) = old.far.heard[before:]
    assert json.loads(heard.body)["error"]["data"]["reason"] == "policy-denied"
    again = session.messages.post(reply, path="/m?sid=1")
    assert (again.status, again.reason_code) == (400, "response-not-accepted")


def test_a_client_that_comes_back_after_an_event_begins_anew(old: Old, session: Session) -> None:
    before = len(old.far.heard)
    assert session.get("/old", "Last-Event-ID: ev-7").status == 200
    assert session.event()["event"] == "endpoint"
    assert "last-event-id" not in old.far.heard[before].headers


def test_arrays_are_refused(old: Old, session: Session) -> None:
    session.get()
    session.event()
    two = b"[" + call("get_order", call_id=1) + b"," + call("get_order", call_id=2) + b"]"
    refused = session.messages.post(two, path="/m?sid=1", MCP_Protocol_Version="2025-03-26")
    assert (refused.status, refused.reason_code) == (400, "batch-not-accepted")


def test_what_reaches_the_server_is_the_message_alone(old: Old, session: Session, cast: Cast) -> None:
    session.get()
    session.event()
    before = len(old.far.heard)
    session.messages.post(call("get_order"), path="/m?sid=1", Mcp_Session_Id="x", Last_Event_Id="y")
    (heard,) = [one for one in old.far.heard[before:] if one.first.startswith("POST")]
    assert heard.first == "POST /m?sid=1 HTTP/1.1"
    assert not {"mcp-session-id", "last-event-id", "authorization", "proxy-authorization"} & heard.headers.keys()
