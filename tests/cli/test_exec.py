"""`coatcheck exec` runs a command as if it stood alone: signals, exit code and streams are the command's own."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from coatcheck.client.variables import BUNDLE_VARIABLES, PROXY_VARIABLES
from story.processes import BIN

PLATFORM_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwbGF0Zm9ybSJ9.cGxhdGZvcm0tY2FuYXJ5"
SESSION_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzZXNzaW9uIn0.c2Vzc2lvbi1jYW5hcnk"
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"
PYTHON = sys.executable


@pytest.fixture
def run(caller):
    """Runs `coatcheck exec` to its end. Without `control` the token is not exchanged."""

    def run(*command: str, control: str | None = None, more: tuple[str, ...] = (), **variables: str):
        way = ("--control", control) if control else ("--no-exchange",)
        return subprocess.run(
            [str(BIN / "coatcheck"), "exec", *caller.options, *way, *more, "--", *command],
            env=caller.environment(**variables),
            input="from standard input",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


# -- what the command gets --------------------------------------------------------------------------------------------


def test_the_command_gets_the_gateway_in_its_environment(run) -> None:
    inherited = {"NO_PROXY": "*", "no_proxy": "*", "https_proxy": "http://other.example:1", "KEPT": "yes"}
    seen = json.loads(run(PYTHON, "-c", SHOW, **inherited).stdout)
    for name in PROXY_VARIABLES:
        assert seen[name] == f"http://ci:{PLATFORM_TOKEN}@127.0.0.1:18080"
    assert seen["NODE_USE_ENV_PROXY"] == "1"
    assert seen["COATCHECK_TOKEN"] == PLATFORM_TOKEN
    assert seen["KEPT"] == "yes"
    assert not seen.keys() & {"NO_PROXY", "no_proxy"}


def test_the_certificate_files_are_private_and_gone_afterwards(run, caller) -> None:
    script = """
import json, os, pathlib
files = {name: pathlib.Path(os.environ[name]) for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
print(json.dumps({name: [str(path), path.stat().st_mode, path.parent.stat().st_mode, path.read_text().count("BEGIN")]
                  for name, path in files.items()}))
"""
    seen = json.loads(run(PYTHON, "-c", script).stdout)
    assert seen["NODE_EXTRA_CA_CERTS"][3] == 1
    assert seen["SSL_CERT_FILE"][3] > 20
    for path, mode, folder_mode, _ in seen.values():
        assert (stat.S_IMODE(mode), stat.S_IMODE(folder_mode)) == (0o600, 0o700)
        assert not Path(path).exists()
    assert list(caller.home.iterdir()) == []


def test_every_variable_that_replaces_trust_names_the_bundle(run) -> None:
    seen = json.loads(run(PYTHON, "-c", SHOW, GIT_SSL_CAINFO="/other.pem", REQUESTS_CA_BUNDLE="/other.pem").stdout)
    assert len({seen[name] for name in BUNDLE_VARIABLES}) == 1


def test_standard_input_and_arguments_are_the_commands_own(run) -> None:
    assert run("cat").stdout == "from standard input"
    assert run("printf", "%s|", "--help", "-h", "a b", "--").stdout == "--help|-h|a b|--|"


def test_the_command_starts_with_no_signal_blocked_or_ignored(run) -> None:
    lines = run("grep", "^Sig[BI]", "/proc/self/status").stdout.splitlines()
    masks = {name: int(mask, 16) for name, mask in (line.split(":\t") for line in lines)}
    inherited = int(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)  # under nohup that is what is asked for
    # 32 and 33 are the C library's own; its posix_spawn leaves them ignored.
    assert {name: mask & 0x7FFFFFFF for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": inherited}


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 2, 3, 255])
def test_its_exit_code_is_passed_through(run, code) -> None:
    done = run("sh", "-c", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_command_that_a_signal_ended_is_128_and_its_number(run, caller) -> None:
    assert run("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert list(caller.home.iterdir()) == []


def test_a_command_that_is_not_found_is_127(run, caller) -> None:
    done = run("no-such-command", PLATFORM_TOKEN)
    assert (done.returncode, done.stderr) == (127, "error: no-such-command: command not found\n")
    assert list(caller.home.iterdir()) == []


def test_a_command_that_cannot_be_run_is_126(run, tmp_path) -> None:
    path = tmp_path / "data"
    path.write_text("no program")
    assert run(str(path)).returncode == 126
    assert run(str(tmp_path)).returncode == 126


@contextmanager
def running(caller, script: str, **more) -> Iterator[subprocess.Popen[str]]:
    """`coatcheck exec` with a Python script that has said `ready`."""
    process = subprocess.Popen(
        [str(BIN / "coatcheck"), "exec", *caller.options, "--no-exchange", "--", PYTHON, "-uc", script],
        env=caller.environment(),
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


COUNTING = """
import os, signal, sys
counted = []
def count(number, frame):
    counted.append(number)
    print("had", number)
def end(number, frame):
    print(*counted)
    sys.exit(7)
signal.signal(signal.SIGINT, count)
signal.signal(signal.SIGUSR1, count)
signal.signal(signal.SIGTERM, end)
print("ready")
while True:
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2])
def test_a_signal_goes_to_the_command(caller, number) -> None:
    script = f"""
import signal, sys
signal.signal({int(number)}, lambda number, frame: sys.exit(40 + number))
print("ready")
while True:
    signal.pause()
"""
    with running(caller, script) as process:
        process.send_signal(number)
        assert process.wait(20) == 40 + number
    assert list(caller.home.iterdir()) == []


def test_a_command_that_minds_no_signal_runs_on(caller) -> None:
    with running(caller, COUNTING) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "had 10\n"
        process.send_signal(signal.SIGTERM)
        assert (process.wait(20), process.stdout.read()) == (7, "10\n")


@pytest.mark.parametrize(
    ("before", "counted"),
    [
        pytest.param("", b"had 2", id="a command in the terminal's group has it from the terminal"),
        pytest.param("import os; os.setpgid(0, 0)", b"", id="so this command passes none on"),
    ],
)
def test_control_c_is_given_to_the_command_by_the_terminal_alone(caller, before, counted) -> None:
    """The terminal gives it to the whole process group; a second one makes many programs give up in disorder."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [str(BIN / "coatcheck"), "exec", *caller.options, "--no-exchange", "--", PYTHON, "-uc"]
        os.execve(command[0], [*command, before + COUNTING], caller.environment())  # noqa: S606 - the child of the fork
    said = b""
    for write, wanted in ((b"", b"ready"), (b"\x03", b"^C"), (b"", counted)):
        os.write(terminal, write)
        while wanted not in said:
            said += os.read(terminal, 1024)
    os.kill(pid, signal.SIGTERM)  # it takes signals in the order of their numbers, so this comes last
    with suppress(OSError):  # how a terminal ends
        while piece := os.read(terminal, 1024):
            said += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert said.count(b"had 2") == (1 if counted else 0)


# -- the token --------------------------------------------------------------------------------------------------------


def test_the_platforms_token_is_exchanged(run, exchanger) -> None:
    seen = json.loads(run(PYTHON, "-c", SHOW, control=exchanger.url).stdout)
    assert seen["HTTPS_PROXY"] == f"http://ci:{SESSION_TOKEN}@127.0.0.1:18080"
    assert seen["COATCHECK_TOKEN"] == SESSION_TOKEN
    assert PLATFORM_TOKEN not in str(seen)
    assert exchanger.paths == ["/token"]
    assert exchanger.forms == [
        {
            "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "subject_token": [PLATFORM_TOKEN],
            "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
        }
    ]


def test_a_saml_assertion_is_exchanged_too(run, exchanger, caller) -> None:
    caller.token.write_text("<Assertion/>")
    seen = json.loads(run(PYTHON, "-c", SHOW, control=exchanger.url, more=("--token-type", "saml2")).stdout)
    assert seen["COATCHECK_TOKEN"] == SESSION_TOKEN
    (form,) = exchanger.forms
    assert form["subject_token_type"] == ["urn:ietf:params:oauth:token-type:saml2"]
    assert form["subject_token"] == ["PEFzc2VydGlvbi8-"]
    misuse = run("true", more=("--token-type", "saml2"))
    assert misuse.returncode == 2
    assert "can only be exchanged" in misuse.stderr


@pytest.mark.parametrize(
    ("code", "answer", "words"),
    [
        pytest.param(
            400,
            {"error": "invalid_request", "error_description": f"wrong-audience: {PLATFORM_TOKEN} is for another"},
            "invalid_request: wrong-audience: … is for another",
            id="refused with the token said back",
        ),
        pytest.param(400, {"error": f"x {PLATFORM_TOKEN}"}, "x …", id="refused with it as a code"),
        pytest.param(
            404, {"error": {"reason": "not-found", "message": "nothing is served here"}}, "here", id="no /token"
        ),
        pytest.param(200, {"access_token": "a b"}, "gives no session token", id="no token"),
        pytest.param(200, {"access_token": f"{SESSION_TOKEN}\r\nX: y"}, "gives no session token", id="two lines"),
        pytest.param(200, [], "gives no session token", id="no object"),
        pytest.param(302, {}, "answered 302", id="a redirect"),
    ],
)
def test_no_exchange_no_command(run, exchanger, tmp_path, code, answer, words) -> None:
    exchanger.code, exchanger.answer = code, answer
    done = run("touch", str(tmp_path / "ran"), control=exchanger.url)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "\nhint: " in done.stderr
    assert PLATFORM_TOKEN not in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("control", "words"),
    [
        pytest.param("127.0.0.1:1", "does not answer", id="nobody there"),
        pytest.param("http://gateway.acme.dev:8082", "plain http to another machine", id="in the clear"),
        pytest.param("ftp://127.0.0.1", "not an http or https URL", id="no URL of ours"),
    ],
)
def test_a_control_port_that_cannot_be_used_is_an_operators_error(run, control, words) -> None:
    done = run("true", control=control)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_no_proxy_of_the_environment_sees_the_exchange(run, exchanger) -> None:
    nowhere = "http://127.0.0.1:1"
    assert run("true", control=exchanger.url, http_proxy=nowhere, HTTP_PROXY=nowhere).returncode == 0
    assert len(exchanger.forms) == 1


def test_nothing_is_printed_and_no_command_line_holds_the_token(run, exchanger) -> None:
    halves = [(token[:20], token[20:]) for token in (PLATFORM_TOKEN, SESSION_TOKEN)]
    script = f"""
import pathlib
lines = [path.read_bytes().decode(errors="replace") for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
assert any("coatcheck" in line for line in lines)
print(sum("".join(halves) in line for halves in {halves!r} for line in lines))
"""
    done = run(PYTHON, "-c", script, control=exchanger.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


# -- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "command", "code", "words"),
    [
        pytest.param((), (), 2, "Missing argument", id="no command"),
        pytest.param(("--token-from", PLATFORM_TOKEN), ("true",), 1, "not a token source", id="a token as the source"),
        pytest.param(("--gateway", "8080"), ("true",), 1, "--gateway: not HOST:PORT", id="no host"),
        pytest.param(("--gateway", "g:99999"), ("true",), 1, "is not HOST:PORT", id="no port"),
        pytest.param(("--gateway", "https://g:1"), ("true",), 1, "--gateway: not HOST:PORT", id="a URL"),
        pytest.param(("--gateway", "g@evil.example:80"), ("true",), 1, "--gateway: not HOST:PORT", id="a user"),
        pytest.param(("--gateway", "evil.example/:80"), ("true",), 1, "--gateway: not HOST:PORT", id="a path"),
        pytest.param(("--ca", "/none.pem"), ("true",), 1, "/none.pem: cannot read", id="no certificate"),
    ],
)
def test_misuse_is_told(run, more, command, code, words) -> None:
    done = run(*command, more=more)
    assert done.returncode == code
    assert words in done.stderr
    assert PLATFORM_TOKEN not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_source_the_platform_is_guessed_or_it_is_an_error(caller) -> None:
    command = [str(BIN / "coatcheck"), "exec", "--ca", str(caller.ca), "--no-exchange", "--", "true"]

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = caller.environment(**{"GITLAB_CI": "", "GITHUB_ACTIONS": "", **variables})
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "no token source given" in run().stderr
    assert "--token-from gitlab: a platform's token needs --audience" in run(GITLAB_CI="true").stderr
    named = {"COATCHECK_AUDIENCE": "https://g.example", "HTTPS___G_EXAMPLE_ID_TOKEN": PLATFORM_TOKEN}
    assert run(GITLAB_CI="true", **named).returncode == 0


def test_the_ca_of_a_gateway_on_this_machine_is_found(caller) -> None:
    state = caller.home / ".local/state/coatcheck/ca"
    command = [str(BIN / "coatcheck"), "exec", "--token-from", f"file:{caller.token}", "--no-exchange", "--", "true"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=caller.environment(), capture_output=True, text=True, check=False)

    assert "no gateway's state on this machine" in run().stderr
    state.mkdir(parents=True)
    (state / "ca.pem").write_bytes(caller.ca.read_bytes())
    assert run().returncode == 0
