"""Running a command in this process's stead: its signals and its exit code are passed on as if it were alone.

Law: a signal that the terminal already gave to the whole process group is not given to the child twice.
Follows the shell for exit codes (POSIX 2.8.2): 128 + N for signal N, 127 not found, 126 not executable.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126

PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)


class CannotRunError(Exception):
    """The command cannot be started; `code` is what a shell would exit with."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs `command`, found by this process's PATH, and returns its exit code. Raises `CannotRunError`.

    It shares this process's group, terminal and standard streams. Call it from the main thread.
    """
    waited_for = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        child = _spawn(command, environment, before)
        while (code := _ended(child)) is None:
            _pass_on(child, signal.sigwaitinfo(waited_for))
        return code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawn(command: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    try:
        # Python ignores two signals that a fresh program would not.
        return os.posix_spawnp(
            command[0], tuple(command), environment, setsigmask=mask, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
        )
    except FileNotFoundError:
        raise CannotRunError("command not found", NOT_FOUND) from None
    except OSError as error:
        raise CannotRunError(f"cannot be run: {error.strerror}", NOT_EXECUTABLE) from None


def _ended(child: int) -> int | None:
    """The exit code as a shell gives it, None while the child runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _pass_on(child: int, received: signal.struct_siginfo) -> None:
    # A code above zero is the kernel's: Ctrl-C and its like reached the child as well.
    if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
        os.kill(child, received.si_signo)
