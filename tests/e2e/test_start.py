"""The gateway is whole or it does not start: each bad input is one clear error and exit 1."""

import os
import resource
import shutil
import socket
import subprocess

import pytest

from story.processes import BIN, Gateway, clean_environment, run_cli

pytestmark = pytest.mark.e2e


def start(cast, *more: str, policy=None, state=None, environment=None, form="mitmdump") -> subprocess.CompletedProcess:
    """Runs a gateway that must refuse to start."""
    gateway = Gateway(policy or cast.policy, state or cast.state, output=cast.folder / "x", form=form, more=more)
    return subprocess.run(
        gateway.command,
        env=clean_environment(**(environment or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refuses(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stdout + done.stderr


@pytest.mark.parametrize(
    "option",
    [
        "rawtcp=true", "http2=true", "websocket=true", "ignore_hosts=.*", "allow_hosts=a", "tcp_hosts=.*",
        "body_size_limit=1g", "validate_inbound_headers=false", "onboarding=true", "stream_large_bodies=1",
        "ssl_insecure=true", "connection_strategy=eager", "save_stream_file=/tmp/x", "proxyauth=any",
        "stickyauth=.", "modify_headers=/~q/a/b", "map_remote=|a|b", "upstream_cert=true", "mode=socks5",
    ],
)  # fmt: skip
def test_an_option_that_must_hold_refuses_to_start_when_given_otherwise(cast, option) -> None:
    refuses(start(cast, "--set", option), "error:", option.partition("=")[0])


def test_a_mistyped_option_is_an_error_with_a_suggestion(cast) -> None:
    refuses(start(cast, "--set", "coatcheck_polcy=x"), "coatcheck_polcy", "did you mean 'coatcheck_policy'")


def test_a_policy_with_an_unknown_key_names_the_place_and_the_right_key(cast, tmp_path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(cast.policy_text().replace("    tools: [refund_order]", "    tool: [refund_order]"))
    refuses(start(cast, policy=policy), f"{policy}:", "unknown key 'tool'", "did you mean 'tools'?")


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
def test_a_policy_that_cannot_be_read_refuses_to_start(cast, tmp_path, content) -> None:
    policy = tmp_path / "policy.yaml"
    if content is not None:
        policy.write_text(content)
    refuses(start(cast, policy=policy), "error:", "policy.yaml")


def test_a_missing_state_says_how_to_make_one(cast, tmp_path) -> None:
    refuses(start(cast, state=tmp_path / "none"), "error:", "coatcheck init")


def test_a_wrong_master_key_refuses_to_start(cast, tmp_path) -> None:
    key = tmp_path / "other.key"
    assert run_cli("init", "--state", str(tmp_path / "other")).returncode == 0
    shutil.copy(tmp_path / "other" / "master.key", key)
    key.chmod(0o600)
    refuses(start(cast, environment={"COATCHECK_KEY_FILE": str(key)}), "error:", "key")


def test_a_missing_master_key_refuses_to_start(fresh) -> None:
    (fresh.state / "master.key").unlink()
    refuses(start(fresh), "error:", "key", "hint:")


def test_a_state_open_to_others_refuses_to_start(fresh) -> None:
    fresh.state.chmod(0o755)
    refuses(start(fresh), "error:", "open to others")


def test_an_unknown_secret_in_the_policy_refuses_to_start(cast, tmp_path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(cast.policy_text().replace("credential: shop-key", "credential: no-such-key"))
    refuses(start(cast, policy=policy), "no-such-key")


@pytest.mark.parametrize("which", ["port", "control_port"])
def test_a_taken_port_is_a_clear_error(cast, which) -> None:
    gateway = Gateway(cast.policy, cast.state, output=cast.folder / "x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(gateway, which)))
        taken.listen()
        done = subprocess.run(
            gateway.command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "in use" in done.stdout + done.stderr


def test_a_second_gateway_on_the_same_state_is_refused_and_the_first_ones_password_stays(cast) -> None:
    with cast.gateway("mitmweb"):
        password = (cast.state / "web-password").read_text()
        refuses(start(cast, form="mitmweb"), "error:", "in use")
        assert (cast.state / "web-password").read_text() == password


@pytest.mark.parametrize("form", ["mitmdump", "mitmweb", "run"])
def test_every_way_to_start_gives_a_ready_gateway_that_dumps_no_memory_and_ends_with_0(cast, form) -> None:
    with cast.gateway(form) as gateway:
        assert gateway.is_ready()
        assert resource.prlimit(gateway.pid, resource.RLIMIT_CORE) == (0, 0)
        assert gateway.stop() == 0


def test_the_master_key_can_come_from_a_command(fresh, tmp_path) -> None:
    key = tmp_path / "kms.key"
    (fresh.state / "master.key").rename(key)
    gateway = Gateway(
        fresh.policy, fresh.state, output=tmp_path / "out", environment={"COATCHECK_KEY_CMD": f"cat {key}"}
    )
    with gateway:
        assert gateway.is_ready()


def test_the_program_is_the_installed_one() -> None:
    assert os.access(BIN / "coatcheck", os.X_OK)
