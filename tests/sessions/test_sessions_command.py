"""`coatcheck sessions`, and its way through a real proxy with TLS and a token."""

import json
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from coatcheck.errors import CoatcheckError
from coatcheck.sessions.read import Session
from coatcheck_cli.gateway_client import GatewayClient
from coatcheck_cli.sessions import sessions

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
PONG = {"jsonrpc": "2.0", "id": 1, "result": {}}
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "refund"}}
TOKEN = "header.payload.signature"


def invoke(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(sessions, [*arguments, "--state", str(folder.parent)], input=stdin)


def said(message: object, answer: object = None, **fields: object) -> dict[str, Any]:
    return {"message": message, "answer": answer, **fields}


def test_sessions_are_listed(folder: Path, record):
    one, two = record(said(PING, PONG), caller="one"), record(said(PING, PONG), said(PING, PONG), caller="two")
    rows = json.loads(invoke(folder, "list", "--json").stdout)
    assert {row["id"]: (row["caller"], row["exchanges"], row["state"]) for row in rows} == {
        one.id: ("one", 1, "closed"),
        two.id: ("two", 2, "closed"),
    }
    assert one.id in invoke(folder, "list").stdout


def test_an_empty_list_says_so(folder: Path):
    assert invoke(folder, "list").stdout == "no sessions\n"
    assert invoke(folder, "list", "--json").stdout == "[]\n"


def test_a_session_is_shown_as_it_went(folder: Path, record):
    session = record(said(PING, PONG), said(CALL, decision="approve", events=[json.dumps(PONG)], rules=["merge"]))
    told = invoke(folder, "show", session.id[:6]).stdout
    for expected in (session.id, "shop-ci", "ping", "tools/call refund", "approve", "merge", "200 result", "answered"):
        assert expected in told
    shown = json.loads(invoke(folder, "show", session.id, "--json").stdout)
    assert [(row["request"], row["events"], row["status"]) for row in shown["exchanges"]] == [
        ("ping", None, 200),
        ("tools/call refund", 1, 200),
    ]


def test_nothing_from_a_record_reaches_the_terminal_raw(folder: Path, record):
    evil = "\x1b]0;owned\x07\u202e"
    session = record(
        said(
            PING | {"method": f"tools/{evil}"}, {"jsonrpc": "2.0", "error": {"code": 1, "message": evil}}, outcome=evil
        )
    )
    other = record(said(PING | {"method": f"tools/{evil}"}, {"jsonrpc": "2.0", "result": evil}))
    for arguments in (["show", session.id], ["diff", session.id, other.id], ["list"], ["export", evil]):
        told = invoke(folder, *arguments)
        assert not {"\x1b", "\x07", "\u202e"} & set(told.output), arguments


@pytest.mark.parametrize("command", ["show", "export", "replay", "diff"])
def test_an_unknown_session_is_an_error(folder: Path, command: str, tmp_path: Path):
    more = {
        "replay": ["--proxy", "127.0.0.1:1", "--token-file", "-"],
        "diff": ["0" * 16],
    }
    done = invoke(folder, command, "abc", *more.get(command, []), stdin=TOKEN)
    assert isinstance(done.exception, CoatcheckError)
    assert done.exception.lines() == ["error: 'abc': no such session", "hint: see: coatcheck sessions list"]


def test_an_export_goes_beside_the_record_and_is_private(folder: Path, record):
    session = record(said(PING, PONG))
    out = session.path.with_suffix(".mitm")
    assert invoke(folder, "export", session.id).stdout == f"1 exchange written to {out}\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize("form", ["mitm", "jsonl"])
def test_an_export_replaces_a_file_only_by_force(folder: Path, record, tmp_path: Path, form: str):
    session, out = record(said(PING, PONG)), tmp_path / "out"
    out.write_bytes(b"before")
    refused = invoke(folder, "export", session.id, "--format", form, "-o", str(out))
    assert isinstance(refused.exception, CoatcheckError)
    assert refused.exception.problems[0].hint == "--force replaces it"
    assert out.read_bytes() == b"before"
    assert invoke(folder, "export", session.id, "--format", form, "-o", str(out), "--force").exit_code == 0
    assert (out.read_bytes() == session.path.read_bytes()) is (form == "jsonl")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_an_export_never_replaces_the_record(folder: Path, record):
    session = record(said(PING, PONG))
    (folder / "by-another-way").symlink_to(session.path.parent)
    for out in (session.path, folder / "by-another-way" / session.path.name):
        done = invoke(folder, "export", session.id, "-o", str(out), "--force")
        assert isinstance(done.exception, CoatcheckError)
    assert session.exchange(1).title == "ping"


def test_a_copy_of_the_record_needs_a_place(folder: Path, record):
    assert invoke(folder, "export", record(said(PING, PONG)).id, "--format", "jsonl").exit_code == 2


def test_sessions_that_say_the_same_do_not_differ(folder: Path, record):
    a, b = record(said(PING, PONG)), record(said(PING | {"id": 9}, PONG | {"id": 9}))
    done = invoke(folder, "diff", a.id, b.id)
    assert (done.exit_code, done.stdout) == (0, "no differences in 1 exchanges\n")


def test_sessions_that_differ_are_shown_side_by_side(folder: Path, record):
    a, b = record(said(PING, PONG)), record(said(PING, PONG | {"result": {"x": 1}}), said(CALL, PONG))
    done = invoke(folder, "diff", a.id, b.id)
    assert done.exit_code == 1
    assert "$.result.x: new, 1" in done.stdout
    assert "only in the second" in done.stdout
    assert len(json.loads(invoke(folder, "diff", a.id, b.id, "--json").stdout)) == 2


# replay, through a real proxy that asks for the token


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer = PONG

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((message["method"], self.headers.get("Proxy-Authorization")))  # type: ignore[attr-defined]
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@dataclass
class Way:
    """Both kinds of server, the proxy in front of them, and the CA it makes certificates with."""

    urls: dict[str, str]
    proxy: str
    ca: Path
    asked: list[tuple[str, str | None]]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    confdir = tmp_path_factory.mktemp("proxy")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(confdir / "upstream.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    servers, asked = [], []
    for scheme in ("http", "https"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        server.asked = asked  # type: ignore[attr-defined]
        if scheme == "https":
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append((scheme, server))
    command = [
        str(Path(sys.executable).with_name("mitmdump")), "--set", f"confdir={confdir}", "--listen-host", "127.0.0.1",
        "-p", "0", "--proxyauth", f"replay:{TOKEN}", "--set", f"ssl_verify_upstream_trusted_ca={confdir}/upstream.pem",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "listening at" in line)
        urls = {scheme: f"{scheme}://localhost:{server.server_address[1]}/mcp" for scheme, server in servers}
        yield Way(urls, line.split("listening at ")[1].strip().rstrip("."), confdir / "mitmproxy-ca-cert.pem", asked)
        process.terminate()
    for _, server in servers:
        server.shutdown()
        server.server_close()


def replay(folder: Path, session: Session, way: Way, *more: str, token: str = TOKEN) -> Result:
    arguments = [session.id, "--proxy", way.proxy, "--token-file", "-", "--ca", str(way.ca), *more]
    return invoke(folder, "replay", *arguments, stdin=token + "\n")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_replay_goes_through_the_gateway_with_the_token(folder: Path, record, way: Way, scheme: str):
    way.asked.clear()
    url = way.urls[scheme]
    session = record(said(PING, PONG, url=url), said(CALL, PONG, url=url), said(PING, {"x": 1}, url=url))
    done = replay(folder, session, way)
    assert done.exit_code == 1, done.output
    assert "skipped: its tool is not named" in done.stdout
    assert way.asked == [("ping", None), ("ping", None)]
    assert [row["same"] for row in json.loads(replay(folder, session, way, "--json").stdout)] == [True, None, False]
    assert replay(folder, record(said(PING, PONG, url=url)), way).exit_code == 0
    assert replay(folder, record(said(CALL, PONG, url=url)), way, "--tool", "ref*").exit_code == 0
    assert way.asked[-1] == ("tools/call", None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wrong_token_is_told_and_never_shown(folder: Path, record, way: Way, scheme: str):
    way.asked.clear()
    done = replay(folder, record(said(PING, PONG, url=way.urls[scheme])), way, token="wrong-token-value")
    assert way.asked == []
    if scheme == "https":
        assert isinstance(done.exception, CoatcheckError)
        assert "the gateway refused the tunnel with 407" in str(done.exception)
    else:
        assert "407" in done.output
    assert "wrong-token-value" not in done.output + str(done.exception)


def test_what_was_done_before_an_error_is_shown(folder: Path, record, way: Way):
    session = record(said(PING, PONG, url=way.urls["http"]), said(PING, PONG, headers=[("X", "a\nb")]))
    done = replay(folder, session, way)
    assert isinstance(done.exception, CoatcheckError)
    assert "same" in done.stdout


def test_a_certificate_of_another_authority_is_refused(folder: Path, record, way: Way, tmp_path: Path):
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    session = record(said(PING, PONG, url=way.urls["https"]))
    done = replay(folder, session, way, "--ca", str(tmp_path / "other.pem"))
    assert "certificate for the server cannot be verified" in str(done.exception)


@pytest.mark.parametrize("ca", ["none.pem", "empty.pem"])
def test_a_ca_file_that_is_none_is_an_error(tmp_path: Path, ca: str):
    (tmp_path / "empty.pem").touch()
    client = GatewayClient("127.0.0.1:9", TOKEN, tmp_path / ca)
    with pytest.raises(CoatcheckError, match="not a CA certificate"):
        client.send("GET", "https://shop.test/", [], b"")


def test_a_gateway_that_is_not_there_is_an_error(tmp_path: Path):
    client = GatewayClient("127.0.0.1:1", TOKEN, tmp_path / "ca.pem")
    with pytest.raises(CoatcheckError, match="the gateway does not answer") as error:
        client.send("GET", "http://shop.test/", [], b"")
    assert error.value.problems[0].hint == "is the gateway running? see --proxy"


URLS = [
    "",
    "/mcp",
    "ftp://a/",
    "http://",
    "http://[::1",
    "http://a\nb/",
    "http://a/\r\nX: y",
    "http://a b/",
    "https://a:99999/",
]


@pytest.mark.parametrize("url", URLS, ids=ascii)
def test_a_recorded_url_that_cannot_be_sent_is_an_error(way: Way, url: str):
    with pytest.raises(CoatcheckError):
        GatewayClient(way.proxy, TOKEN, way.ca).send("GET", url, [], b"")


@pytest.mark.parametrize("proxy", ["", "8080", "host", "host:0", "host:99999", "u:p@host:1", "ftp://host:1", "a b:1"])
def test_a_proxy_that_is_no_host_and_port_is_refused(tmp_path: Path, proxy: str):
    with pytest.raises(CoatcheckError, match="not a host and port"):
        GatewayClient(proxy, TOKEN, tmp_path)


@pytest.mark.parametrize("proxy", ["host:1", "http://host:1/", "[::1]:8080", "127.0.0.1:65535"])
def test_a_host_and_port_is_taken(tmp_path: Path, proxy: str):
    GatewayClient(proxy, TOKEN, tmp_path)
