import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from coatcheck.approvals.model import Approval, ApprovalError, as_json
from coatcheck.errors import CoatcheckError
from coatcheck_cli.approvals import approvals, changed

ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name
TOKEN = "eyJhbGciOi.J9.c2ln-_"
POLICY = """
coatcheck: 1
gateway: {{audience: https://gateway.acme.dev}}
issuers:
  github: {{preset: github-actions}}
identities:
  shop-ci: {{issuer: github, claims: {{repository_id: "74627617"}}}}
reviewers:
  sre: {{local: [{sre}]}}
  support: {{local: [somebody-else]}}
servers:
  shop: {{url: https://shop.acme.dev/mcp}}
rules:
  - {{id: refunds, who: [shop-ci], server: shop, tools: [refund_order], effect: approve, reviewers: [sre, support]}}
"""


@pytest.fixture
def policy(tmp_path):
    """A policy whose reviewer `sre` is this process's account."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(sre=ACCOUNT))
    return path


@pytest.fixture
def waiting(store, ask_for):
    """An approval that waits now, with arguments that would upset a terminal."""
    question = ask_for(
        arguments='{\n  "order": "\x1b[31mA-1\u202e"\n}',
        message="\x9b31m\x7f𝄞",
        call_title="tools/call refund_\x07order",
    )
    return store.ask(question, now=datetime.now(UTC), expires=timedelta(minutes=15))


@pytest.fixture
def run(state):
    def run(*arguments, env=None, **more):
        return CliRunner().invoke(
            approvals, [*map(str, arguments), "--state", str(state.root)], env={"COLUMNS": "250", **(env or {})}, **more
        )

    return run


def test_list_shows_what_waits_escaped(run, waiting):
    output = run("list").output
    assert waiting.id in output
    assert "tools/call refund_\\x07order" in output
    assert "0 of 1" in output
    assert "\x07" not in output


def test_list_says_when_nothing_waits(run, state):
    assert run("list").output == "nothing waits for a decision\n"


def test_list_all_shows_the_decided_too(run, store, waiting):
    store.settle(waiting.id, "withdrawn", now=datetime.now(UTC))
    assert json.loads(run("list", "--json").output) == []
    printed = run("list", "--all", "--json").output
    assert printed.replace("\n", "").isprintable()
    (shown,) = json.loads(printed)
    assert shown == as_json(store.get(waiting.id))
    assert (shown["id"], shown["state"], shown["caller"]) == (waiting.id, "withdrawn", "shop-ci")


def test_show_prints_the_arguments_escaped_line_by_line(run, waiting):
    lines = run("show", waiting.id.lower()).output.splitlines()
    assert f"{'id':<16}{waiting.id}" in lines
    assert "arguments" in lines
    assert '      "order": "\\x1b[31mA-1\\u202e"' in lines
    assert json.loads(run("show", waiting.id, "--json").output) == as_json(waiting)


@pytest.mark.parametrize("approval_id", ["0000000000", "nonsense", "../x", "\x1b[31m"])
def test_an_unknown_approval_is_told(run, state, approval_id):
    result = run("show", approval_id)
    assert result.exit_code == 1
    assert isinstance(result.exception, ApprovalError)
    assert result.exception.reason == "unknown"
    assert "\x1b" not in str(result.exception)


def test_a_local_reviewer_approves(run, store, waiting, policy):
    result = run("approve", waiting.id, "--policy", policy, "--reason", "checked the order")
    assert result.exit_code == 0, result.exception
    assert result.output == f"approved {waiting.id} (shop-ci, tools/call refund_\\x07order)\n"
    (vote,) = store.get(waiting.id).votes
    assert (vote.reviewer, vote.person, vote.verdict, vote.reason) == ("sre", ACCOUNT, "approve", "checked the order")


def test_a_local_reviewer_denies(run, store, waiting, policy):
    result = run("deny", waiting.id, "--json", env={"COATCHECK_POLICY": str(policy)})
    assert json.loads(result.output)["state"] == "denied"
    assert store.get(waiting.id).state == "denied"


def test_a_vote_short_of_the_quorum_is_counted(run, store, ask_for, policy):
    asked = store.ask(ask_for(quorum=2), now=datetime.now(UTC), expires=timedelta(minutes=15))
    assert run("approve", asked.id, "--policy", policy).output == (
        f"counted approve for {asked.id} (shop-ci, tools/call refund_order): 1 of 2\n"
    )
    result = run("approve", asked.id, "--policy", policy)
    assert result.exception.reason == "already voted"


def test_an_account_that_is_no_reviewer_may_not_decide(run, store, waiting, policy):
    policy.write_text(POLICY.format(sre="somebody"))
    result = run("approve", waiting.id, "--policy", policy, env={"USER": "somebody", "LOGNAME": "somebody"})
    assert result.exit_code == 1
    assert result.exception.reason == "not a reviewer"
    assert ACCOUNT in result.exception.problems[0].hint
    assert store.get(waiting.id).state == "pending"


def test_a_reviewer_of_other_calls_may_not_decide_this_one(run, store, ask_for, policy):
    asked = store.ask(ask_for(reviewers=("support",)), now=datetime.now(UTC), expires=timedelta(minutes=15))
    assert run("approve", asked.id, "--policy", policy).exception.reason == "not a reviewer"


def test_the_caller_itself_may_not_decide(run, store, ask_for, policy):
    asked = store.ask(ask_for(subject=ACCOUNT), now=datetime.now(UTC), expires=timedelta(minutes=15))
    assert run("approve", asked.id, "--policy", policy).exception.reason == "own call"


def test_without_policy_or_token_it_is_misuse(run, waiting):
    result = run("approve", waiting.id)
    assert result.exit_code == 2
    assert "--token-file" in result.output


# -- with a token, at the control port --------------------------------------------------------------------------


class ControlPort(ThreadingHTTPServer):
    """A real server on loopback that answers as it is told and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, bytes] = (200, b"{}")
        self.asked: list[tuple[str, str | None, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ControlPort

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], json.loads(body)))
        status, data = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def control():
    with ControlPort() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def test_with_a_token_the_control_port_decides(run, state, control, token_file, ask_for, now):
    approval = Approval("K7Q2M4X9WD", ask_for(), "approved", now, now)
    control.answer = (200, json.dumps(as_json(approval)).encode())
    result = run(
        "approve", "k7q2m-4x9wd", "--token-file", token_file, "--control", control.url, "--reason", "fine",
        env={"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"},
    )  # fmt: skip
    assert result.output == "approved K7Q2M4X9WD (shop-ci, tools/call refund_order)\n"
    assert control.asked == [("/approvals/K7Q2M4X9WD", f"Bearer {TOKEN}", {"verdict": "approve", "reason": "fine"})]


def test_the_token_may_come_from_standard_input(run, state, control, ask_for, now):
    approval = Approval("K7Q2M4X9WD", ask_for(), "denied", now, now)
    control.answer = (200, json.dumps(as_json(approval)).encode())
    env = {"COATCHECK_CONTROL": control.url.removeprefix("http://")}
    result = run("deny", "K7Q2M4X9WD", "--token-file", "-", "--json", input=f"{TOKEN}\n", env=env)
    assert json.loads(result.output)["state"] == "denied"
    assert control.asked[0][1:] == (f"Bearer {TOKEN}", {"verdict": "deny", "reason": None})


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        pytest.param(
            403, b'{"error":{"reason":"not-a-reviewer","message":"not a reviewer"}}', "not a reviewer", id="403"
        ),
        pytest.param(409, b'{"error":{"reason":"already-decided"}}', "already-decided", id="409"),
        pytest.param(401, b'{"error":{"message":"\\u001b[31mno"}}', "\\x1b[31mno", id="escaped"),
        pytest.param(500, b"<html>", "the control port answered 500", id="no JSON"),
        pytest.param(200, b"[]", "the control port answered 200", id="not an approval"),
        pytest.param(307, b"", "the control port answered 307", id="a redirect is not followed"),
    ],
)
def test_an_answer_that_is_no_decision_is_an_error(run, state, control, token_file, status, body, what):
    control.answer = (status, body)
    result = run("approve", "K7Q2M4X9WD", "--token-file", token_file, "--control", control.url)
    assert result.exit_code == 1
    assert isinstance(result.exception, CoatcheckError)
    assert str(result.exception) == f"K7Q2M4X9WD: {what}"
    assert TOKEN not in "\n".join(result.exception.lines())
    assert len(control.asked) == 1


@pytest.mark.parametrize(
    ("url", "what"),
    [
        pytest.param("http://gateway.acme.dev:8082", "plain http to another machine", id="plain http elsewhere"),
        pytest.param("http://127.0.0.1.acme.dev", "plain http to another machine", id="a name like loopback"),
        pytest.param("http://user@127.0.0.1", "not an http or https URL", id="a user in it"),
        pytest.param("ftp://127.0.0.1", "not an http or https URL", id="another scheme"),
        pytest.param("http://127.0.0.1:99999", "not an http or https URL", id="no port"),
        pytest.param("http://", "not an http or https URL", id="no host"),
        pytest.param("http://127.0.0.1:1", "the control port does not answer", id="nobody there"),
    ],
)
def test_a_token_is_not_sent_to_where_it_should_not_go(run, state, token_file, url, what):
    result = run("approve", "K7Q2M4X9WD", "--token-file", token_file, "--control", url)
    assert result.exit_code == 1
    assert what in str(result.exception)
    assert TOKEN not in "\n".join(result.exception.lines())


@pytest.mark.parametrize(
    "content",
    [b"", b"two tokens", b"line\r\nX-Injected: 1", b"\xff\xfe", b"x" * 100_000],
    ids=["empty", "two", "a header", "bytes", "long"],
)
def test_a_file_without_one_token_is_refused(run, state, control, tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    result = run("approve", "K7Q2M4X9WD", "--token-file", tmp_path / "bad", "--control", control.url)
    assert str(result.exception) == "--token-file: not a bearer token"
    assert control.asked == []


# -- watching ---------------------------------------------------------------------------------------------------


def test_watch_tells_what_waits_then_each_change_until_interrupted(state, store, waiting):
    command = [sys.executable, "-c", "from coatcheck_cli.main import main; main()", "approvals", "watch"]
    process = subprocess.Popen(
        [*command, "--state", str(state.root), "--every", "0.05", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["id"], first["state"]) == (waiting.id, "pending")
    store.settle(waiting.id, "withdrawn", now=datetime.now(UTC))
    second = json.loads(process.stdout.readline())
    assert (second["id"], second["state"]) == (waiting.id, "withdrawn")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    process.stdout.close()


def test_what_was_decided_before_is_not_told(ask_for, now):
    def approval(approval_id, state):
        return Approval(approval_id, ask_for(), state, now, now)

    found = [approval("a", "used"), approval("b", "pending"), approval("c", "denied"), approval("d", "pending")]
    told = changed({"c": "pending", "d": "pending"}, found)
    assert [(each.id, each.state) for each in told] == [("b", "pending"), ("c", "denied")]
