"""An answer that is not one well-formed final response is a 502 in the caller's own terms, and never a hang."""

import pytest
from ground import denied
from raw import call
from server import response, saying

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
GOOD = response(ANSWER)
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def asked(ground, *pieces: bytes, close: bool = False):
    """What the caller gets for such an answer to one call; None for the end of the connection."""
    with ground.api.answering(saying(*pieces, close=close)), ground.tunnel() as client:
        return client.outcome(ground.post(call("get_order", call_id="mine")))


@pytest.fixture(autouse=True)
def the_good_answer_passes(ground):
    """Before and after each of these the same answer, well-formed, reaches the caller."""
    good = GOOD.replace(b'"id":1', b'"id":"mine"').replace(b"Content-Length: 48", b"Content-Length: 53")
    assert asked(ground, good).json["result"] == {"content": []}
    yield
    assert asked(ground, good).json["result"] == {"content": []}


INTERIM = {
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
    "two 103": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2,
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "199": b"HTTP/1.1 199 What\r\n\r\n",
}


@pytest.mark.attack("HTTP-65")
@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "in two"])
def test_an_interim_response_is_never_the_answer(ground, interim, together) -> None:
    pieces = [interim + GOOD] if together else [interim, GOOD]
    reply = asked(ground, *pieces)
    denied(reply, 502, "server-failed")
    assert reply.json["id"] == "mine"
    assert "link" not in reply.headers


@pytest.mark.attack("HTTP-65")
def test_an_interim_response_and_nothing_more_is_a_failed_server(ground) -> None:
    denied(asked(ground, INTERIM["103"], close=True), 502, "server-failed")


BROKEN = {
    "length and chunked": JSON + b"Content-Length: 48\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": JSON + b"Content-Length: 48\r\nContent-Length: 2\r\n\r\n" + ANSWER,
    "a length that is none": JSON + b"Content-Length: x\r\n\r\n" + ANSWER,
    "a negative length": JSON + b"Content-Length: -1\r\n\r\n" + ANSWER,
    "a signed length": JSON + b"Content-Length: +48\r\n\r\n" + ANSWER,
    "a list of lengths": JSON + b"Content-Length: 48, 48\r\n\r\n" + ANSWER,
    "an unknown transfer encoding": JSON
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER),
    "a short body": JSON + b"Content-Length: 1000\r\n\r\n" + ANSWER,
    "a chunk cut short": JSON + b"Transfer-Encoding: chunked\r\n\r\n100\r\n" + ANSWER,
    "no last chunk": JSON + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(ANSWER), ANSWER),
    "a bad chunk size": JSON + b"Transfer-Encoding: chunked\r\n\r\n0x30\r\n%s\r\n0\r\n\r\n" % ANSWER,
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a status that is none": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "a status too small": b"HTTP/1.1 99 What\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICY": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "binary": bytes(range(256)),
    "nothing": b"",
    "half a head": JSON,
    "a CR in a header": JSON + b"X-A: b\rSet-Cookie: c\r\nContent-Length: 48\r\n\r\n" + ANSWER,
    "a NUL in a header": JSON + b"X-A: b\0c\r\nContent-Length: 48\r\n\r\n" + ANSWER,
    "no colon": JSON + b"X-A\r\nContent-Length: 48\r\n\r\n" + ANSWER,
    "a space before the colon": JSON + b"X-A : b\r\nContent-Length: 48\r\n\r\n" + ANSWER,
    "a header of 1 MB": JSON + b"X-A: %s\r\nContent-Length: 48\r\n\r\n" % (b"a" * 1_000_000) + ANSWER,
    "20000 headers": JSON + b"X-A: b\r\n" * 20_000 + b"Content-Length: 48\r\n\r\n" + ANSWER,
    "a head without end": JSON + b"X-A: b\r\n" * 20_000,
    "JSON that is none": response(b"{"),
    "HTML": response(b"<h1>hello</h1>", kind="text/html"),
    "no type": b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n" + ANSWER,
    "two types": response(ANSWER, "Content-Type: text/html"),
}


@pytest.mark.attack("HTTP-67")
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_is_not_well_formed_is_withheld(ground, answer) -> None:
    reply = asked(ground, answer, close=True)
    denied(reply, 502)
    assert reply.json["id"] == "mine"
    assert set(reply.headers) <= {"content-type", "content-length", "cache-control", "connection", "date"}


@pytest.mark.attack("HTTP-67")
@pytest.mark.parametrize("extra", [GOOD, b"HTTP/1.1 200 OK\r\n\r\n", b"x"], ids=["a second answer", "a head", "a byte"])
def test_what_follows_an_answer_is_not_given_to_the_next_request(ground, extra) -> None:
    with ground.tunnel() as client:
        with ground.api.answering(saying(response(ANSWER.replace(b'"id":1', b'"id":"first"')) + extra)):
            assert client.outcome(ground.post(call("get_order", call_id="first"))).json["id"] == "first"
        reply = client.outcome(ground.post(call("get_order", call_id="second")))
        assert (reply.json["id"], reply.json["result"]) == ("second", {"content": []})
    ground.is_well()


@pytest.mark.attack("HTTP-38")
@pytest.mark.parametrize(
    "trailer", [b"X-A: b\r\n", b"X-A: b\r\nX-B: c\r\n", b"Set-Cookie: a=b\r\n"], ids=["one", "two", "a cookie"]
)
@pytest.mark.parametrize("announced", [b"", b"Trailer: X-A\r\n"], ids=["unannounced", "announced"])
def test_trailers_of_an_answer_never_reach_the_caller(ground, trailer, announced) -> None:
    body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(ANSWER), ANSWER, trailer)
    answer = saying(JSON + announced + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    with ground.api.answering(answer), ground.tunnel() as client:
        reply = client.outcome(ground.post())
        assert (reply.status, reply.json["result"]) == (200, {"content": []})
        assert not {"x-a", "x-b", "set-cookie", "trailer"} & reply.headers.keys()
        assert b"X-A" not in reply.body + client.buffer
        assert b"Cookie" not in client.buffer
    ground.is_well()


CONNECTION = (
    'Alt-Svc: h3=":443"', "Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: timeout=5", "Trailer: X-A",
    "Proxy-Authenticate: Basic realm=x", "Proxy-Connection: keep-alive", "Upgrade: h2c",
)  # fmt: skip


@pytest.mark.attack("HTTP-34", "HTTP-67")
@pytest.mark.parametrize("more", [(), ("Connection: Content-Type, Content-Length",)], ids=["plain", "a body's listed"])
def test_what_a_server_says_to_its_connection_alone_does_not_reach_the_caller(ground, more) -> None:
    good = response(ANSWER.replace(b'"id":1', b'"id":"mine"'), *CONNECTION, *more, "X-Kept: 1")
    reply = asked(ground, good)
    assert reply.json["result"] == {"content": []}
    assert reply.headers.keys() == {"content-type", "content-length", "x-kept"}


@pytest.mark.attack("HTTP-67")
def test_a_failed_server_is_journaled_and_the_next_request_is_answered(ground) -> None:
    with ground.watch(refusals=None, arrive=1) as watch:
        denied(asked(ground, BROKEN["not HTTP"], close=True), 502)
    outcomes = {record["exchange"]: record["outcome"] for record in watch.records("outcome")}
    assert "server-failed" in outcomes.values()


@pytest.mark.attack("MASK-22")
@pytest.mark.parametrize(
    "line",
    [
        "X-Owner: %s",
        "Link: <https://shop.example/?of=%s>; rel=next",
        'X-Who: {"mail": "%s"}',
        "Set-Cookie: of=%s; Secure",
    ],
)
def test_no_header_carries_past_what_a_mask_covers(ground, line) -> None:
    answer = ANSWER.replace(b'"id":1', b'"id":"mine"')
    name = line.partition(":")[0].lower()
    reply = asked(ground, response(answer, line % "ann@example.com"))
    assert reply.json["result"] == {"content": []}
    assert "ann@" not in str(reply.headers)
    assert "[redacted]" in reply.headers[name]
    assert asked(ground, response(answer, line % "ann")).headers[name] == (line % "ann").partition(": ")[2]
    sessions = (ground.state / "sessions").rglob("*.jsonl")
    assert not any(b"ann@example.com" in session.read_bytes() for session in sessions)


def test_no_reason_phrase_carries_past_what_a_mask_covers(ground) -> None:
    reply = asked(ground, response(ANSWER.replace(b'"id":1', b'"id":"mine"'), status="200 for ann@example.com"))
    assert (reply.status, reply.reason) == (200, "for [redacted]")
