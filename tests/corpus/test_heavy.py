"""No body up to the limit holds the event loop: neither a request's nor an answer's, nor an event of a stream.

What is measured is processor time of the gateway between two turns of its loop, so that a busy machine does not count.
"""

import json
from pathlib import Path

import pytest
from ground import denied
from raw import call
from server import response, saying

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FAULTY = Path(__file__).parent / "faulty" / "gateway.py"
SIZE = 9_900_000
FULL = 95_000  # values just under the limit
HELD_SECONDS = 0.15  # three times what should hold: the machine that runs this has other work too

COSTLY = {
    "empty arrays": b"[" + b",".join([b"[]"] * (SIZE // 3)) + b"]",
    "integers": b"[" + b",".join([b"1"] * (SIZE // 2)) + b"]",
    "long integers": b"[" + b",".join([b"1" * 3990] * 2400) + b"]",
    "fractions": b"[" + b",".join([b"0.1"] * (SIZE // 4)) + b"]",
    "objects": b"[" + b",".join([b'{"a":1}'] * (SIZE // 8)) + b"]",
    "names": b"{" + b",".join(b'"%d":1' % number for number in range(800_000)) + b"}",
    "escapes": b'"' + b"\\n" * (SIZE // 2) + b'"',
    "unicode escapes": b'"' + b"\\u00e9" * (SIZE // 6) + b'"',
    "at signs": b'"' + b"@" * SIZE + b'"',
    "addresses": b'"' + b"a@b.cc " * (SIZE // 7) + b'"',
    "one text": b'"' + b"a" * SIZE + b'"',
    "two-byte letters": b'"' + "é".encode() * (SIZE // 2) + b'"',
    "escapes under the limit": b'"' + b'\\"' * 450_000 + b"a" * (SIZE - 900_000) + b'"',
    "arrays under the limit": b"[" + b",".join([b"[]"] * (FULL // 2)) + b"]",
    "names under the limit": b"{" + b",".join(b'"%d":1' % number for number in range(FULL // 2)) + b"}",
    "fractions under the limit": b"[" + b",".join([b"0.1"] * FULL) + b"]",
    "texts under the limit": b"[" + b",".join([b'"' + b"a" * 95 + b'"'] * FULL) + b"]",
    "addresses under the limit": b'"' + b"a@b.cc " * FULL + b'"',
    "JSON in a text": json.dumps("[" + ",".join(["[]"] * 40_000) + ',"a@b.cc"]').encode(),
}
IS_FINE = {"one text", "two-byte letters"} | {name for name in COSTLY if "under" in name}
EVENTS = {name: body for name, body in COSTLY.items() if len(body) < 900_000} | {
    "arrays": b"[" + b",".join([b"[]"] * 300_000) + b"]",
    "addresses": b'"' + b"a@b.cc " * 140_000 + b'"',
    "addresses in JSON in a text": json.dumps(json.dumps(["a@b.cc"] * 50_000)).encode(),
    "arrays under the limit of an event": b"[" + b",".join([b"[]"] * 12_000) + b"]",
    "names under the limit of an event": b"{" + b",".join(b'"%d":1' % number for number in range(12_000)) + b"}",
    "addresses under the limit of an event": b'"' + b"a@b.cc " * 4_900 + b'"',
    "a picture": b'"' + b"iVBORw0KGgoAAAANSUhEUgAA" * 40_000 + b'"',
}


@pytest.fixture(scope="module")
def beat(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("beat") / "held"


@pytest.fixture(scope="module")
def ground(place, beat):
    with place.running(script=FAULTY, COATCHECK_TEST_BEAT=str(beat)) as ground:
        ground.is_well()
        yield ground


@pytest.fixture
def held(beat, request):
    """Begins to measure; afterwards nothing may have held the loop."""
    beat.unlink(missing_ok=True)
    yield
    seconds = float(beat.read_text() or 0)
    print(f"{request.node.name}: held for {seconds * 1000:.0f} ms")
    assert seconds < HELD_SECONDS


@pytest.mark.parametrize("name", COSTLY)
def test_no_request_holds_the_event_loop(ground, held, name) -> None:
    body = call("get_order", {"here": 0}).replace(b"0}", COSTLY[name] + b"}")
    with ground.tunnel(timeout=60) as client:
        reply = client.outcome(ground.post(body))
    if name in IS_FINE:
        assert reply.status == 200
    elif reply.status != 200:
        denied(reply, 400, "too-complex")


@pytest.mark.parametrize("name", COSTLY)
def test_no_answer_holds_the_event_loop(ground, held, name) -> None:
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"here":%s}}}' % COSTLY[name]
    with ground.api.answering(saying(response(answer))), ground.tunnel(timeout=60) as client:
        reply = client.outcome(ground.post())
    if name in IS_FINE:
        assert reply.status == 200
    elif reply.status != 200:
        denied(reply, 502, {"server-failed", "unmaskable-response"})


@pytest.mark.parametrize("name", EVENTS)
def test_no_event_holds_the_event_loop(ground, held, name) -> None:
    event = b'data: {"jsonrpc":"2.0","id":1,"result":{"content":[%s]}}\n\n' % EVENTS[name]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    with ground.api.answering(saying(head + event, close=True)), ground.tunnel(timeout=60) as client:
        client.send(ground.post())
        said = client.rest()
    assert said.startswith(b"HTTP/1.1 200 ")
    passes = name == "a picture" or name.endswith("of an event")
    assert (b'"result"' in said) is passes
    assert (b'"reason":"server-failed"' in said) is not passes
