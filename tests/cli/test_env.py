"""`coatcheck env` prints what `coatcheck exec` would set, and has GitHub mask it before it is used."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from coatcheck.client.sources import CallerToken
from coatcheck.client.variables import PROXY_VARIABLES, spellings
from story.processes import BIN

PLATFORM_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwbGF0Zm9ybSJ9.cGxhdGZvcm0tY2FuYXJ5"
SESSION_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzZXNzaW9uIn0.c2Vzc2lvbi1jYW5hcnk"


@pytest.fixture
def env(caller):
    """Runs `coatcheck env`; without `control` the token is not exchanged."""

    def env(*more: str, control: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        way = ("--control", control) if control else ("--no-exchange",)
        return subprocess.run(
            [str(BIN / "coatcheck"), "env", *caller.options, *way, *more],
            env=caller.environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return env


def test_a_shell_that_evals_it_has_the_same_environment_as_exec(env, caller, tmp_path) -> None:
    folder = tmp_path / "a folder"
    printed = env("--folder", str(folder))
    assert printed.returncode == 0
    assert printed.stderr.startswith("warning: ")
    inherited = caller.environment(NO_PROXY="*", no_proxy="*")
    show = 'printf "%s\\n" "$https_proxy" "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS" "${NO_PROXY-none}" "${no_proxy-none}"'
    done = subprocess.run(
        ["sh", "-c", f'eval "$LINES"; {show}'],
        env={**inherited, "LINES": printed.stdout},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"http://ci:{PLATFORM_TOKEN}@127.0.0.1:18080",
        str(folder / "bundle.pem"),
        str(folder / "gateway-ca.pem"),
        "none",
        "none",
    ]


def test_the_certificate_files_stay_and_are_private(env, caller) -> None:
    values = json.loads(env("--json").stdout)["set"]
    bundle = Path(values["SSL_CERT_FILE"])
    assert bundle == caller.home / ".cache/coatcheck/bundle.pem"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert stat.S_IMODE(bundle.parent.stat().st_mode) == 0o700
    again = Path(json.loads(env("--json").stdout)["set"]["SSL_CERT_FILE"])
    assert sorted(path.name for path in again.parent.iterdir()) == ["bundle.pem", "gateway-ca.pem"]


def test_json_says_what_to_set_and_what_to_take_away(env) -> None:
    done = env("--json")
    said = json.loads(done.stdout)
    assert said["set"]["HTTPS_PROXY"] == f"http://ci:{PLATFORM_TOKEN}@127.0.0.1:18080"
    assert said["unset"] == ["NO_PROXY", "no_proxy"]
    assert "caller's token" in done.stderr


def test_on_github_the_token_is_masked_and_set_for_the_next_steps(env, exchanger, tmp_path) -> None:
    file = tmp_path / "github_env"
    file.write_text("BEFORE=1\n")
    github = {"GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file), "RUNNER_TEMP": str(tmp_path)}
    done = env("--format", "github", control=exchanger.url, **github)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith("::add-mask::") for line in lines)
    masked = {line.removeprefix("::add-mask::") for line in lines}
    assert masked == {*spellings(CallerToken(PLATFORM_TOKEN)), *spellings(CallerToken(SESSION_TOKEN))}
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert values["BEFORE"] == "1"
    for name in PROXY_VARIABLES:
        assert values[name] == f"http://ci:{SESSION_TOKEN}@127.0.0.1:18080"
    assert (values["NO_PROXY"], values["no_proxy"]) == ("", "")
    assert values["SSL_CERT_FILE"] == str(tmp_path / "coatcheck" / "bundle.pem")


def test_on_github_lines_for_a_shell_are_masked_on_the_other_stream(env, tmp_path) -> None:
    done = env(GITHUB_ACTIONS="true", RUNNER_TEMP=str(tmp_path))
    assert f"::add-mask::{PLATFORM_TOKEN}" in done.stderr
    assert "::add-mask::" not in done.stdout


def test_elsewhere_nothing_is_said_of_masks(env) -> None:
    done = env()
    assert "::add-mask::" not in done.stdout + done.stderr
    assert PLATFORM_TOKEN not in done.stderr


def test_the_github_form_outside_of_a_job_is_an_error_and_no_token_is_asked_for(env, exchanger) -> None:
    done = env("--format", "github", control=exchanger.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: GITHUB_ENV: not set\nhint: ")
    assert exchanger.forms == []


@pytest.mark.parametrize(("mode", "code"), [(0o700, 0), (0o755, 0), (0o777, 1), (0o775, 1)])
def test_a_folder_that_others_may_write_to_is_refused(env, tmp_path, mode, code) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    done = env("--folder", str(folder))
    assert done.returncode == code
    assert ("others may write to this folder" in done.stderr) is (code == 1)
    assert len(list(folder.iterdir())) == (0 if code else 2)


def test_a_folder_that_cannot_be_made_is_an_error(env, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = env("--folder", str(tmp_path / "file" / "x"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot make the folder" in done.stderr
