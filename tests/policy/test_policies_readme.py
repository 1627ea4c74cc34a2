"""policies/README.md says what is so: its commands are run, its pieces of policy load, its links exist.

Law: every `sh` block is run, in order; what is shown after it is what it prints.
"""

import json
import os
import re
import subprocess
from datetime import UTC, datetime

import pytest
from page import ROOT, blocks, pattern_of, plain, steps

from coatcheck.mcp.call import Call
from coatcheck.policy.conditions import compile_condition
from coatcheck.policy.source import read_source
from coatcheck.sessions.recorder import SessionKey, SessionRecorder
from story.part import clean_environment
from story.processes import BIN

PAGE = (ROOT / "policies" / "README.md").read_text()
CALLS = [
    ("get_issue", "allow"),
    ("get_file_contents", "allow"),
    ("get_commit", "allow"),
    ("list_issues", "allow"),
    ("create_issue", "deny"),
]


@pytest.fixture
def home(tmp_path):
    """A home whose state holds one recorded session of docs-ci."""
    folder = tmp_path / ".local" / "state" / "coatcheck" / "sessions"
    folder.mkdir(parents=True)
    for made in (folder, folder.parent):
        made.chmod(0o700)
    recorder = SessionRecorder(folder, clock=lambda: datetime(2026, 11, 24, tzinfo=UTC))
    recorder.start()
    for name, decision in CALLS:
        params = {"name": name, "arguments": {}}
        call = Call("mcp", "tools/call", name, {}, params, 1)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        key = SessionKey("docs-ci", "a1", "github")
        one = recorder.begin(key, issuer="github", subject="x", url="https://api.githubcopilot.com/mcp/", policy="")
        rules = ["ci-reads"] if decision == "allow" else []
        one.request("POST", "https://api.githubcopilot.com/mcp/", [], body, [call], decision, rules, approval=None)
        one.end("answered")
    recorder.close()
    return tmp_path


@pytest.mark.e2e
def test_every_command_on_the_page_works_and_prints_what_is_shown(home):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment(HOME=str(home), PATH=path, COLUMNS="160")
    todo = steps(PAGE)
    assert len(todo) >= 10
    for step in todo:
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{step.commands}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        at = f"policies/README.md:{step.line}"
        assert done.returncode == 0, f"{at}: exit {done.returncode}:\n{done.stdout}"
        assert step.shown is not None, f"{at}: what it prints is not shown"
        assert pattern_of(step.shown).fullmatch(plain(done.stdout)), f"{at}: printed:\n{done.stdout}"


def test_the_policy_it_shows_can_be_read():
    pieces = [text for _, text, _ in blocks(PAGE, "yaml")]
    assert len(pieces) >= 3
    for text in pieces:
        whole = text if not text.startswith("-") else "rules:\n" + text
        assert read_source(whole.encode(), "x")[1] == []


def test_the_conditions_it_shows_are_conditions():
    pieces = [line for _, text, _ in blocks(PAGE, "cel") for line in text.splitlines()]
    assert len(pieces) >= 5
    for piece in pieces:
        assert compile_condition(piece).source == piece


def test_every_file_it_links_to_exists_and_every_example_is_listed():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not link.startswith("#")]
    missing = [link for link in links if not (ROOT / "policies" / link.partition("#")[0]).exists()]
    assert missing == []
    examples = {file.name for file in (ROOT / "policies" / "examples").glob("*.yaml") if ".test." not in file.name}
    assert {link.removeprefix("examples/") for link in links if link.startswith("examples/")} == examples
