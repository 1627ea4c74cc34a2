"""A head that two parsers could read as two is refused, and what could mislead a server does not leave."""

import pytest
from ground import denied
from raw import call, head

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

BODY = call("get_order", {"order_id": "A"})
SIZE = str(len(BODY))

FOLDED = {
    "a length": b"X-A: 1\r\n Content-Length: 2",
    "a tab": b"X-A: 1\r\n\tb",
    "an empty fold": b"X-A: 1\r\n ",
    "a token": b"Authorization: Bearer\r\n a.b.c",
    "the first line": b" X-A: 1",
}


@pytest.mark.attack("HTTP-29")
@pytest.mark.parametrize("line", FOLDED.values(), ids=FOLDED)
def test_a_folded_header_is_refused(ground, line) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=[line])), 400)
        assert client.is_ended()


@pytest.mark.attack("HTTP-29")
def test_a_header_folded_before_the_first_is_refused(ground) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n X: y\r\n", 1)), 400)


def with_line_ends(message: bytes, old: bytes, new: bytes, count: int) -> bytes:
    top, end, body = message.partition(b"\r\n\r\n")
    return (top + end).replace(old, new, count) + body


@pytest.mark.attack("HTTP-31")
@pytest.mark.parametrize("count", [1, 2, 99], ids=["the first line", "two lines", "every line"])
@pytest.mark.parametrize("kind", ["tunnel", "proxy"])
def test_lines_that_end_in_a_bare_line_feed_are_refused(ground, count, kind) -> None:
    message = ground.post() if kind == "tunnel" else ground.get(ground.rest_url())
    with ground.watch(kind), ground.tunnel() if kind == "tunnel" else ground.client() as client:
        denied(client.outcome(with_line_ends(message, b"\r\n", b"\n", count)), 400)
        assert client.is_ended()


CONTROLS = {
    "CR": b"\r",
    "CR at the end": b"a\r",
    "NUL": b"a\0b",
    "LF": b"a\nX-B: c",
    "vertical tab": b"a\x0bb",
    "DEL": b"a\x7fb",
    "BEL": b"\x07",
}


@pytest.mark.attack("HTTP-31")
@pytest.mark.parametrize("value", CONTROLS.values(), ids=CONTROLS)
def test_a_control_character_in_a_header_is_refused(ground, value) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=[b"X-A: " + value + b"b"])), 400)


BAD_LINES = {
    "a space before the colon": f"Content-Length : {SIZE}",
    "a tab before the colon": "X-A\t: b",
    "no colon": "X-A b",
    "no name": ": b",
    "a space in the name": "X A: b",
    "not ASCII in the name": "X-Ä: b",
    "a bracket in the name": "X[0]: b",
    "a quote in the name": 'X"A": b',
    "a request in the middle": "POST /mcp HTTP/1.1",
}


@pytest.mark.attack("HTTP-32")
@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_that_is_no_header_is_refused(ground, line) -> None:
    with ground.watch(), ground.tunnel() as client:
        without = ["Content-Length"] if line.startswith("Content-Length") else []
        denied(client.outcome(ground.post(more=[line], without=without)), 400)


@pytest.mark.attack("HTTP-34")
@pytest.mark.parametrize(
    "listed",
    ["Authorization, Mcp-Name", "close, authorization", "Mcp-Method", "HOST", "Content-Length", "Cookie",
     "MCP-Session-Id", "keep-alive,Mcp-Protocol-Version", "Content-Type", "Transfer-Encoding", "Proxy-Authorization"],
)  # fmt: skip
def test_a_connection_header_cannot_take_a_policed_header_away(ground, listed) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=[f"Connection: {listed}"])), 400)


@pytest.mark.attack("HTTP-34")
@pytest.mark.parametrize(
    "lines",
    [["Authorization: Bearer x"] * 2, ["Content-Type: text/plain"], ["content_type: text/plain"],
     ["Content_Length: 2"], ["MCP_Protocol_Version: 2025-06-18"], ["Mcp-Session-Id: a", "mcp-session-id: b"],
     ["Accept-Encoding: gzip"] * 2, ["Cookie: a=1", "Cookie: b=2"]],
    ids=lambda lines: lines[-1],
)  # fmt: skip
def test_a_policed_header_in_two_spellings_is_refused(ground, lines) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=lines)), (400, 401))


LAST = ["close", "Close", "keep-alive, close", "close,TE"]


@pytest.mark.attack("HTTP-43", "HTTP-34")
@pytest.mark.parametrize("listed", LAST)
@pytest.mark.parametrize("tool", ["get_order", "delete_order"], ids=["allowed", "denied"])
def test_what_comes_behind_the_last_request_of_a_connection_is_not_read(ground, listed, tool) -> None:
    arrive = 1 if tool == "get_order" else 0
    with ground.watch(refusals=1 - arrive, arrive=arrive), ground.tunnel() as client:
        last = ground.post(call(tool), more=[f"Connection: {listed}"])
        assert client.outcome(last + ground.post(call("get_order", call_id="hidden"))).headers["connection"] == "close"
        assert client.is_ended()


@pytest.mark.attack("HTTP-43", "HTTP-34")
def test_what_comes_behind_any_other_request_is(ground) -> None:
    with ground.watch(refusals=0, arrive=2), ground.tunnel() as client:
        client.send(ground.post(more=["Connection: keep-alive, closer"]) + ground.post())
        assert [client.read().status, client.read().status] == [200, 200]


FORWARDING = [
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
    "X-Forwarded-Prefix", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Access-Token",
    "X-Forwarded-Uri", "X-Forwarded-Client-Cert", "X-Real-IP", "X-Original-URL", "X-Rewrite-URL",
    "X-Original-Method", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Via", "True-Client-IP",
    "X-Client-IP", "CF-Connecting-IP", "X-Original-Host", "X-Host",
]  # fmt: skip


@pytest.mark.attack("HTTP-35")
@pytest.mark.parametrize(
    "spell", [str, str.lower, lambda name: name.replace("-", "_")], ids=["as is", "lower case", "underscores"]
)
def test_what_claims_to_be_the_truth_about_the_client_does_not_leave(ground, spell) -> None:
    names = [spell(name) for name in FORWARDING]
    lines = [f"{name}: evil.example" for name in names]
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        assert client.outcome(ground.post(more=lines)).status == 200
    left = {name.lower().replace("_", "-") for name, _ in watch.arrived()[0].fields}
    assert left & {name.lower().replace("_", "-") for name in FORWARDING} == set()


@pytest.mark.attack("HTTP-35")
@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Original-URL", "X-Forwarded-Host"])
def test_such_a_header_does_not_change_what_is_decided(ground, name) -> None:
    value = {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/repos/a"}.get(name, ground.rest.authority)
    with ground.watch("proxy"), ground.client() as client:
        denied(client.outcome(ground.get(ground.rest_url("/admin"), f"{name}: {value}")), 403, "policy-denied")


@pytest.mark.attack("HTTP-40")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
def test_a_method_without_a_body_has_none_at_an_mcp_endpoint(ground, method, is_chunked) -> None:
    first = f"{method} /mcp HTTP/1.1"
    message = ground.post(first=first)
    if is_chunked:
        message = ground.post(b"", first=first, without=["Content-Length"], more=["Transfer-Encoding: chunked"])
        message += b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(message), 400, "unexpected-body")


@pytest.mark.attack("HTTP-40")
@pytest.mark.parametrize(
    "lines", [["Content-Length: 0"], [], ["Transfer-Encoding: chunked"]], ids=["of length 0", "at all", "in chunks"]
)
def test_a_post_without_a_body_is_refused_at_an_mcp_endpoint(ground, lines) -> None:
    end = b"0\r\n\r\n" if "Transfer-Encoding: chunked" in lines else b""
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(b"", without=["Content-Length"], more=lines) + end), 400)


@pytest.mark.attack("HTTP-40")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "FOO"])
def test_a_method_an_mcp_endpoint_does_not_know_is_refused(ground, method) -> None:
    with ground.watch(), ground.tunnel() as client:
        client.send(ground.post(b"", first=f"{method} /mcp HTTP/1.1"))
        reply = client.read_head()
        assert reply.status in (400, 403, 405)


FIRST_LINES = {
    "lower case": "post /mcp HTTP/1.1",
    "mixed case": "Post /mcp HTTP/1.1",
    "a tab in the method": "P\tOST /mcp HTTP/1.1",
    "a tab for a space": "POST\t/mcp\tHTTP/1.1",
    "two spaces": "POST  /mcp HTTP/1.1",
    "a space at the end": "POST /mcp HTTP/1.1 ",
    "HTTP/1.2": "POST /mcp HTTP/1.2",
    "HTTP/2.0": "POST /mcp HTTP/2.0",
    "HTTP/1.0": "POST /mcp HTTP/1.0",
    "HTTP/0.9": "POST /mcp",
    "HTTP/1.10": "POST /mcp HTTP/1.10",
    "HTTP/01.1": "POST /mcp HTTP/01.1",
    "http/1.1": "POST /mcp http/1.1",
    "HTTP/1.1 twice": "POST /mcp HTTP/1.1 HTTP/1.1",
    "no target": "POST HTTP/1.1",
    "no method": "/mcp HTTP/1.1",
    "a method with a dash": "PO-ST /mcp HTTP/1.1",
    "a long method": f"{'A' * 64} /mcp HTTP/1.1",
    "a space in the target": "POST /mc p HTTP/1.1",
    "a fragment": "POST /mcp#a HTTP/1.1",
    "not ASCII": "POST /mcp\xe9 HTTP/1.1",
}


@pytest.mark.attack("HTTP-41")
@pytest.mark.parametrize("first", FIRST_LINES.values(), ids=FIRST_LINES)
def test_a_request_line_that_is_not_plain_is_refused(ground, first) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(first=first.encode("latin-1"))), (400, 505))
        assert client.is_ended()


@pytest.mark.attack("HTTP-41")
def test_a_request_of_one_line_is_refused(ground) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(b"GET /mcp\r\n"), (400, 505))


@pytest.mark.attack("HTTP-64")
@pytest.mark.parametrize("value", ["200-ok", "unknown", "100-continue, foo", "100-Continue;q=1", "", "100"])
def test_an_unknown_expectation_fails(ground, value) -> None:
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(ground.post(more=[f"Expect: {value}"])), 417, "expectation-refused")


@pytest.mark.attack("HTTP-64")
@pytest.mark.parametrize("value", ["100-continue", "100-CONTINUE"])
def test_the_known_expectation_is_met_here_and_does_not_leave(ground, value) -> None:
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        reply = client.outcome(ground.post(more=[f"Expect: {value}"]))
        if reply.status == 100:
            reply = client.read()
        assert reply.status == 200
    assert "expect" not in watch.arrived()[0].headers


@pytest.mark.attack("HTTP-64")
def test_who_waits_with_a_body_is_told_to_go_on_once_the_head_is_accepted(ground) -> None:
    body = call("get_order", {"order_id": "waits"})
    with ground.watch(refusals=0, arrive=1) as watch, ground.tunnel() as client:
        client.send(ground.post(body, more=["Expect: 100-continue"]).removesuffix(body))
        word = client.read_head()
        assert (word.status, word.headers) == (100, {})
        assert watch.arrived() == []
        assert client.outcome(body).status == 200


@pytest.mark.attack("HTTP-64")
@pytest.mark.parametrize(
    ("head_of", "status"),
    [
        pytest.param(lambda ground: ground.post(more=["Expect: 200-ok"]), 417, id="not known"),
        pytest.param(lambda ground: ground.post(more=["Expect: 100-continue", "Upgrade: x"]), 403, id="refused"),
        pytest.param(
            lambda ground: ground.post(more=["Expect: 100-continue"], server=ground.other), 421, id="misdirected"
        ),
    ],
)
def test_who_waits_with_a_body_is_refused_without_it(ground, head_of, status) -> None:
    whole = head_of(ground)
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(whole[: whole.index(b"\r\n\r\n") + 4]), status)
        assert client.is_ended()


@pytest.mark.attack("HTTP-64", "HTTP-62")
def test_who_is_nobody_is_not_told_to_go_on(ground) -> None:
    lines = (f"Host: {ground.rest.authority}", "Content-Length: 3", "Expect: 100-continue")
    with ground.watch("proxy", refusals=1), ground.client(ground.rest) as client:
        assert client.outcome(head(f"POST {ground.rest_url()} HTTP/1.1", *lines)).status == 407


@pytest.mark.attack("HTTP-61")
@pytest.mark.parametrize("big", ["one header", "many headers", "a target", "without an end"])
def test_a_head_that_is_too_large_is_refused(ground, big) -> None:
    message = {
        "one header": ground.post(more=[f"X-A: {'a' * 1_000_000}"]),
        "many headers": ground.post(more=[f"X-{n}: a" for n in range(20_000)]),
        "a target": ground.post(first=f"POST /mcp?{'a' * 1_000_000} HTTP/1.1"),
        "without an end": head("POST /mcp HTTP/1.1")[:-2] + b"X-A: a\r\n" * 40_000,
    }[big]
    with ground.watch(), ground.tunnel() as client:
        denied(client.outcome(message), (400, 431), "head-too-large")
        assert client.is_ended()
