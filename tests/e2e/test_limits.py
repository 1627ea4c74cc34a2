"""What one caller may ask of the gateway is bounded: calls in flight, the time of a head, its size, and memory."""

import json
import threading
import time
from collections.abc import Iterator

import pytest
from far_end import FarEnd, Heard, gateway_with, json_answer
from raw import RawClient, call, head, proxy_authorization

from bench_lib.soak import resident_bytes
from story.processes import Gateway

pytestmark = pytest.mark.e2e

MEBIBYTE = 1024 * 1024
HEAD_SECONDS = 1.0
STREAM_BYTES = 200 * MEBIBYTE
POLICY = """
coatcheck: 1
servers:
  slow: {{url: "https://{authority}/mcp", ca: "{ca}", addresses: [127.0.0.0/8, "::1/128"]}}
identities:
  other: {{issuer: ci, claims: {{repository_id: "2"}}, groups: [ci], owner: other@shop.example}}
rules:
  - {{id: waits, who: [group:ci], server: slow, tools: [wait, answer, stream], effect: allow}}
"""


class Slow:
    """Answers `wait` once `go` is set, `stream` with events without end, anything else at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.streamed = 0

    def __call__(self, heard: Heard) -> Iterator[bytes]:
        asked = json.loads(heard.body)
        tool = asked["params"]["name"]
        if tool == "stream":
            yield from self._stream()
            return
        if tool == "wait":
            self.waiting.release()
            self.go.wait(20)
        yield json_answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": []}}).encode())

    def _stream(self) -> Iterator[bytes]:
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 60_000}}
        event = f"data: {json.dumps(note)}\n\n".encode()
        chunk = f"{len(event):x}\r\n".encode() + event + b"\r\n"
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield chunk
            self.streamed += len(chunk)


@pytest.fixture(scope="module")
def slow():
    slow = Slow()
    yield slow
    slow.go.set()


@pytest.fixture(scope="module")
def far(cast, slow):
    with FarEnd(cast.authority.server_cert("localhost", "127.0.0.1"), slow) as far:
        yield far


@pytest.fixture(scope="module")
def gateway(cast, far):
    base = cast.policy_text().replace("gateway:\n", "gateway:\n  max_in_flight: 2\n")
    assert "max_in_flight" in base
    policy = POLICY.format(authority=far.authority, ca=cast.authority.ca_pem)
    script = f"from coatcheck.proxy import read_head\n\nread_head.HEAD_SECONDS = {HEAD_SECONDS}\n"
    with gateway_with(cast, policy, base=base, script=script) as gateway:
        yield gateway


@pytest.fixture
def client(cast, gateway, far):
    with RawClient(gateway, authority=far.authority) as client:
        yield client


def is_well(cast, gateway: Gateway, far: FarEnd) -> bool:
    """Whether one good call is answered."""
    with RawClient(gateway, authority=far.authority) as client:
        return client.tunnel(cast.token()).post(call("answer", call_id="well")).json["id"] == "well"


# -- in flight --------------------------------------------------------------------------------------------------------


def test_one_call_too_many_is_refused_and_works_again_afterwards(cast, gateway, far, slow) -> None:
    slow.go.clear()
    clients = [RawClient(gateway, authority=far.authority).tunnel(cast.token()) for _ in range(3)]
    try:
        before = len(far.heard)
        for at, waiting in enumerate(clients[:2]):
            waiting.send(_post(waiting, call("wait", call_id=at)))
            assert slow.waiting.acquire(timeout=60)
        refused = clients[2].post(call("answer", call_id="third"))
        assert refused.status == 429
        assert refused.json["error"]["code"] == 4290
        assert refused.json["error"]["data"]["reason"] == "too-many-requests"
        assert refused.json["error"]["data"]["retryable"] is True
        with RawClient(gateway, authority=far.authority) as other:
            token = cast.token(repository_id="2")
            assert other.tunnel(token).post(call("answer", call_id="another caller")).status == 200
        assert len(far.heard) == before + 3
        slow.go.set()
        assert [waiting.read().json["id"] for waiting in clients[:2]] == [0, 1]
        assert is_well(cast, gateway, far)
    finally:
        slow.go.set()
        for each in clients:
            each.sock.close()


def test_a_refused_call_carries_its_callers_id(cast, gateway, far, slow) -> None:
    slow.go.clear()
    clients = [RawClient(gateway, authority=far.authority).tunnel(cast.token()) for _ in range(3)]
    try:
        for waiting in clients[:2]:
            waiting.send(_post(waiting, call("wait")))
            assert slow.waiting.acquire(timeout=60)
        assert clients[2].post(call("answer", call_id="third")).json["id"] == "third"
        slow.go.set()
        assert [waiting.read().status for waiting in clients[:2]] == [200, 200]
    finally:
        slow.go.set()
        for each in clients:
            each.sock.close()


def test_clients_that_left_do_not_count(cast, gateway, far, slow) -> None:
    slow.go.clear()
    for _ in range(2):
        with RawClient(gateway, authority=far.authority) as client:
            client.tunnel(cast.token())
            client.send(_post(client, call("wait")))
            assert slow.waiting.acquire(timeout=60)
    slow.go.set()
    gateway.wait_for(lambda: is_well(cast, gateway, far))


def _post(client: RawClient, body: bytes) -> bytes:
    lines = ["POST /mcp HTTP/1.1", f"Host: {client.authority}", "Content-Type: application/json"]
    return head(*lines, "Accept: application/json, text/event-stream", f"Content-Length: {len(body)}") + body


# -- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True], ids=["at the proxy", "in a tunnel"])
def test_a_head_that_trickles_is_cut(cast, gateway, far, client, inside) -> None:
    if inside:
        client.tunnel(cast.token())
    began = time.monotonic()
    slowly = b"GET /mcp HTTP/1.1\r\nX-Slow: " if inside else b"GET http://localhost/ HTTP/1.1\r\nX-Slow: "
    client.send(slowly)
    client.sock.settimeout(0.1)
    ended = False
    while not ended and time.monotonic() - began < 5 * HEAD_SECONDS:
        try:
            client.send(b"a")
            ended = not client.sock.recv(1)
        except TimeoutError:
            continue
        except OSError:
            ended = True
    assert ended
    assert time.monotonic() - began < 3 * HEAD_SECONDS
    assert is_well(cast, gateway, far)


def test_a_client_that_says_nothing_is_cut(cast, gateway, far, client) -> None:
    assert client.is_ended(3 * HEAD_SECONDS)


def test_a_tunnel_in_which_tls_trickles_is_cut(cast, gateway, far, client) -> None:
    assert client.connect(cast.token()).status == 200
    client.send(b"\x16\x03\x01\x02\x00\x01")
    assert client.is_ended(3 * HEAD_SECONDS)


def test_a_kept_connection_may_rest_between_requests(cast, client) -> None:
    """The control of the ones above: it is heads that must hurry."""
    client.tunnel(cast.token())
    assert client.post(call("answer", call_id=1)).json["id"] == 1
    assert not client.is_ended(1.5 * HEAD_SECONDS)
    client.sock.settimeout(10)
    assert client.post(call("answer", call_id=2)).json["id"] == 2


@pytest.mark.parametrize("inside", [False, True], ids=["at the proxy", "in a tunnel"])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"X-Large: {'a' * 200_000}"], id="one large header"),
        pytest.param([f"X-{n}: {'a' * 1000}" for n in range(190)], id="many headers"),
        pytest.param([f"X-{n}: a" for n in range(300)], id="too many headers"),
    ],
)
def test_a_head_that_is_too_large_is_refused(cast, gateway, far, client, inside, lines) -> None:
    before = len(far.heard)
    if inside:
        client.tunnel(cast.token())
    first = "GET /mcp HTTP/1.1" if inside else f"CONNECT {far.authority} HTTP/1.1"
    reply = client.outcome(head(first, f"Host: {far.authority}", *lines))
    assert reply is None or reply.status == 431
    assert len(far.heard) == before
    assert is_well(cast, gateway, far)


def test_a_head_of_allowed_size_passes(cast, client) -> None:
    client.tunnel(cast.token())
    assert client.post(call("answer"), X_Large="a" * 60_000).status == 200


@pytest.mark.parametrize("inside", [False, True], ids=["at the proxy", "in a tunnel"])
def test_a_token_of_5_megabytes_is_refused(cast, gateway, far, client, inside) -> None:
    before = rss(gateway)
    large = "a" * 5 * MEBIBYTE
    if inside:
        client.tunnel(cast.token())
        lines = ["GET /mcp HTTP/1.1", f"Host: {far.authority}", f"Authorization: Bearer {large}"]
    else:
        lines = [f"CONNECT {far.authority} HTTP/1.1", f"Host: {far.authority}", proxy_authorization(large)]
    reply = client.outcome(head(*lines))
    assert reply is None or reply.status == 431
    assert rss(gateway) - before < 20 * MEBIBYTE
    assert is_well(cast, gateway, far)


# -- streams ----------------------------------------------------------------------------------------------------------


def rss(gateway: Gateway) -> int:
    """Bytes of memory the gateway's process holds."""
    return resident_bytes(gateway.pid)


@pytest.mark.parametrize("size", [STREAM_BYTES], ids=["200 MB"])
def test_a_stream_without_end_takes_no_more_memory_the_longer_it_lasts(cast, gateway, far, client, slow, size) -> None:
    client.tunnel(cast.token())
    client.send(_post(client, call("stream")))
    assert client.read_head().status == 200
    client.timeout = 20
    received = 0
    client.buffer = b""
    while received < 10 * MEBIBYTE:
        received += len(client.sock.recv(262_144))
    before = rss(gateway)
    while received < size:
        data = client.sock.recv(262_144)
        assert data, "the stream ended"
        received += len(data)
    after = rss(gateway)
    assert after - before < 20 * MEBIBYTE
    client.sock.close()
    assert is_well(cast, gateway, far)


def test_a_client_that_does_not_read_holds_the_server_back(cast, gateway, far, slow) -> None:
    before = rss(gateway)
    with RawClient(gateway, authority=far.authority) as client:
        client.tunnel(cast.token())
        client.send(_post(client, call("stream")))
        assert client.read_head().status == 200
        seen = -1
        deadline = time.monotonic() + 10
        while seen != slow.streamed and time.monotonic() < deadline:
            seen = slow.streamed
            time.sleep(0.3)  # the far end must come to rest
        assert seen == slow.streamed, "the gateway takes in what nobody reads"
        assert rss(gateway) - before < 40 * MEBIBYTE
    assert is_well(cast, gateway, far)
