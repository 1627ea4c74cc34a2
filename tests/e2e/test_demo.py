"""The demonstration holds, and prints what README shows."""

import subprocess

import pytest
from page import ROOT, blocks, pattern_of, plain

from story.part import clean_environment

pytestmark = pytest.mark.e2e


def test_every_step_of_the_demonstration_holds_and_readme_shows_what_it_prints() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "demo"], env=clean_environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    held = [line for line in done.stdout.splitlines() if line.startswith("held ")]
    assert done.stdout.splitlines()[-1] == f"demo: {len(held)}/{len(held)} steps held"
    shown = [text.partition("\n") for _, text, _ in blocks((ROOT / "README.md").read_text(), "console")]
    (output,) = [output for command, _, output in shown if command == "$ scripts/demo"]
    assert pattern_of(output).fullmatch(plain(done.stdout)), done.stdout
