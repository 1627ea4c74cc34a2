"""A plain HTTP API behind the gateway: rules on methods and paths, one spelling of each path, masks and recordings."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from far_end import FarEnd, Heard, gateway_with, json_answer
from raw import RawClient, Reply, head
from reviewer import decide, wait_for_approval

from coatcheck.journal.read import records
from coatcheck.sessions.read import read_session
from story.cast import Cast
from story.processes import StoryError

pytestmark = pytest.mark.e2e

API_KEY = "api-live-77f0c2d94be14a6f"
POLICY = """
coatcheck: 1
servers:
  api:
    url: https://{authority}/
    ca: {ca}
    addresses: [127.0.0.0/8, "::1/128"]
    credential: api-key
  bare: {{url: "https://{bare}/", ca: "{ca}", addresses: [127.0.0.0/8, "::1/128"]}}
  tools: {{url: "https://{bare}/mcp", ca: "{ca}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: writes-bare, who: [group:ci], server: bare, http: ["POST /**"], effect: allow}}
  - {{id: uploads, who: [group:ci], server: tools, http: ["POST /mcp/**"], effect: allow}}
  - {{id: reads-tools, who: [group:ci], server: tools, tools: ["get_*"], effect: allow}}
  - {{id: reads-bare, who: [group:ci], server: bare, http: ["GET /own"], effect: allow}}
  - {{id: reads-repos, who: [group:ci], server: api, http: ["GET /repos/**"], effect: allow}}
  - {{id: merges, who: [group:ci], server: api, http: ["POST /merges/*"], effect: approve, reviewers: [desk]}}
masks:
  - {{id: people, server: api, detect: [email], fields: ["$..ssn"], as: redact}}
"""


EVENTS = {
    "done": b'data: {"a": 1}\n\ndata: [DONE]\n\n',
    "text": b"data: two lines,\ndata: as text\n\n",
    "mail": b"data: ask jane.doe@customer.example\n\n",
    "twice": b'data: {"ssn": "078-05-1120", "ssn": 1}\n\n',
    "hidden": b'data: ["jane.doe\\u0040customer.example",]\n\n',
}


def answer(heard: Heard) -> list[bytes]:
    """The owner's data and what the request was sent with; a stream of `EVENTS` where it asks for one."""
    _, _, kind = heard.first.split(" ")[1].partition("/stream/")
    if kind:
        chunk = EVENTS[kind]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        return [head, b"%x\r\n%s\r\n" % (len(chunk), chunk), b"0\r\n\r\n"]
    person = {"mail": "jane.doe@customer.example", "ssn": "078-05-1120", "name": "shop"}
    return [json_answer(json.dumps({"owner": person, "sent": heard.headers.get("authorization")}).encode())]


@pytest.fixture(scope="module")
def far(cast):
    with FarEnd(cast.authority.server_cert("localhost", "127.0.0.1"), answer) as far:
        yield far


@pytest.fixture(scope="module")
def bare(cast):
    """An API whose callers bring their own credentials."""
    with FarEnd(cast.authority.server_cert("localhost", "127.0.0.1")) as bare:
        yield bare


@pytest.fixture(scope="module")
def gateway(cast, far, bare):
    where = ("--server", "api", "--state", str(cast.state))
    cast.cli("vault", "set", "api-key", *where, stdin=API_KEY + "\n")
    policy = POLICY.format(authority=far.authority, bare=bare.authority, ca=cast.authority.ca_pem)
    with gateway_with(cast, policy) as gateway:
        yield gateway


@pytest.fixture
def ask(cast, gateway, far):
    """Sends one request through a tunnel of its own; None where the connection ends."""

    def ask(first: str, *lines: str, body: bytes = b"", token: str | None = None) -> Reply | None:
        fields = [f"Host: {far.authority}", *lines]
        if body:
            fields.append(f"Content-Length: {len(body)}")
        with RawClient(gateway, authority=far.authority) as client:
            client.tunnel(token or cast.token())
            return client.outcome(head(f"{first} HTTP/1.1", *fields) + body)

    return ask


def test_an_allowed_request_reaches_the_server_with_the_credential(cast, far, ask) -> None:
    token = cast.token()
    reply = ask("GET /repos/acme/shop?per_page=2", "X-Custom: 1", "Cookie: a=b", token=token)
    assert reply.status == 200
    heard = far.heard[-1]
    assert heard.first == "GET /repos/acme/shop?per_page=2 HTTP/1.1"
    assert heard.headers["authorization"] == f"Bearer {API_KEY}"
    assert heard.headers["x-custom"] == "1"
    assert heard.headers["accept-encoding"] == "identity"
    assert token not in repr(far.heard)
    assert "proxy-authorization" not in heard.headers


def test_the_answer_is_masked_and_the_echoed_credential_is_starred(ask) -> None:
    reply = ask("GET /repos/acme")
    assert reply.json["owner"]["name"] == "shop"
    assert b"jane.doe" not in reply.body
    assert b"078-05-1120" not in reply.body
    assert API_KEY.encode() not in reply.body
    assert set(reply.json["sent"].removeprefix("Bearer ")) == {"*"}


@pytest.mark.parametrize("kind", ["done", "text"])
def test_a_stream_of_text_arrives_as_it_is(ask, kind) -> None:
    assert ask(f"GET /repos/stream/{kind}").body == EVENTS[kind]


def test_a_stream_of_text_is_masked_and_what_only_some_read_as_json_ends_it(ask) -> None:
    assert ask("GET /repos/stream/mail").body == b"data: ask [redacted]\n\n"
    for kind in ("twice", "hidden"):
        body = ask(f"GET /repos/stream/{kind}").body
        assert b"server-failed" in body
        assert b"078-05" not in body
        assert b"jane" not in body


@pytest.mark.parametrize(
    "first",
    [
        "POST /repos/acme",
        "DELETE /repos/acme",
        "OPTIONS /repos/acme",
        "GET /admin",
        "GET /",
        "GET /repos",
    ],
)
def test_what_no_rule_allows_is_a_403_problem(far, ask, first) -> None:
    before = len(far.heard)
    reply = ask(first)
    assert reply.status == 403
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["status"] == 403
    assert reply.json["reason"] == "policy-denied"
    assert reply.json["type"] == "urn:coatcheck:policy-denied"
    assert len(far.heard) == before


TRAVERSALS = [
    "/repos/../admin", "/repos/./x", "/repos/..", "/repos/x/../../admin", "/repos/%2e%2e/admin", "/repos/%2E%2E/admin",
    "/repos/.%2e/admin", "//repos/x", "/repos//x", "/repos/..;/admin", "/repos/x;a=b/../../admin",
    "/repos/..%2fadmin", "/repos/x%2f..%2f..%2fadmin", "/repos/..%5cadmin", "/repos/%c0%ae%c0%ae/admin", "/repos/%00",
    "/repos/%2e", "/%72epos/x", "/repos/x%0d%0aX: y", "/repos/%", "/repos/%zz", "/admin/..;/repos/x",
    "/repos/\\..\\admin", "/repos/x#/../admin", "/./repos/x", "/repos/x/.", "/repos/x%3b/../..",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a_path_with_two_spellings_is_refused_and_nothing_is_sent(far, ask, path) -> None:
    before = len(far.heard), len(far.raw)
    reply = ask(f"GET {path}")
    assert reply is not None
    assert reply.status in (400, 403), reply
    assert (len(far.heard), len(far.raw)) == before


@pytest.mark.parametrize("path", ["/repos/a.b/c..d", "/repos/x?q=../../admin", "/repos/%20x", "/repos/a-b_c~d"])
def test_a_path_with_one_spelling_passes_as_it_is(far, ask, path) -> None:
    assert ask(f"GET {path}").status == 200
    assert far.heard[-1].first == f"GET {path} HTTP/1.1"


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X_HTTP_Method_Override"]
)
def test_no_header_can_say_otherwise(far, ask, name) -> None:
    reply = ask("GET /repos/acme", f"{name}: /admin")
    assert reply.status == 200
    assert "/admin" not in repr(far.heard[-1])


def test_the_journal_and_the_session_hold_it_and_neither_holds_a_secret(cast, gateway, ask) -> None:
    assert ask("GET /repos/recorded/one").status == 200
    journal = list(records(cast.state / "journal"))
    (request,) = [
        r
        for r in journal
        if r["kind"] == "request" and any(call["name"] == "/repos/recorded/one" for call in r["calls"])
    ]
    assert request["decision"] == {"effect": "allow", "rules": ["reads-repos"]}
    assert request["secrets"] == ["api-key"]

    def sessions() -> str:
        return "".join(path.read_text() for path in (cast.state / "sessions").rglob("*.jsonl"))

    gateway.wait_for(lambda: "/repos/recorded/one" in sessions())
    gateway.wait_for(
        lambda: any(
            r["kind"] == "outcome" and r["exchange"] == request["exchange"] for r in records(cast.state / "journal")
        )
    )
    everything = sessions() + repr(list(records(cast.state / "journal")))
    for canary in (API_KEY, "jane.doe", "078-05-1120"):
        assert canary not in everything


@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_an_approve_rule_holds_it(cast, gateway, far, verdict) -> None:
    before = len(far.heard)
    body = b'{"ref": "main"}'
    with RawClient(gateway, authority=far.authority) as client:
        client.tunnel(cast.token())
        client.send(
            head(f"POST /merges/{verdict} HTTP/1.1", f"Host: {far.authority}", f"Content-Length: {len(body)}") + body
        )
        asked = wait_for_approval(gateway, f"/merges/{verdict}")
        assert len(far.heard) == before
        assert json.loads(asked["arguments"])["body"] == {"ref": "main"}
        policy = gateway.command[gateway.command.index("--set") + 1].partition("=")[2]
        decide(gateway, Path(policy), verdict, f"/merges/{verdict}")
        reply = client.read()
    if verdict == "approve":
        assert reply.status == 200
        assert [heard.body for heard in far.heard[before:]] == [body]
        told_back(cast, gateway, asked)
    else:
        assert reply.status == 403
        assert reply.json["reason"] == "approval-denied"
        assert len(far.heard) == before


def told_back(cast: Cast, gateway, asked: dict) -> None:
    """An approval leads to who asked for what, by which rules of which policy, who said yes, and what came back."""

    def mine(kind: str, field: str, value: str) -> list[dict]:
        return [one for one in records(cast.state / "journal") if one["kind"] == kind and one.get(field) == value]

    (request,) = mine("request", "approval", asked["id"])
    assert (request["caller"]["name"], request["caller"]["subject"]) == (asked["caller"], asked["subject"])
    assert request["caller"]["token_id"]
    assert [call["digest"] for call in request["calls"]] == [asked["call_digest"]]
    assert (request["decision"]["effect"], request["decision"]["rules"]) == ("approve", ["merges"])
    assert request["policy"] == asked["policy"]
    steps = mine("approval", "approval", asked["id"])
    assert [step["event"] for step in steps] == ["asked", "used"]  # the desk's own vote is cast beside the gateway
    assert [(vote["reviewer"], vote["verdict"]) for vote in steps[-1]["votes"]] == [("desk", "approve")]
    gateway.wait_for(lambda: bool(mine("outcome", "exchange", request["exchange"])))
    (outcome,) = mine("outcome", "exchange", request["exchange"])
    assert (outcome["status"], outcome["outcome"]) == (200, "answered")

    def recorded() -> list:
        session = read_session(cast.state / "sessions", outcome["session"])
        return [one for one in session.exchanges() if one.request.approval == asked["id"] and one.end]

    gateway.wait_for(lambda: bool(recorded()))
    (kept,) = recorded()
    whole = read_session(cast.state / "sessions", outcome["session"]).head
    assert (whole.caller, whole.run) == (asked["caller"], request["caller"]["run"])
    assert (kept.title, kept.request.decision, kept.request.rules) == (asked["call_title"], "approve", ("merges",))
    assert kept.response is not None
    assert kept.response.status == 200


@pytest.fixture(scope="module")
def loud(tmp_path_factory) -> tuple[str, Path]:
    """What a gateway wrote with every option for looking closer, and where session keys would be; it may refuse."""
    with Cast(tmp_path_factory.mktemp("loud")) as cast:
        cast.make_state()
        keys = cast.folder / "session-keys"
        with FarEnd(cast.authority.server_cert("localhost"), answer) as far:
            cast.cli("vault", "set", "api-key", "--server", "api", "--state", str(cast.state), stdin=API_KEY + "\n")
            policy = POLICY.format(authority=far.authority, bare="localhost:1", ca=cast.authority.ca_pem)
            more = ("--set", "proxy_debug=true", "--set", "termlog_verbosity=debug")
            gateway = gateway_with(cast, policy, more=more, environment={"SSLKEYLOGFILE": str(keys)})
            with suppress(StoryError), gateway, RawClient(gateway, authority=far.authority) as client:
                client.tunnel(cast.token())
                assert client.outcome(head("GET /repos/acme HTTP/1.1", f"Host: {far.authority}")).status == 200
        yield gateway.text(), keys


def test_no_option_for_looking_closer_shows_a_secret(loud) -> None:
    """Every option that may be given at start may be given in production."""
    text, _ = loud
    assert API_KEY not in text
    assert "jane.doe" not in text


def test_no_variable_of_the_environment_makes_the_wire_readable(loud) -> None:
    """With the keys of its TLS sessions, whoever sees the packets sees the secret in them.

    Python's own ssl makes the file, with a comment in it, before the gateway can refuse to start.
    """
    _, keys = loud
    lines = keys.read_text().splitlines() if keys.exists() else []
    assert all(line.startswith("#") for line in lines)


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp/;x", "/MCP", "/mcp;x", "/mcp%3Bx/", "/Mcp/"])
def test_no_spelling_of_an_mcp_endpoint_is_a_plain_path(cast, gateway, bare, path) -> None:
    def sent(path: str) -> int:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delete_all"}}
        body = json.dumps(message).encode()
        fields = (f"Host: {bare.authority}", f"Content-Length: {len(body)}", "Content-Type: application/json")
        before = len(bare.heard)
        with RawClient(gateway, authority=bare.authority) as client:
            client.tunnel(cast.token())
            client.outcome(head(f"POST {path} HTTP/1.1", *fields) + body)
        return len(bare.heard) - before

    assert sent(path) == 0
    assert (sent("/mcp/notes"), sent("/notes")) == (1, 1)


def test_a_callers_own_credential_is_passed_on_and_not_recorded(cast, gateway, bare) -> None:
    with RawClient(gateway, authority=bare.authority) as client:
        client.tunnel(cast.token())
        lines = ("Authorization: Bearer own-canary-1", "Cookie: sid=own-canary-2")
        assert client.outcome(head("GET /own HTTP/1.1", f"Host: {bare.authority}", *lines)).status == 200
    assert bare.heard[-1].headers["authorization"] == "Bearer own-canary-1"

    def sessions() -> str:
        return "".join(path.read_text() for path in (cast.state / "sessions").rglob("*.jsonl"))

    gateway.wait_for(lambda: "/own" in sessions())
    assert "own-canary" not in sessions()
