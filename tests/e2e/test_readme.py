"""README.md and SECURITY.md say what is so: commands are run, policies loaded, the tests they name exist.

Law: every `sh` block of README is run, in order, in one shell; what is shown after it is what it prints.
"""

import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from page import PORTS, ROOT, blocks, pattern_of, plain, steps, with_ports

from coatcheck.http.headers import forwarded, without
from coatcheck.policy.load import load_policy
from coatcheck.settings import OPTIONS
from coatcheck.vault.bindings import Binding
from coatcheck.vault.plan import Outgoing, SwapPlan, Use
from coatcheck.vault.scrub import ScrubberCache
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo
from coatcheck.vault.swap import apply_swap
from story.part import clean_environment, free_port
from story.processes import BIN

README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
SECONDS = 180
MARK = "@@ block "
GITHUB_TOKEN = "github_pat_11AAEXAMPLE"

_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize(
    ("shown", "printed", "matches"),
    [
        ("a …, c", "a b, c", True),
        ("a  b", "a     b  ", True),
        ("first\n…\nlast", "first\n2\n3\nlast", True),
        ("first\n…\nlast", "first\nlast", True),
        ("first\nlast", "first\n2\nlast", False),
        ("a …, c", "a b\n, c", False),
        ("a.c", "abc", False),
    ],
    ids=["within-a-line", "blanks", "any-lines", "no-lines", "a-line-too-many", "not-across-lines", "literally"],
)
def test_shown_output_means_what_it_says(shown: str, printed: str, matches: bool) -> None:
    assert bool(pattern_of(shown).fullmatch(plain(printed))) is matches


@pytest.mark.e2e
def test_every_command_on_the_page_works_and_prints_what_is_shown(tmp_path: Path) -> None:
    ports = {port: free_port() for port in PORTS}
    todo = steps(README)
    assert len(todo) >= 10
    code, printed = run_shell([with_ports(step.commands, ports) for step in todo], home=tmp_path, ports=ports)
    outputs = printed.split(MARK)[1:]
    log = (tmp_path / "gateway.log").read_text() if (tmp_path / "gateway.log").exists() else "none"
    last = todo[len(outputs) - 1]
    assert code == 0, f"README.md:{last.line}: exit {code} after:\n{printed[-2000:]}\ngateway.log:\n{log[-2000:]}"
    assert len(outputs) == len(todo)
    for step, output in zip(todo, outputs, strict=True):
        said = plain(output.partition("\n")[2])
        wanted = pattern_of(with_ports(step.shown or "", ports))
        assert wanted.fullmatch(said), f"README.md:{step.line}: shown:\n{step.shown}\nprinted:\n{said}"


def run_shell(scripts: list[str], *, home: Path, ports: Mapping[str, int]) -> tuple[int, str]:
    """Runs the scripts in one bash, each announced by a line of its own; ends all that they started.

    The gateway's ports reach it as README's variables. Returns the exit code and everything printed.
    """
    announced = [f"echo '{MARK}{number}'\n{script}" for number, script in enumerate(scripts)]
    environment = clean_environment(
        HOME=str(home),
        PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
        COLUMNS="120",
        GITHUB_TOKEN=GITHUB_TOKEN,
        COATCHECK_CONTROL=f"127.0.0.1:{ports['8082']}",
        COATCHECK_LISTEN=f"127.0.0.1:{ports['8080']}",
        PYTHONUNBUFFERED="1",
    )
    shell = subprocess.Popen(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(announced)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        end_all(shell)
        pytest.fail(f"README's commands hung:\n{shell.communicate()[0][-2000:]}")
    end_all(shell)
    return shell.returncode, printed


def end_all(shell: subprocess.Popen[str]) -> None:
    """Ends the shell's process group: README leaves a server and a gateway running."""
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_the_request_shown_before_and_after_is_what_the_gateway_makes_of_it() -> None:
    before, after = (text for _, text, _ in blocks(README, "http"))
    (answer,) = (text.strip() for _, text, _ in blocks(README, "json"))
    head, _, body = before.strip().encode().partition(b"\n\n")
    line, *headers = head.split(b"\n")
    fields = tuple((name, value) for name, _, value in (header.partition(b": ") for header in headers))
    sent = forwarded(
        without(fields, "authorization"), authority="api.githubcopilot.com", body=body, method=line.decode().split()[0]
    )
    binding = Binding(server="github")
    info = SecretInfo("github-pat", 1, "coat_github_pat", (binding,), datetime.now(UTC), "")
    plan = SwapPlan((Use(Credential(info, Secret(GITHUB_TOKEN.encode())), binding, injected=True),))
    outgoing = apply_swap(plan, Outgoing(tuple(sent), b"/mcp/", body))
    leaves = [line, *(name + b": " + value for name, value in outgoing.headers), b"", outgoing.body]
    assert b"\n".join(leaves) == after.strip().encode()
    echo = re.sub(r"Bearer \*+", f"Bearer {GITHUB_TOKEN}", answer)
    assert ScrubberCache().get(plan.credentials).whole(echo.encode(), []) == answer.encode()


def test_the_policy_shown_is_the_example_and_loads() -> None:
    shown = [text for _, text, _ in blocks(README, "yaml") if text.startswith("coatcheck: 1")]
    example = ROOT / "policies" / "examples" / "github.yaml"
    assert shown == [example.read_text()]
    assert load_policy(example).rules


def test_every_option_is_in_the_options_table() -> None:
    for option in OPTIONS:
        assert f"| `{option.variable}` | `{option.key}` | `--{option.name.replace('_', '-')}` |" in README


def test_every_file_that_the_pages_link_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README + SECURITY)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_test_that_security_md_names_exists() -> None:
    named = _TEST.findall(SECURITY)
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if not has_test(ROOT / file, name)]
    assert missing == []


def has_test(file: Path, name: str) -> bool:
    """Whether the file exists and, where a name is given, defines that test."""
    if not file.is_file():
        return False
    return not name or re.search(rf"^(?:async )?def {name}\(", file.read_text(), re.MULTILINE) is not None


def test_the_changelog_has_a_section_for_the_version_and_for_what_is_next() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = re.search(r'__version__ = "(.+?)"', (ROOT / "addons/coatcheck/__init__.py").read_text())
    assert version is not None
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == "coatcheck"
    assert re.search(rf"^## \[?{re.escape(version[1])}\]?", changelog, re.MULTILINE)
