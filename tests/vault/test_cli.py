"""`coatcheck vault`, on a real state directory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from coatcheck.errors import CoatcheckError, VaultError
from coatcheck.state import StateDirectory
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.store import Vault
from coatcheck_cli.main import cli

VALUE = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"

POLICY = """
coatcheck: 1
gateway: {audience: https://gateway.acme.test}
issuers:
  github: {preset: github-actions}
identities:
  shop-ci: {issuer: github, claims: {repository_id: "74627617"}}
servers:
  github: {url: https://api.github.test/mcp}
rules:
  - {id: all, who: [shop-ci], server: github, tools: ["*"], effect: allow}
"""

type Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def invoke(*arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
        env = {"COATCHECK_STATE": str(tmp_path / "state"), "COATCHECK_POLICY": None, **environ}
        result = CliRunner().invoke(cli, ["vault", *arguments], input=stdin, env=env)
        assert VALUE not in result.output
        assert VALUE not in repr(result.exception)
        return result

    return invoke


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str], bytes]:
    def reveal(name: str) -> bytes:
        state = StateDirectory(tmp_path / "state")
        key, _ = find_master_key(state, {})
        return Vault.open(state.open_database(), key).snapshot().open(name).secret.reveal()

    return reveal


def failed(result: Result) -> CoatcheckError:
    """The operator's error a command ended with (`main` prints it)."""
    assert isinstance(result.exception, CoatcheckError), result.output
    return result.exception


def test_init_makes_key_and_vault_and_warns_about_where_the_key_lies(run: Run, tmp_path: Path) -> None:
    first = run("init")
    assert first.exit_code == 0
    assert "warning: the master key lies beside what it protects" in first.stderr
    key = (tmp_path / "state" / "master.key").read_bytes()
    again = run("init")
    assert again.stderr == ""
    assert (tmp_path / "state" / "master.key").read_bytes() == key


def test_set_reads_standard_input_and_prints_the_placeholder(run: Run, stored: Callable[[str], bytes]) -> None:
    run("init")
    result = run("set", "github-pat", "--server", "github", stdin=VALUE + "\n")
    assert result.stdout == "secret: github-pat, version 1\nplaceholder: coat_github_pat\n"
    assert stored("github-pat") == VALUE.encode()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        pytest.param(b"12345678", b"12345678", id="no line end"),
        pytest.param(b"12345678\n", b"12345678", id="line feed"),
        pytest.param(b"12345678\r\n", b"12345678", id="CR LF"),
        pytest.param(b"12345678\n\n", b"12345678\n", id="only one"),
        pytest.param(b"1234\xff678", b"1234\xff678", id="bytes"),
    ],
)
def test_one_line_end_is_left_out(run: Run, stored: Callable[[str], bytes], typed: bytes, kept: bytes) -> None:
    run("init")
    assert run("set", "token", "--server", "github", "--query", "key", stdin=typed).exit_code == 0
    assert stored("token") == kept


def test_a_value_is_never_an_argument(run: Run) -> None:
    run("init")
    result = CliRunner().invoke(cli, ["vault", "set", "github-pat", "some-value", "--server", "github"])
    assert result.exit_code == 2


def test_list_and_show_tell_where_a_secret_may_go(run: Run) -> None:
    run("init")
    places = ("--header", "X-Api-Key", "--format", "{}", "--identity", "shop-ci", "--unsafe-plain-http")
    run("set", "github-pat", "--server", "github", "--server", "gitlab", *places, stdin=VALUE)
    assert "coat_github_pat" in run("list").stdout
    (row,) = json.loads(run("list", "--json").stdout)
    assert row == json.loads(run("show", "github-pat", "--json").stdout)
    assert (row["name"], row["version"], row["placeholder"]) == ("github-pat", 1, "coat_github_pat")
    assert [binding["server"] for binding in row["bindings"]] == ["github", "gitlab"]
    shown = run("show", "github-pat").stdout
    assert "server github: header x-api-key as '{}', for shop-ci, over plain HTTP to this machine too" in shown


def test_an_empty_vault_says_so(run: Run) -> None:
    run("init")
    assert run("list").stdout == "the vault holds no secrets\n"
    assert json.loads(run("list", "--json").stdout) == []


def test_a_body_binding_names_no_header(run: Run) -> None:
    run("init")
    run("set", "token", "--server", "github", "--pointer", "/params/arguments/key", stdin=VALUE)
    (binding,) = json.loads(run("show", "token", "--json").stdout)["bindings"]
    assert (binding["header"], binding["pointer"]) == (None, "/params/arguments/key")
    misuse = run("set", "token", "--server", "github", "--query", "key", "--format", "{}", stdin=VALUE)
    assert misuse.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "value", "message"),
    [
        pytest.param(["--server", "github", "--header", "User-Agent"], VALUE, "user-agent", id="echoed header"),
        pytest.param(["--server", "github", "--format", "Bearer"], VALUE, "exactly one {}", id="format"),
        pytest.param(["--server", "github"], "", "too short", id="no value"),
        pytest.param(["--server", "github"], "1234567\n", "too short", id="short value"),
        pytest.param(["--server", "github"], VALUE + "\r\nX: y", "control characters", id="line end inside"),
        pytest.param(["--server", "github"], "x" * 20000, "longer than", id="huge value"),
        pytest.param(["--server", "github", "--placeholder", "p"], VALUE, "8 to 200", id="placeholder"),
    ],
)
def test_what_cannot_be_stored_is_an_error(run: Run, arguments: list[str], value: str, message: str) -> None:
    run("init")
    assert run("set", "token", "--server", "github", stdin=VALUE).exit_code == 0
    error = failed(run("set", "other", *arguments, stdin=value))
    assert isinstance(error, VaultError)
    assert message in str(error)


def test_a_short_value_goes_in_on_request(run: Run, stored: Callable[[str], bytes]) -> None:
    run("init")
    run("set", "pin", "--server", "github", "--unsafe-short", "--placeholder", "pin_stand_in", stdin="1234")
    assert stored("pin") == b"1234"


def test_without_a_vault_the_hint_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    assert "coatcheck init" in str(failed(run("list")).problems[0].hint)
    StateDirectory(tmp_path / "state").create()
    assert "coatcheck vault init" in str(failed(run("list")).problems[0].hint)


def test_another_key_is_told(run: Run) -> None:
    run("init")
    error = failed(run("list", COATCHECK_KEY_CMD="echo " + "00" * 32))
    assert str(error) == "wrong master key"


def test_an_unknown_secret_is_told_with_the_nearest_name(run: Run) -> None:
    run("init")
    run("set", "github-pat", "--server", "github", stdin=VALUE)
    error = failed(run("show", "github-pta"))
    assert error.lines() == ["error: no secret 'github-pta' in the vault", "hint: did you mean 'github-pat'?"]


def test_the_policy_must_know_the_server_and_the_identity(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    run("init")
    good = ("set", "token", "--server", "github", "--identity", "shop-ci", "--policy", str(policy))
    assert run(*good, stdin=VALUE).exit_code == 0
    for option, name, near in (("--server", "githib", "github"), ("--identity", "shop-cy", "shop-ci")):
        error = failed(run(*good, option, name, stdin=VALUE))
        assert repr(name) in str(error)
        assert error.problems[0].hint == f"did you mean {near!r}?"
    assert run("set", "token", "--server", "githib", COATCHECK_POLICY=str(policy), stdin=VALUE).exit_code == 1
