"""Recorded sessions as flow files, read by the real `mitmdump`."""

import json
import stat
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.io import FlowReader

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Call
from coatcheck.proxy.flow_file import check_flow_file, write_flow_file
from coatcheck.sessions.read import Session, open_session, read_session
from coatcheck.sessions.recorder import SessionKey, SessionRecorder

MITMDUMP = str(Path(sys.executable).with_name("mitmdump"))
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"lookup"}}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
JSON = [("Content-Type", "application/json"), ("Content-Length", "9999"), ("Transfer-Encoding", "chunked")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sessions"
    made.mkdir(mode=0o700)
    return made


def record(folder: Path, *exchanges: dict, url: str = "https://mcp.shop.test/mcp") -> Session:
    recorder = SessionRecorder(folder, clock=lambda: datetime(2026, 11, 24, 9, 30, tzinfo=UTC))
    recorder.start()
    for given_ in exchanges:
        key = SessionKey("shop-ci", "t", "shop")
        recording = recorder.begin(key, issuer="github", subject="s", url=url, policy="p")
        headers = given_.get("headers", [("Host", url.split("/")[2]), ("Content-Type", "application/json")])
        method, body = given_.get("method", "POST"), given_.get("body", CALL)
        calls = [Call("mcp", "tools/call", "lookup", id=1)]
        recording.request(method, given_.get("url", url), headers, body, calls, "allow", ["r1"], None)
        for event in given_.get("events", ()):
            recording.event(event, "message", "1")
        if "answer" in given_:
            recording.response(given_.get("status", 200), given_.get("answer_headers", JSON), given_["answer"])
        recording.end(given_.get("outcome", "answered"))
    recorder.close()
    return read_session(folder, recording.session)


def flows(path: Path) -> list[http.HTTPFlow]:
    with path.open("rb") as file:
        return [flow for flow in FlowReader(file).stream() if isinstance(flow, http.HTTPFlow)]


def export(session: Session) -> list[http.HTTPFlow]:
    out = session.path.with_suffix(".mitm")
    assert write_flow_file(session, out) == len(session.numbers) == check_flow_file(out)
    return flows(out)


def test_an_exchange_becomes_a_flow(folder: Path):
    (flow,) = export(record(folder, {"answer": ANSWER}))
    assert (flow.request.url, flow.request.method) == ("https://mcp.shop.test/mcp", "POST")
    assert flow.request.content == CALL
    assert flow.request.headers["content-length"] == str(len(CALL))
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.content) == (200, ANSWER)
    assert flow.response.headers.get_all("content-length") == [str(len(ANSWER))]
    assert "transfer-encoding" not in flow.response.headers
    assert flow.comment == "tools/call lookup; allow by r1"
    assert flow.metadata["coatcheck.rules"] == "r1"
    assert flow.server_conn.address == ("mcp.shop.test", 443)


def test_events_become_the_body(folder: Path):
    headers = [("Content-Type", "text/event-stream")]
    (flow,) = export(record(folder, {"events": ["one", "two\nlines"], "answer": b"", "answer_headers": headers}))
    assert flow.response is not None
    body = b"event: message\nid: 1\ndata: one\n\nevent: message\nid: 1\ndata: two\ndata: lines\n\n"
    assert flow.response.content == body
    assert flow.response.headers["content-length"] == str(len(body))


def test_an_exchange_without_an_answer_says_how_it_ended(folder: Path):
    (flow,) = export(record(folder, {"outcome": "client-left"}))
    assert flow.response is None
    assert flow.error is not None
    assert flow.error.msg == "no answer was recorded: client-left"


@pytest.mark.parametrize("where", ["body", "answer"])
def test_a_body_that_was_cut_is_missing_content_and_the_comment_says_so(folder: Path, where: str):
    (flow,) = export(record(folder, {"answer": ANSWER} | {where: b"x" * 1_100_000}))
    message = flow.request if where == "body" else flow.response
    assert message is not None
    assert message.raw_content is None
    assert "body cut when recorded" in flow.comment


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("POST", 200, "0"), ("GET", 204, None), ("HEAD", 200, None), ("GET", 304, None)],
    ids=str,
)
def test_no_length_is_given_where_no_body_can_be(folder: Path, method: str, status: int, length: str | None):
    (flow,) = export(record(folder, {"method": method, "status": status, "answer": b"", "body": b""}))
    assert flow.response is not None
    assert flow.response.headers.get("content-length") == length
    assert flow.request.headers.get("content-length") == ("0" if method == "POST" else None)


def test_the_file_is_private_and_one_session_always_gives_the_same_bytes(folder: Path):
    session = record(folder, {"answer": ANSWER}, {"answer": ANSWER})
    out = session.path.with_suffix(".mitm")
    out.touch(mode=0o644)
    write_flow_file(session, out)
    first = out.read_bytes()
    write_flow_file(session, out)
    assert out.read_bytes() == first
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.suffix for path in out.parent.iterdir()) == [".jsonl", ".mitm"]


def test_a_failed_export_leaves_what_was_there(folder: Path):
    session = record(folder, {"answer": ANSWER}, {"answer": ANSWER, "url": "no url"})
    out = session.path.with_suffix(".mitm")
    out.write_bytes(b"before")
    with pytest.raises(CoatcheckError, match="exchange 2 cannot be written as a flow"):
        write_flow_file(session, out)
    assert out.read_bytes() == b"before"
    assert sorted(path.suffix for path in out.parent.iterdir()) == [".jsonl", ".mitm"]


def test_a_link_in_the_way_is_replaced_and_not_followed(folder: Path, tmp_path: Path):
    session = record(folder, {"answer": ANSWER})
    target, out = tmp_path / "target", tmp_path / "out.mitm"
    target.write_bytes(b"before")
    out.symlink_to(target)
    write_flow_file(session, out)
    assert target.read_bytes() == b"before"
    assert not out.is_symlink()


def test_a_folder_that_is_not_there_is_an_error(folder: Path, tmp_path: Path):
    with pytest.raises(CoatcheckError, match="cannot write"):
        write_flow_file(record(folder, {"answer": ANSWER}), tmp_path / "none" / "out.mitm")


texts = st.text(st.characters(codec=None), max_size=8)


@given(st.tuples(texts, texts, texts, texts, st.binary(max_size=20), st.integers(0, 10**6)))
@settings(max_examples=80, deadline=None)
def test_whatever_was_recorded_is_written_or_refused(given_):
    method, path, name, value, body, status = given_
    exchange = {
        "method": method, "url": f"https://shop.test/{path}", "headers": [(name, value)], "body": body,
        "answer": body, "status": status, "answer_headers": [(name, value)],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as made, suppress(CoatcheckError):
        (flow,) = export(record(Path(made), exchange))
        assert flow.request.raw_content == body


URLS = ["", "x", "http://", "https://[::1", "https://a b/", "https://a:99999/", "ftp://a/", "https://\ud800/", "//a/b"]


@pytest.mark.parametrize("url", URLS, ids=ascii)
def test_a_url_that_is_none_is_refused(folder: Path, url: str):
    with suppress(CoatcheckError):
        export(record(folder, {"answer": ANSWER, "url": url}))


# check_flow_file: crafted files (tnetstrings)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"999999999999:x,", id="a huge length"),
        pytest.param(b"9999999999999:x,", id="a longer length"),
        pytest.param(b"1:x?", id="an unknown type"),
        pytest.param(b"5:abc,", id="cut"),
        pytest.param(b"3:abc", id="without its type"),
        pytest.param(b"-1:,", id="a negative length"),
        pytest.param(b"{}", id="a HAR file"),
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(b"1" * 100, id="digits"),
        pytest.param("١:x,".encode(), id="digits of another script"),
    ],
)
def test_a_crafted_flow_file_is_refused(tmp_path: Path, data: bytes):
    path = tmp_path / "crafted.mitm"
    path.write_bytes(b"3:abc," + data)
    with pytest.raises(CoatcheckError):
        check_flow_file(path)
    with pytest.raises(CoatcheckError):
        open_session(path)
    path.write_bytes(b"3:abc,")
    assert check_flow_file(path) == 1


def test_a_flow_that_claims_a_gigabyte_is_not_read(tmp_path: Path):
    path = tmp_path / "sparse.mitm"
    with path.open("wb") as file:
        file.write(b"1073741824:")
        file.seek(11 + 2**30)
        file.write(b",")
    assert check_flow_file(path) == 1


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_flow_file_raises_anything_but_our_error(data: st.DataObject):
    crafted = data.draw(st.binary(max_size=40) | st.from_regex(rb"([0-9]{1,3}:[a-z]{0,9}[,;#]){0,4}", fullmatch=True))
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "x.mitm"
        path.write_bytes(crafted)
        with suppress(CoatcheckError):
            check_flow_file(path)


def test_a_missing_flow_file_is_an_error(tmp_path: Path):
    with pytest.raises(CoatcheckError, match="cannot read"):
        check_flow_file(tmp_path / "none.mitm")


# the real mitmdump


class Upstream(BaseHTTPRequestHandler):
    server: "UpstreamServer"

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class UpstreamServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Upstream)
        self.bodies: list[bytes] = []


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    with UpstreamServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def mitmdump(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [MITMDUMP, "--set", f"confdir={tmp_path}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_mitmdump_reads_an_export(folder: Path, tmp_path: Path):
    events = [json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": "final-result-text"}})]
    headers = [("Content-Type", "text/event-stream")]
    session = record(folder, {"answer": ANSWER}, {"events": events, "answer": b"", "answer_headers": headers}, {})
    out = session.path.with_suffix(".mitm")
    write_flow_file(session, out)
    done = mitmdump(tmp_path, "-n", "-r", str(out), "--set", "flow_detail=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("POST https://mcp.shop.test/mcp") == 3
    assert "final-result-text" in done.stdout
    assert "no answer was recorded" in done.stdout


def test_mitmdump_sends_an_export_again(folder: Path, tmp_path: Path, upstream: UpstreamServer):
    url = f"http://127.0.0.1:{upstream.server_address[1]}/mcp"
    session = record(folder, {"answer": ANSWER}, {"answer": ANSWER, "body": b"x" * 1_100_000}, url=url)
    out = session.path.with_suffix(".mitm")
    write_flow_file(session, out)
    done = mitmdump(tmp_path, "-n", "-C", str(out))
    assert done.returncode == 0, done.stderr
    assert upstream.bodies == [CALL]


def test_mitmdump_serves_an_export(folder: Path, tmp_path: Path):
    events, headers = ["from the record"], [("Content-Type", "text/event-stream")]
    url = "http://mcp.shop.test/mcp"
    session = record(folder, {"events": events, "answer": b"", "answer_headers": headers}, url=url)
    out = session.path.with_suffix(".mitm")
    write_flow_file(session, out)
    command = [
        MITMDUMP, "--set", f"confdir={tmp_path}", "--set", "server_replay_extra=404", "-S", str(out),
        "--listen-host", "127.0.0.1", "-p", "0",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "listening at" in line)
            proxy = f"http://{line.split('listening at ')[1].strip().rstrip('.')}"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
            asked = urllib.request.Request(url, CALL, {"Content-Type": "application/json"})
            with opener.open(asked, timeout=60) as answer:
                assert answer.read() == b"event: message\nid: 1\ndata: from the record\n\n"
        finally:
            process.terminate()
