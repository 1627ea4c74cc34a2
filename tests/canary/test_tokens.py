"""However a caller shows its token, and whatever becomes of it: none of it in mitmweb, in what is kept, or upstream."""

import base64
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from echo import Order, call
from forms import Watch
from raw import RawClient, Reply, head, proxy_authorization
from stage import AUDIENCE, Stage

from story.processes import run_cli

pytestmark = pytest.mark.e2e

type Tokens = list[str]
"""Every token that was shown in these tests; the gateway's whole state is searched for them at the end."""


def watch_for(*tokens: str) -> Watch:
    """For the signature and the claims of each; the header is the same for all, and says nothing."""
    return Watch(*{part.encode() for token in tokens for part in token.split(".")[1:3] if len(part) > 40})


@pytest.fixture(scope="module")
def shown(stage: Stage) -> Iterator[Tokens]:
    tokens: Tokens = []
    yield tokens
    export_all(stage)
    watch = watch_for(*tokens)
    assert {where: found for where, data in stage.kept() if (found := watch.sightings(data))} == {}


def export_all(stage: Stage) -> None:
    """Writes every session as a flow file too, where `kept` finds it."""
    listed = run_cli("sessions", "list", "--state", str(stage.state), "--json")
    for session in json.loads(listed.stdout):
        out = stage.state / f"{session['id']}.exported.mitm"
        run_cli("sessions", "export", session["id"], "-o", str(out), "--state", str(stage.state)).check_returncode()


class Caller:
    """One connection to the proxy port, on its way to the server `plain`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.raw = RawClient(stage.gateway, authority=f"localhost:{stage.echoes['plain'].port}")

    def tunnel(self, *lines: str) -> Reply:
        self.raw.send(head(f"CONNECT {self.raw.authority} HTTP/1.1", f"Host: {self.raw.authority}", *lines))
        reply = self.raw.read(is_connect=True)
        if reply.status == 200:
            self.raw.start_tls()
        return reply

    def ask(self, *lines: str, order: Order | None = None) -> None:
        body = call()
        fields = (f"Host: {self.raw.authority}", "Content-Type: application/json", f"Content-Length: {len(body)}")
        echo = f"X-Echo: {(order or Order()).text()}"
        self.raw.send(head("POST /mcp HTTP/1.1", *fields, echo, *lines) + body)

    def whole_url(self, *lines: str) -> Reply:
        self.raw.send(head("GET http://elsewhere.example/ HTTP/1.1", "Host: elsewhere.example", *lines))
        return self.raw.read()


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def by_connect(caller: Caller, token: str) -> Reply:
    caller.tunnel(proxy_authorization(token))
    caller.ask()
    return caller.raw.read()


def by_connect_as_bearer(caller: Caller, token: str) -> Reply:
    caller.tunnel(f"Proxy-Authorization: Bearer {token}")
    caller.ask()
    return caller.raw.read()


def inside(caller: Caller, token: str) -> Reply:
    caller.tunnel(proxy_authorization(caller.stage.token()))
    caller.ask(bearer(token))
    return caller.raw.read()


def inside_for_the_proxy(caller: Caller, token: str) -> Reply:
    caller.tunnel(proxy_authorization(caller.stage.token()))
    caller.ask(proxy_authorization(token))
    return caller.raw.read()


def in_both_places(caller: Caller, token: str) -> Reply:
    caller.tunnel(proxy_authorization(token))
    caller.ask(proxy_authorization(token), bearer(token))
    return caller.raw.read()


def to_a_host_that_is_not_known(caller: Caller, token: str) -> Reply:
    return caller.whole_url(proxy_authorization(token))


def to_a_host_that_is_not_known_as_bearer(caller: Caller, token: str) -> Reply:
    return caller.whole_url(bearer(token))


def twice(caller: Caller, token: str) -> Reply:
    return caller.whole_url(proxy_authorization(token), f"Proxy-Authorization: Bearer {token}")


def with_another(caller: Caller, token: str) -> Reply:
    return caller.whole_url(proxy_authorization(token), bearer(caller.stage.token()))


def in_a_list(caller: Caller, token: str) -> Reply:
    return caller.whole_url(f"Authorization: Bearer {token}, Bearer {token}")


def in_another_scheme(caller: Caller, token: str) -> Reply:
    return caller.whole_url(f"Proxy-Authorization: Token {token}")


def in_a_head_that_cannot_be_read(caller: Caller, token: str) -> Reply:
    caller.raw.send(head("GET http://elsewhere.example/ HTTP/1.1", f"Proxy-Authorization : Bearer {token}", "a\0: b"))
    return caller.raw.read()


type Way = Callable[[Caller, str], Reply]

ARRIVES: list[Way] = [by_connect, by_connect_as_bearer, inside, inside_for_the_proxy, in_both_places]
REFUSED: list[Way] = [
    to_a_host_that_is_not_known, to_a_host_that_is_not_known_as_bearer, twice, with_another, in_a_list,
    in_another_scheme, in_a_head_that_cannot_be_read,
]  # fmt: skip


def in_console(stage: Stage, token: str) -> list[str]:
    watch = watch_for(token)
    seen = [name for shown in stage.console.shown(last=4) for name in watch.sightings(shown)]
    return seen + watch.sightings(stage.console.get("/events"))


@pytest.mark.parametrize("way", ARRIVES, ids=lambda way: way.__name__)
def test_a_token_that_counts_is_in_no_flow_and_goes_to_no_server(stage: Stage, shown: Tokens, way: Way) -> None:
    token = stage.token()
    shown.append(token)
    echo = stage.echoes["plain"]
    before = echo.received.copy()
    caller = Caller(stage)
    reply = way(caller, token)
    assert reply.status == 200, reply
    assert echo.received - before == {stage.values["plain"]: 1}, "the server gets its own credential"
    assert watch_for(token).sightings(reply.body) == []
    assert in_console(stage, token) == []


@pytest.mark.parametrize("way", ARRIVES, ids=lambda way: way.__name__)
def test_it_is_in_no_flow_while_its_call_is_in_flight(stage: Stage, shown: Tokens, way: Way) -> None:
    token = stage.token()
    shown.append(token)
    caller, echo = Caller(stage), stage.echoes["plain"]
    caller.ask = lambda *lines: Caller.ask(caller, *lines, order=Order("raw", "sse", "chunked", 4, pause=True))  # type: ignore[method-assign]
    read, caller.raw.read = caller.raw.read, lambda **kind: read(**kind) if kind else caller.raw.read_head()  # type: ignore[method-assign,assignment]
    assert way(caller, token).status == 200
    assert echo.paused.wait(10)
    during = in_console(stage, token)
    echo.go_on()
    while caller.raw.read_chunk():
        pass
    assert during == []


def expired(stage: Stage) -> str:
    return stage.issuer.token(audience=AUDIENCE, lifetime=-60, repository_id="1")


def for_another(stage: Stage) -> str:
    return stage.issuer.token(audience="https://other.example", repository_id="1")


def nobodys(stage: Stage) -> str:
    return stage.issuer.token(audience=AUDIENCE, repository_id="2")


def forged(stage: Stage) -> str:
    content, _, signature = stage.token().rpartition(".")
    return f"{content}.{base64.urlsafe_b64encode(bytes(64)).rstrip(b'=').decode()[:20]}{signature[20:]}"


def padded(stage: Stage) -> str:
    return stage.token() + "=="


def of_a_strange_issuer(stage: Stage) -> str:
    return stage.issuer.token(audience=AUDIENCE, iss="https://strange.example")


BAD = [expired, for_another, nobodys, forged, padded, of_a_strange_issuer]


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("way", [by_connect, to_a_host_that_is_not_known], ids=lambda way: way.__name__)
def test_a_token_that_does_not_count_is_nowhere_either(
    stage: Stage, shown: Tokens, way: Way, make: Callable[[Stage], str]
) -> None:
    token = make(stage)
    shown.append(token)
    reply = way(Caller(stage), token)
    assert reply.status in {401, 403}, reply
    assert watch_for(token).sightings(reply.body + repr(reply.headers).encode()) == []
    assert in_console(stage, token) == []


@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.__name__)
def test_a_token_in_a_request_that_is_refused_is_nowhere_either(stage: Stage, shown: Tokens, way: Way) -> None:
    token = stage.token()
    shown.append(token)
    reply = way(Caller(stage), token)
    assert reply.status >= 400, reply
    assert watch_for(token).sightings(reply.body + repr(reply.headers).encode() + reply.reason.encode()) == []
    assert in_console(stage, token) == []


def test_a_token_that_is_exchanged_and_the_one_it_is_exchanged_for_are_not_kept(stage: Stage, shown: Tokens) -> None:
    token = stage.token()
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection = HTTPConnection("127.0.0.1", stage.gateway.control_port, timeout=60)
    connection.request("POST", "/token", urlencode(form), kind)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    session = answer["access_token"]
    shown += [token, session]
    assert by_connect(Caller(stage), session).status == 200
    assert in_console(stage, token) == []
    assert in_console(stage, session) == []


def test_a_watch_sees_a_token_in_a_header_of_either_scheme(stage: Stage) -> None:
    token = stage.token()
    watch = watch_for(token)
    assert watch.sightings(proxy_authorization(token).encode())
    assert watch.sightings(bearer(token).encode())
    assert watch.sightings(token.rpartition(".")[2][5:20].encode())
    assert not watch.sightings(stage.token().rpartition(".")[2].encode())
