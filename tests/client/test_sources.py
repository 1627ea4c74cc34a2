"""Where a token comes from: each source gives exactly its token, or an error that holds none of it."""

import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from id._internal.oidc import ambient

from coatcheck.client.sources import (
    MAX_TOKEN_BYTES,
    FromCommand,
    FromFile,
    FromPlatform,
    FromVariable,
    guess_source,
    obtain_assertion,
    obtain_token,
    parse_source,
)
from coatcheck.errors import CoatcheckError
from coatcheck.identity.token_request import read_assertion

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
AUDIENCE = "https://gateway.acme.dev"
MARKS = ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME")


def problem(error: pytest.ExceptionInfo[CoatcheckError]) -> str:
    """Everything that is printed of an error."""
    return "\n".join(error.value.lines())


# -- as written -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("github", FromPlatform("github")),
        ("gcp", FromPlatform("gcp")),
        ("file:/run/token", FromFile(Path("/run/token"))),
        ("file:a:b", FromFile(Path("a:b"))),
        ("cmd:gcloud auth print-identity-token", FromCommand(("gcloud", "auth", "print-identity-token"))),
        ("cmd:say 'two words' a:b", FromCommand(("say", "two words", "a:b"))),
        ("env:MY_TOKEN", FromVariable("MY_TOKEN")),
    ],
)
def test_a_source_is_what_is_written(text, source) -> None:
    assert parse_source(text, where="--token-from") == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GitHub",
        "github:",
        "jenkins",
        "file:",
        "file",
        "cmd:",
        "cmd:'open",
        "cmd: ",
        "env:",
        "env:A-B",
        "env:1",
        TOKEN,
    ],
)
def test_anything_else_is_refused_and_not_quoted(text) -> None:
    with pytest.raises(CoatcheckError) as caught:
        parse_source(text, where="--token-from")
    assert TOKEN not in problem(caught)
    assert problem(caught).startswith("error: --token-from: not a ")


def test_a_home_folder_is_spelt_out() -> None:
    assert parse_source("file:~/token", where="") == FromFile(Path.home() / "token")


@pytest.mark.parametrize(
    ("name", "platform"),
    [("GITHUB_ACTIONS", "github"), ("GITLAB_CI", "gitlab"), ("BUILDKITE", "buildkite"), ("CIRCLECI", "circleci")],
)
def test_a_platform_is_told_by_its_environment(name, platform) -> None:
    assert guess_source({name: "true", "CI": "true"}, where="") == FromPlatform(platform)


@pytest.mark.parametrize("environ", [{}, {"CI": "true"}, {"GITHUB_ACTIONS": ""}, {"GITLAB_CI": "1", "BUILDKITE": "1"}])
def test_none_and_two_are_an_error_rather_than_a_guess(environ) -> None:
    with pytest.raises(CoatcheckError, match="no token source given"):
        guess_source(environ, where="--token-from")


# -- files, commands, variables ---------------------------------------------------------------------------------------


def test_a_file_a_command_and_a_variable_give_their_token(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n")
    assert obtain_token(FromFile(path), None, {}).value == TOKEN
    assert obtain_token(FromCommand(("printf", "%s\\n", TOKEN)), None, os.environ).value == TOKEN
    assert obtain_token(FromVariable("T"), None, {"T": TOKEN}).value == TOKEN


def test_its_repr_shows_nothing() -> None:
    assert "canary" not in repr(obtain_token(FromVariable("T"), None, {"T": "canary"}))


def test_a_command_is_not_given_to_a_shell(tmp_path) -> None:
    made = tmp_path / "made"
    with pytest.raises(CoatcheckError):
        obtain_token(parse_source(f"cmd:echo x; touch {made}", where=""), None, os.environ)
    assert not made.exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(FromFile(Path("/none/token")), "No such file", id="no file"),
        pytest.param(FromFile(Path("/")), "Is a directory", id="a folder"),
        pytest.param(FromCommand(("false",)), "exit status 1", id="a command that fails"),
        pytest.param(FromCommand(("sh", "-c", f"echo {TOKEN}; exit 3")), "exit status 3", id="it fails with a token"),
        pytest.param(FromCommand(("/none/command",)), "No such file", id="no command"),
        pytest.param(FromCommand(("true",)), "no token there", id="a command that is silent"),
        pytest.param(FromVariable("NONE"), "no such variable", id="no variable"),
        pytest.param(FromPlatform("github"), "needs --audience", id="no audience"),
    ],
)
def test_a_source_that_gives_nothing_is_an_error(source, words) -> None:
    with pytest.raises(CoatcheckError, match=words) as caught:
        obtain_token(source, None, {"PATH": os.environ["PATH"]})
    assert TOKEN not in problem(caught)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(f"{TOKEN}\n{TOKEN}", id="two lines"),
        pytest.param(f"{TOKEN} x", id="two words"),
        pytest.param(f"Bearer {TOKEN}", id="a header's value"),
        pytest.param(f'{{"value": "{TOKEN}"}}', id="JSON"),
        pytest.param(f"{TOKEN}\x00", id="a zero byte"),
        pytest.param(f"{TOKEN}é", id="not ASCII"),
        pytest.param(f"{TOKEN}@evil.example/", id="it would end the URL's userinfo"),
        pytest.param("a" * (MAX_TOKEN_BYTES + 1), id="too long"),
    ],
)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path, text) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(CoatcheckError) as caught:
        obtain_token(FromFile(path), None, {})
    assert not text.strip() or text.strip()[:40] not in problem(caught)


@given(st.text(max_size=60))
def test_a_token_is_taken_whole_or_not_at_all(text) -> None:
    try:
        token = obtain_token(FromVariable("T"), None, {"T": text}).value
    except CoatcheckError as error:
        shown = str(error)
        assert len(text.strip()) < 8 or text.strip() not in shown
    else:
        assert token == text.strip()
        assert not set(token) & set("@:?# \n\r\t\"'%\\")


def test_an_assertion_is_given_as_an_exchange_takes_it(tmp_path) -> None:
    path = tmp_path / "assertion.xml"
    path.write_text(" <Assertion>ü?>~</Assertion>\n")
    for source in (FromFile(path), FromCommand(("cat", str(path))), FromVariable("A")):
        token = obtain_assertion(source, {**os.environ, "A": path.read_text()}).value
        assert read_assertion(token) == "<Assertion>ü?>~</Assertion>".encode()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(FromVariable("A"), "no SAML assertion", id="a JWT"),
        pytest.param(FromVariable("NONE"), "no SAML assertion", id="no variable"),
        pytest.param(FromVariable("LONG"), "no SAML assertion", id="too long"),
        pytest.param(FromPlatform("github"), "gives no SAML assertion", id="a platform"),
    ],
)
def test_what_is_no_assertion_is_refused(source, words) -> None:
    with pytest.raises(CoatcheckError, match=words) as caught:
        obtain_assertion(source, {"A": TOKEN, "LONG": "<" + "a" * MAX_TOKEN_BYTES})
    assert TOKEN not in problem(caught)


# -- platforms --------------------------------------------------------------------------------------------------------


class Platform:
    """Answers every request with `code` and `body`; `asked` are its queries, `headers` theirs."""

    def __init__(self) -> None:
        self.code, self.body = 200, json.dumps({"value": TOKEN}).encode()
        self.asked: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                platform.asked.append(parse_qs(urlsplit(self.path).query))
                platform.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(platform.code)
                self.send_header("Content-Length", str(len(platform.body)))
                self.end_headers()
                self.wfile.write(platform.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def platform(monkeypatch) -> Iterator[Platform]:
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    platform = Platform()
    yield platform
    platform.server.shutdown()
    platform.server.server_close()


@pytest.fixture
def github(platform, monkeypatch) -> Platform:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{platform.url}/token?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-canary")
    return platform


def test_github_is_asked_for_a_token_of_the_audience(github) -> None:
    assert obtain_token(FromPlatform("github"), AUDIENCE, os.environ).value == TOKEN
    assert github.asked == [{"api-version": ["2.0"], "audience": [AUDIENCE]}]
    assert github.headers[0]["authorization"] == "bearer request-canary"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        pytest.param(403, f"no: {TOKEN}".encode(), id="an error that holds a token"),
        pytest.param(500, b"\xff\xfe", id="an error that is no text"),
        pytest.param(200, b"{", id="no JSON"),
        pytest.param(200, b"[]", id="a list"),
        pytest.param(200, json.dumps({"value": None}).encode(), id="no value"),
        pytest.param(200, json.dumps({"value": f"{TOKEN} {TOKEN}"}).encode(), id="no token"),
    ],
)
def test_what_github_says_otherwise_is_not_shown(github, code, body) -> None:
    github.code, github.body = code, body
    with pytest.raises(CoatcheckError) as caught:
        obtain_token(FromPlatform("github"), AUDIENCE, os.environ)
    shown = problem(caught)
    assert "canary" not in shown
    assert TOKEN not in shown
    assert caught.value.__cause__ is None
    assert (code == 200) or code != 403 or "HTTP 403" in shown


def test_github_out_of_reach_is_an_operators_error(github, monkeypatch) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/token")
    with pytest.raises(CoatcheckError, match="the platform gave no token"):
        obtain_token(FromPlatform("github"), AUDIENCE, os.environ)


def test_a_github_job_without_the_permission_is_told_which(github, monkeypatch) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    with pytest.raises(CoatcheckError) as caught:
        obtain_token(FromPlatform("github"), AUDIENCE, os.environ)
    assert problem(caught).endswith("hint: give the job permissions: {id-token: write}")


def test_gitlab_gives_it_in_the_variable_named_after_the_audience(platform, monkeypatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    with pytest.raises(CoatcheckError, match="the platform gave no token"):
        obtain_token(FromPlatform("gitlab"), AUDIENCE, os.environ)
    monkeypatch.setenv("HTTPS___GATEWAY_ACME_DEV_ID_TOKEN", TOKEN)
    assert obtain_token(FromPlatform("gitlab"), AUDIENCE, os.environ).value == TOKEN


@pytest.mark.parametrize(
    ("name", "mark", "program", "arguments"),
    [
        ("buildkite", "BUILDKITE", "buildkite-agent", f"oidc request-token --audience {AUDIENCE}"),
        (
            "circleci",
            "CIRCLECI",
            "circleci",
            f'run oidc get --claims {{"aud": "{AUDIENCE}"}} --root-issuer',
        ),
    ],
)
def test_the_platforms_own_program_is_asked(platform, tmp_path, monkeypatch, name, mark, program, arguments) -> None:
    agent = tmp_path / program
    agent.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/arguments\necho {TOKEN}\nexit $CODE\n')
    agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(mark, "true")
    monkeypatch.setenv("CODE", "0")
    with pytest.raises(CoatcheckError, match="the platform gave no token"):
        obtain_token(FromPlatform(name), AUDIENCE, os.environ)  # it is not installed
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert obtain_token(FromPlatform(name), AUDIENCE, os.environ).value == TOKEN
    assert (tmp_path / "arguments").read_text().strip() == arguments
    monkeypatch.setenv("CODE", "1")
    with pytest.raises(CoatcheckError) as caught:
        obtain_token(FromPlatform(name), AUDIENCE, os.environ)
    assert TOKEN not in problem(caught)


def test_gcp_is_asked_at_its_metadata_address(platform, tmp_path, monkeypatch) -> None:
    product = tmp_path / "product_name"
    product.write_text("Google Compute Engine\n")
    monkeypatch.setattr(ambient, "_GCP_PRODUCT_NAME_FILE", str(product))
    monkeypatch.setattr(ambient, "_GCP_IDENTITY_REQUEST_URL", f"{platform.url}/identity")
    platform.body = TOKEN.encode()
    assert obtain_token(FromPlatform("gcp"), AUDIENCE, os.environ).value == TOKEN
    assert platform.asked == [{"audience": [AUDIENCE], "format": ["full"]}]
    product.write_text("A laptop\n")
    with pytest.raises(CoatcheckError, match="this is not that platform"):
        obtain_token(FromPlatform("gcp"), AUDIENCE, os.environ)


@pytest.mark.parametrize("name", ["github", "gitlab", "buildkite", "circleci"])
def test_a_platform_that_is_named_and_not_there_is_an_error_though_another_is(platform, monkeypatch, name) -> None:
    monkeypatch.setenv("CIRCLECI" if name == "github" else "GITHUB_ACTIONS", "true")
    with pytest.raises(CoatcheckError, match="this is not that platform"):
        obtain_token(FromPlatform(name), AUDIENCE, os.environ)
