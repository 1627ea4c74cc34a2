"""mitmweb beside the gateway: whoever does not hold its password sees nothing, and whoever does cannot steer."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ground import Ground, denied, wait_until
from raw import RawClient, Reply, call, head

from story.part import LOOPBACK
from story.processes import Gateway, run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

PATIENCE_SECONDS = 30.0
BOUNDARY = "----x"


class Console:
    """mitmweb under this gateway, asked byte by byte."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.port = ground.gateway.web_port
        self.password = (ground.state / "web-password").read_text().strip()

    def ask(
        self, method: str, path: str, *more: str, host: str | None = None, token: str | None = "", body: bytes = b""
    ) -> Reply:
        """`token` is the password unless given; None sends none."""
        lines = [f"Host: {host or f'{LOOPBACK}:{self.port}'}", *more]
        if token is not None:
            lines.append(f"Authorization: Bearer {token or self.password}")
        if method not in ("GET", "HEAD"):
            lines += ["Cookie: _xsrf=x; _mitmproxy_xsrf=x", "X-XSRFToken: x", f"Content-Length: {len(body)}"]
        client = RawClient.__new__(RawClient)
        client.buffer = b""
        with socket.create_connection((LOOPBACK, self.port), timeout=60) as client.sock:
            client.send(head(f"{method} {path} HTTP/1.1", *lines) + body)
            return client.read()

    def json(self, method: str, path: str, value: object = None) -> int:
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask(method, path, "Content-Type: application/json", body=body).status

    def flows(self) -> list[dict]:
        return json.loads(self.ask("GET", "/flows").body)

    def held(self, *, but: set[str]) -> dict | None:
        """A held flow that is not one of these."""
        found = [flow for flow in self.flows() if flow["intercepted"] and flow["id"] not in but]
        return found[0] if found else None


@pytest.fixture(scope="module")
def console(place: Ground) -> Iterator[Console]:
    """A gateway under mitmweb without a password given; its person is the reviewer."""
    policy = place.folder / "console.yaml"
    text = place.policy_text()
    start, end = text.index("  desk:"), text.index("servers:")
    policy.write_text(f"{text[:start]}  desk: {{mitmweb: desk@shop.example}}\n{text[end:]}")
    output = place.folder / "console.out"
    place.gateway = Gateway(policy, place.state, output=output, form="mitmweb")
    with place.gateway:
        assert wait_until((place.state / "web-password").exists, seconds=PATIENCE_SECONDS)
        yield Console(place)


@contextmanager
def holding(console: Console) -> Iterator[tuple[RawClient, dict]]:
    """A client whose call is held, and its flow; afterwards the server has been sent nothing of it."""
    ground = console.ground
    before = {flow["id"] for flow in console.flows()}
    with ground.tunnel(timeout=PATIENCE_SECONDS) as client:
        mark = ground.api.mark()
        client.send(ground.post(call("pay", {"order_id": "A"})))
        assert wait_until(lambda: console.held(but=before) is not None, seconds=PATIENCE_SECONDS)
        flow = console.held(but=before)
        assert ground.api.mark() == mark
        yield client, flow


# -- who may look --------------------------------------------------------------------------------------------------

PATHS = ["/", "/flows", "/flows.json", "/state", "/options", "/events", "/commands", "/flows/dump"]


@pytest.mark.attack("CONS-01")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "wrong", "' OR 1=1", "$argon2id$v=19$x"])
def test_nothing_is_shown_without_the_password(console, path, token) -> None:
    refused = console.ask("GET", path, token=token)
    assert refused.status == 403
    assert console.ask("GET", "/flows").status == 200


FOREIGN = [
    "evil.com", "evil.com:8081", "127.0.0.1.evil.com", "localhost.evil.com", "evil.com@127.0.0.1", "localhost.",
    "127.0.0.1:8081:8081", "", "[::1", "127.0.0.1, evil.com", "evil.com/127.0.0.1", "local\u0127ost", "2130706433",
]  # fmt: skip


@pytest.mark.attack("CONS-02")
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("token", ["", None], ids=["with the password", "without"])
def test_no_other_name_leads_here(console, name, token) -> None:
    host = name or " "
    assert console.ask("GET", "/flows", host=host, token=token).status in (400, 403)
    assert console.ask("GET", "/flows", host=f"localhost:{console.port}").status == 200


@pytest.mark.attack("CONS-02")
@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1:1", "[::1]:8081", "192.0.2.1"])
def test_names_that_cannot_be_rebound_do(console, name) -> None:
    assert console.ask("GET", "/flows", host=name).status == 200


@pytest.mark.attack("CONS-02")
def test_two_names_do_not(console) -> None:
    own = f"Host: {LOOPBACK}:{console.port}"
    assert console.ask("GET", "/flows", own, host="evil.com").status in (400, 403)
    assert console.ask("GET", "/flows", "Host: evil.com").status in (400, 403)


UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.mark.attack("CONS-04")
@pytest.mark.parametrize("origin", ["http://evil.com", "null", "https://localhost.evil.com", "http://127.0.0.1:1"])
def test_no_page_elsewhere_and_nobody_without_the_password_is_told_of_updates(console, origin) -> None:
    mine = f"Origin: http://{LOOPBACK}:{console.port}"
    assert console.ask("GET", "/updates", *UPGRADE, f"Origin: {origin}").status == 403
    assert console.ask("GET", "/updates", *UPGRADE, mine, token=None).status == 403
    assert console.ask("GET", "/updates", *UPGRADE, mine, host="evil.com").status == 403
    assert console.ask("GET", "/updates", *UPGRADE, mine).status == 101


@pytest.mark.attack("CONS-05")
def test_the_password_is_in_a_private_file_and_in_no_log(console) -> None:
    file: Path = console.ground.state / "web-password"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(console.password) >= 24
    said = (console.ground.folder / "console.out").read_text()
    assert console.password not in said
    assert "?token=" not in said
    assert str(file) in said
    assert console.ask("GET", "/flows").status == 200


@pytest.mark.attack("CONS-07")
def test_what_is_shown_of_flows_holds_placeholders_only(console) -> None:
    ground = console.ground
    mark = ground.api.mark()
    ground.is_well()
    (heard,) = ground.api.requests_since(mark)
    assert ground.credential in heard.headers["authorization"], "the server must get the real one"
    flow = console.flows()[-1]
    for path in ("/flows", *(f"/flows/{flow['id']}/{side}/content.data" for side in ("request", "response"))):
        shown = console.ask("GET", path)
        assert shown.status == 200, path
        assert ground.credential.encode() not in shown.body


# -- what it cannot do ---------------------------------------------------------------------------------------------

STEERS = [
    ("POST", "/commands/script.run"), ("POST", "/commands/replay.client"), ("POST", "/commands/flow.resume"),
    ("POST", "/commands/export.file"), ("PUT", "/options"), ("POST", "/options/save"), ("POST", "/clear"),
    ("POST", "/flows/dump"), ("POST", "/flows/resume"), ("POST", "/flows/kill"), ("POST", "/processes"),
]  # fmt: skip


@pytest.mark.attack("CONS-08", "APPR-17")
@pytest.mark.parametrize(("method", "path"), STEERS, ids=lambda value: value)
def test_what_steers_is_locked_however_it_is_spelt(console, method, path) -> None:
    with holding(console) as (client, flow):
        for spelling in (path, f"{path}?x=1", f"{path}/", path.replace("/", "/%2e/", 1), path.upper(), f"/{path}"):
            assert console.json(method, spelling, {}) in (403, 404, 405), spelling
        assert console.json(method, path, {}) == 403
        client.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            client.read()
        client.sock.settimeout(PATIENCE_SECONDS)
        assert console.json("POST", f"/flows/{flow['id']}/kill") == 200
        assert client.read().json["error"]["code"] == 4031
    assert console.ground.is_well()


@pytest.mark.attack("CONS-08")
@pytest.mark.parametrize("action", ["replay", "duplicate", "revert"])
def test_a_flow_is_not_sent_again(console, action) -> None:
    mark = console.ground.is_well()
    flow = console.flows()[-1]
    with console.ground.watch(refusals=0):
        assert console.json("POST", f"/flows/{flow['id']}/{action}") == 403
    assert mark


@pytest.mark.attack("APPR-07")
def test_a_flow_that_is_loaded_is_neither_sent_nor_approved(console) -> None:
    dump = console.ask("GET", "/flows/dump")
    assert dump.status == 200
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="filecontents"; filename="f"\r\n\r\n'.encode()
    body = part + dump.body + f"\r\n--{BOUNDARY}--\r\n".encode()
    with console.ground.watch(refusals=0):
        loaded = console.ask(
            "POST", "/flows/dump", f"Content-Type: multipart/form-data; boundary={BOUNDARY}", body=body
        )
        assert loaded.status == 403


EDITS = {
    "body": {"content": call("pay", {"order_id": "B"}).decode()},
    "body to an allowed call": {"content": call("get_order", {"order_id": "B"}).decode()},
    "method": {"method": "PUT"},
    "path": {"path": "/mcp?x=1"},
    "host": {"host": "localhost.evil.com"},
    "port": {"port": 1},
    "scheme": {"scheme": "http"},
    "a header": {"headers": [["x-added", "1"]]},
}


@pytest.mark.attack("APPR-02")
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_held_call_that_was_edited_is_not_sent(console, edit) -> None:
    with console.ground.watch(refusals=None), holding(console) as (client, flow):
        assert console.json("PUT", f"/flows/{flow['id']}", {"request": edit}) == 200
        assert console.json("POST", f"/flows/{flow['id']}/resume") == 200
        reply = client.read()
        assert reply.status >= 400 or "error" in reply.json, reply


@pytest.mark.attack("APPR-01", "APPR-04")
def test_a_held_call_that_was_not_edited_is_sent_once_however_often_it_is_resumed(console) -> None:
    with console.ground.watch(refusals=0, arrive=1) as watch, holding(console) as (client, flow):
        for _ in range(3):
            assert console.json("POST", f"/flows/{flow['id']}/resume") == 200
        assert client.read().status == 200
        (heard,) = watch.arrived()
        assert json.loads(heard.body) == json.loads(call("pay", {"order_id": "A"}))


@pytest.mark.attack("APPR-16")
def test_a_held_flow_that_is_deleted_is_answered_and_not_sent(console) -> None:
    with console.ground.watch(refusals=None), holding(console) as (client, flow):
        status = console.json("DELETE", f"/flows/{flow['id']}")
        assert status in (200, 403)
        if status == 403:
            assert console.json("POST", f"/flows/{flow['id']}/kill") == 200
        assert client.read().json["error"]["code"] in (4031, 4033)


@pytest.mark.attack("CONS-10")
def test_a_reviewer_on_this_machine_is_told_by_the_account_and_the_state_is_its_own(console) -> None:
    state = console.ground.state
    assert state.stat().st_mode & 0o777 == 0o700
    with console.ground.watch(refusals=None), holding(console) as (client, flow):
        (found,) = [
            one for one in json.loads(run_cli("approvals", "list", "--state", str(state), "--json").stdout)
            if one["id"] in flow["comment"]
        ]  # fmt: skip
        done = run_cli("approvals", "approve", found["id"], "--policy", str(console.ground.folder / "console.yaml"),
                       "--state", str(state))  # fmt: skip
        assert done.returncode == 1, "this account is no reviewer of that policy"
        assert os.getuid() == state.stat().st_uid
        assert console.json("POST", f"/flows/{flow['id']}/kill") == 200
        denied(client.read(), 200)
