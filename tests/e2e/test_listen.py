"""Where the gateway listens: on loopback unless told, and at its gateway URLs."""

import socket
import subprocess

import pytest

from story.part import LOOPBACK, free_port
from story.processes import BIN, Gateway, clean_environment

pytestmark = pytest.mark.e2e


def listeners(pid: int) -> set[tuple[str, int]]:
    """The (hexadecimal IPv4 address, port) pairs the process listens on; IPv6 ones as `v6`."""
    out = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    found = set()
    for line in out.splitlines():
        if f"pid={pid}," in line:
            address, _, port = line.split()[3].rpartition(":")
            found.add((address.strip("[]"), int(port)))
    return found


def test_without_a_listen_host_it_listens_on_loopback_alone(cast) -> None:
    gateway = Gateway(cast.policy, cast.state, output=cast.folder / "listen.out")
    at = gateway.command.index("--listen-host")
    gateway.command = (*gateway.command[:at], *gateway.command[at + 2 :])
    with gateway:
        assert {address for address, _ in listeners(gateway.pid)} <= {LOOPBACK, "::1"}
        with socket.create_connection((LOOPBACK, gateway.port), timeout=60):
            pass


def test_an_idle_gateway_stops_at_once(cast) -> None:
    with cast.gateway() as gateway:
        assert gateway.stop(timeout_seconds=3) == 0


def test_a_gateway_url_that_cannot_be_opened_refuses_to_start(cast) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        gateway = Gateway(
            cast.policy, cast.state, output=cast.folder / "x",
            more=("--set", f"coatcheck_reverse=shop={LOOPBACK}:{taken.getsockname()[1]}"),
        )  # fmt: skip
        done = subprocess.run(
            gateway.command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "cannot listen" in done.stdout + done.stderr


def test_an_unknown_server_in_a_gateway_url_refuses_to_start(cast) -> None:
    command = [str(BIN / "coatcheck"), "run", "--policy", str(cast.policy), "--state", str(cast.state)]
    command += ["--reverse", f"nobody={LOOPBACK}:{free_port()}"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no server 'nobody'" in done.stderr
