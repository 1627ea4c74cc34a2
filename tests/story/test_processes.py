"""Tests of story/part.py and story/processes.py."""

import http.server
import signal
import sys
import threading
from pathlib import Path

import pytest

from story.part import Part, StoryError, accepts, clean_environment, free_port
from story.processes import Gateway, run_cli


def part(code: str, folder: Path, **more) -> Part:
    output = folder / "part.out"
    return Part("the part", [sys.executable, "-c", code], output=output, environment=clean_environment(), **more)


class Silent(Part):
    """A part that never becomes ready."""

    def is_ready(self) -> bool:
        return False


def test_a_part_is_ended_with_sigterm_and_its_exit_code_returned(tmp_path: Path):
    waits = part(
        "import signal; signal.signal(15, lambda *_: exit(0)); print('up', flush=True); signal.pause()", tmp_path
    )
    waits.start()
    waits.wait_for(lambda: "up" in waits.text())
    assert waits.stop() == 0
    assert not waits.is_running


def test_a_wrong_exit_code_is_an_error_that_shows_the_output(tmp_path: Path):
    waits = part("import signal; print('last words', flush=True); signal.pause()", tmp_path).start()
    waits.wait_for(lambda: "last" in waits.text())
    with pytest.raises(StoryError, match=r"exit code -15(.|\n)*last words"):
        waits.stop()


def test_an_expected_signal_is_no_error(tmp_path: Path):
    waits = part("import signal; signal.pause()", tmp_path, exit_codes=(-signal.SIGTERM,)).start()
    assert waits.stop() == -signal.SIGTERM


def test_a_part_that_ends_early_says_why(tmp_path: Path):
    silent = Silent("it", [sys.executable, "-c", "exit('no such file')"], output=tmp_path / "out", environment={})
    with pytest.raises(StoryError, match=r"exit code 1(.|\n)*no such file"):
        silent.start()
    assert not silent.is_running


def test_a_part_that_is_not_ready_in_time_is_ended(tmp_path: Path):
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    silent = Silent("it", command, output=tmp_path / "out", environment={})
    with pytest.raises(StoryError, match="was not there"):
        silent.start(ready_within_seconds=0.1)
    assert not silent.is_running


def test_a_failing_block_leaves_no_process(tmp_path: Path):
    waits = part("import signal; signal.pause()", tmp_path).start()
    process = waits.pid
    with pytest.raises(KeyError), waits:
        raise KeyError
    assert not Path(f"/proc/{process}").exists()


def test_a_program_that_is_terminated_leaves_no_process(tmp_path: Path):
    inner = [sys.executable, "-c", "import signal; signal.pause()"]
    code = f"""
import signal
from pathlib import Path
from story.part import Part, end_in_order
end_in_order()
with Part("inner", {inner!r}, output=Path({str(tmp_path / "inner.out")!r}), environment={{}}) as part:
    print("inner", part.pid, flush=True)
    signal.pause()
"""
    outer = part(code, tmp_path, exit_codes=(143,)).start()
    outer.wait_for(lambda: "inner" in outer.text())
    process = int(outer.text().split()[1])
    assert Path(f"/proc/{process}").exists()
    assert outer.stop() == 143
    assert not Path(f"/proc/{process}").exists()


def test_a_free_port_is_free():
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 1
    assert not any(accepts(port) for port in ports)


def test_the_surroundings_do_not_reach_into_the_story(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "COATCHECK_STATE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("LANG", "C")
    kept = clean_environment(ADDED="1")
    assert "/elsewhere" not in kept.values()
    assert (kept["LANG"], kept["ADDED"]) == ("C", "1")


@pytest.mark.parametrize("status", [200, 503], ids=["ready", "not ready"])
def test_a_gateway_is_ready_when_its_control_port_says_so(tmp_path: Path, status: int):
    gateway = Gateway(tmp_path / "policy.yaml", tmp_path / "state", output=tmp_path / "out")
    assert not gateway.is_ready()

    class Control(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", gateway.control_port), Control) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert gateway.is_ready() is (status == 200)
        server.shutdown()


@pytest.mark.parametrize(
    ("form", "web", "program", "expected"),
    [
        ("mitmdump", False, "mitmdump", "--set coatcheck_control=127.0.0.1:"),
        ("mitmweb", False, "mitmweb", "--web-port"),
        ("run", False, "coatcheck", "--control 127.0.0.1:"),
        ("run", True, "coatcheck", "--web 127.0.0.1:"),
    ],
)
def test_a_gateway_is_started_as_a_user_starts_it(tmp_path: Path, form, web, program: str, expected: str):
    gateway = Gateway(tmp_path / "p.yaml", tmp_path / "state", output=tmp_path / "out", form=form, web=web)
    assert gateway.command[0].endswith(f"/bin/{program}")
    line = " ".join(gateway.command)
    assert expected in line
    assert str(tmp_path / "p.yaml") in line


def test_a_token_is_the_password_in_the_proxy_url(tmp_path: Path):
    gateway = Gateway(tmp_path, tmp_path, output=tmp_path / "out")
    assert gateway.proxy_url("a.b-c_d") == f"http://ci:a.b-c_d@127.0.0.1:{gateway.port}"
    assert gateway.proxy_url() == f"http://127.0.0.1:{gateway.port}"


def test_the_command_runs_as_a_user_runs_it():
    assert run_cli("--version").stdout.startswith("coatcheck")
    assert run_cli("no-such-command").returncode == 2
