"""A part of the story: one process, started, waited for, ended.

Law: a part that is not ready in time, or ends with another exit code than it should, is a `StoryError`
that shows the end of its output.
Law: leaving a part's `with` block leaves no process behind, whatever happened inside.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.03


class StoryError(Exception):
    """A part of the story did not start, or did not end as it should."""


_given: deque[int] = deque(maxlen=1000)


def free_port() -> int:
    """A TCP port nobody listens on at 127.0.0.1, outside the range the system gives to outgoing connections.

    None of the last thousand that were given out, as who got one may not listen on it yet.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            if port not in _given:
                _given.append(port)
                return port
    raise StoryError("no free port found")


def end_in_order() -> None:
    """Makes SIGTERM leave this program's `with` blocks, so that what it started ends with it."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without its proxies, CA files and gateway settings, with `variables` added.

    What surrounds the story must not reach into it: a part knows only what it is told.
    """
    drop = ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(drop) and not name.startswith("COATCHECK_")
    }
    return kept | variables


class Part:
    """One process. Its standard output and error go to the file `output`, appended over restarts.

    `exit_codes` are those `stop()` accepts; `cores` are the CPU cores it is pinned to, where the system lets us.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        output: Path,
        environment: Mapping[str, str],
        exit_codes: Collection[int] = (0,),
        cores: Collection[int] = (),
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.output = output
        self._environment = dict(environment)
        self._exit_codes = tuple(exit_codes)
        self._cores = frozenset(cores)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def text(self) -> str:
        """Everything written to standard output and error until now."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def is_ready(self) -> bool:
        """Whether it serves; asked again and again by `start`. The plain part is ready at once."""
        return True

    def start(self, *, ready_within_seconds: float = 60) -> Self:
        """Starts the process and waits until it is ready. Raises `StoryError`, leaving nothing behind."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own commands
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment, cwd=ROOT
            )
        if self._cores:
            pin(self.pid, self._cores)
        try:
            self.wait_for(self.is_ready, within_seconds=ready_within_seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def wait_for(self, condition: Callable[[], bool], *, within_seconds: float = 10) -> None:
        """Waits until `condition` holds while the process runs. Raises `StoryError` at the deadline or its end."""
        process = self._running()
        deadline = time.monotonic() + within_seconds
        while not condition():
            if process.poll() is not None:
                raise self._error(f"ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                raise self._error(f"was not there within {within_seconds:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)

    def wait(self, *, timeout_seconds: float = 10) -> int:
        """Waits for the process to end by itself; returns its exit code. Raises `StoryError` at the deadline."""
        try:
            return self._running().wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise self._error(f"still ran after {timeout_seconds:g} s") from None

    def stop(self, *, timeout_seconds: float = 15) -> int:
        """Ends it with SIGTERM; returns the exit code. Raises `StoryError` for a wrong one, or where it hangs."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"did not end within {timeout_seconds:g} s of SIGTERM") from None
        self._process = None
        if code not in self._exit_codes:
            raise self._error(f"ended with exit code {code}")
        return code

    def kill(self) -> None:
        """Ends it with SIGKILL, as a crash would. Nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self.is_running:
            self.stop()
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise StoryError(f"{self.name} was not started")
        return self._process

    def _error(self, what: str) -> StoryError:
        tail = "\n".join(self.text().splitlines()[-20:])
        return StoryError(f"{self.name} {what}; its output ends with:\n{tail}")


def accepts(port: int) -> bool:
    """Whether something listens on 127.0.0.1:`port`."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def pin(pid: int, cores: Collection[int]) -> bool:
    """Pins every thread of a process to `cores`; False where the system does not let us."""
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)
    except (OSError, AttributeError):
        return False
    return True
