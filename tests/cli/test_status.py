"""`coatcheck status` says what the control port says, and tells what is no gateway from one that is not ready."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result

from coatcheck.errors import CoatcheckError
from coatcheck_cli.main import cli
from story.part import free_port

READY = {"status": "ready", "policy": "abcdef0123456789" * 4, "problems": {}}
NOT_READY = {"status": "not-ready", "policy": "abcdef0123456789" * 4, "problems": {"journal": "cannot be written"}}


class Control:
    """A port that answers every request with `code` and `body`."""

    def __init__(self) -> None:
        self.code, self.body = 200, json.dumps(READY).encode()
        self.asked: list[str] = []
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                control.asked.append(self.path)
                self.send_response(control.code)
                self.send_header("Content-Length", str(len(control.body)))
                self.end_headers()
                self.wfile.write(control.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def control() -> Iterator[Control]:
    control = Control()
    yield control
    control.server.shutdown()
    control.server.server_close()


def status(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments], env=environment)


def test_a_ready_gateway_is_0(control) -> None:
    result = status("--control", control.address)
    assert (result.exit_code, result.output) == (0, "ready, policy abcdef012345\n")
    assert control.asked == ["/readyz"]


def test_a_gateway_that_is_not_ready_is_1_and_its_parts_are_named(control) -> None:
    control.code, control.body = 503, json.dumps(NOT_READY).encode()
    result = status("--control", control.address)
    assert result.exit_code == 1
    assert result.output.splitlines() == ["not-ready, policy abcdef012345", "journal: cannot be written"]


def test_a_gateway_that_only_observes_says_so_and_one_that_enforces_does_not(control) -> None:
    for enforces in (False, True):
        control.body = json.dumps(READY | {"enforces": enforces}).encode()
        assert ("nothing is denied or held" in status("--control", control.address).output) is not enforces


@pytest.mark.parametrize(("code", "answer", "exit_code"), [(200, READY, 0), (503, NOT_READY, 1)])
def test_json_is_what_the_port_said(control, code, answer, exit_code) -> None:
    control.code, control.body = code, json.dumps(answer).encode()
    result = status("--control", control.address, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (exit_code, answer)


def test_the_address_may_come_from_the_environment_and_as_a_url(control) -> None:
    assert status(COATCHECK_CONTROL=control.address).exit_code == 0
    assert status("--control", f"http://{control.address}").exit_code == 0


def test_a_proxy_in_the_environment_is_not_asked(control) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert status("--control", control.address, http_proxy=nowhere, HTTP_PROXY=nowhere).exit_code == 0


def test_no_gateway_is_an_error_with_a_hint() -> None:
    result = status("--control", f"127.0.0.1:{free_port()}")
    assert isinstance(result.exception, CoatcheckError)
    (problem,) = result.exception.problems
    assert "no gateway answers" in problem.what
    assert problem.hint == "start it with: coatcheck run"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        pytest.param(404, b"<html>not found</html>", id="a web server"),
        pytest.param(404, b'{"error": {"reason": "not-found"}}', id="JSON of something else"),
        pytest.param(200, b"OK", id="text"),
        pytest.param(200, b"[]", id="a list"),
        pytest.param(200, b'{"status": "ready"}', id="half an answer"),
        pytest.param(200, b"\xff\xfe", id="no text"),
        pytest.param(502, b"", id="an empty error"),
    ],
)
def test_what_answers_but_is_no_gateway_is_an_operators_error(control, code, body) -> None:
    control.code, control.body = code, body
    result = status("--control", control.address)
    assert isinstance(result.exception, CoatcheckError), repr(result.exception)


@pytest.mark.parametrize("address", ["8082", "host:x"])
def test_a_bad_address_is_an_operators_error(address) -> None:
    assert isinstance(status("--control", address).exception, CoatcheckError)
