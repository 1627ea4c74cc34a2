"""The gateway starts whole, first, alone and on an address somebody chose, or not at all."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from story.part import ROOT, clean_environment
from story.processes import Gateway

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

SCRIPT = ROOT / "addons" / "gateway.py"

FORBIDDEN = {
    "ssl_insecure": "true",
    "ignore_hosts": "['^bank:']",
    "allow_hosts": "['^shop:']",
    "tcp_hosts": "['.*']",
    "udp_hosts": "['.*']",
    "rawtcp": "true",
    "stream_large_bodies": "1k",
    "http2": "true",
    "websocket": "true",
    "validate_inbound_headers": "false",
    "connection_strategy": "eager",
    "onboarding": "true",
    "map_remote": "['|a|b']",
    "modify_headers": "['/~q/Host/evil']",
    "body_size_limit": "1g",
    "keep_host_header": "false",
    "save_stream_file": "/tmp/flows",
    "proxyauth": "any",
}
"""Options that would open what must hold, and a value that would."""


def ended(
    gateway: Gateway, *more: str, home: Path | None = None, without: str = ""
) -> subprocess.CompletedProcess[str]:
    """The process of a gateway that must refuse to start."""
    command = [*gateway.command, *more]
    environment = clean_environment(**({"HOME": str(home)} if home else {}))
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("the gateway started")


@pytest.fixture
def gateway(place, tmp_path) -> Gateway:
    return Gateway(place.policy, place.state, output=tmp_path / "out")


@pytest.mark.attack("HTTP-52", "HTTP-53", "HTTP-59")
def test_a_config_file_with_options_that_must_hold_refuses_to_start_and_names_each(gateway, tmp_path) -> None:
    config = tmp_path / ".mitmproxy" / "config.yaml"
    config.parent.mkdir()
    config.write_text("".join(f"{name}: {value}\n" for name, value in FORBIDDEN.items()))
    done = ended(gateway, home=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert [name for name in FORBIDDEN if f"error: {name}:" not in said] == []


@pytest.mark.attack("HTTP-52")
@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("emudhra: true\nemudhra_old: true\n", ["emudhra", "emudhra_old"], id="not known"),
        pytest.param("no_such_option: 1\n", ["no_such_option"], id="nobodys"),
        pytest.param("coatcheck_polcy: /x\n", ["coatcheck_polcy"], id="mistyped"),
        pytest.param("{'rawtcp': true, \"http2\": true}\n", ["rawtcp", "http2"], id="defaults that must not hold"),
    ],
)
@pytest.mark.parametrize("name", ["config.yaml", "config.yml"])
def test_a_config_file_is_held_to_the_same_however_it_is_written(gateway, tmp_path, name, text, named) -> None:
    config = tmp_path / ".mitmproxy" / name
    config.parent.mkdir()
    config.write_text(text)
    done = ended(gateway, home=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert [option for option in named if f"error: {option}:" not in said] == []


def test_a_config_file_that_sets_what_an_operator_may_set_starts(place, tmp_path) -> None:
    config = tmp_path / ".mitmproxy" / "config.yaml"
    config.parent.mkdir()
    config.write_text("termlog_verbosity: warn\nweb_port: 9999\n")
    environment = {"HOME": str(tmp_path)}
    with Gateway(place.policy, place.state, output=tmp_path / "out", environment=environment) as gateway:
        assert gateway.is_ready()


@pytest.mark.attack("HTTP-52", "HTTP-53", "HTTP-59")
@pytest.mark.parametrize(
    "option",
    [
        "emudhra=true",
        "emudhra_old=true",
        "emudhra",
        "no_such_option=1",
        "ignore_hosts=^bank:",
        "stream_large_bodies=1k",
        "ssl_verify_upstream_trusted_ca=/tmp/x",
    ],
)
def test_an_option_that_must_hold_or_is_not_known_refuses_to_start(gateway, option) -> None:
    done = ended(gateway, "--set", option)
    assert done.returncode == 1
    assert option.partition("=")[0] in done.stdout + done.stderr


@pytest.mark.attack("HTTP-52")
@pytest.mark.parametrize(
    "flag",
    [["--ssl-insecure"], ["--ignore-hosts", "^bank:"], ["--rawtcp"], ["--allow-hosts", "a"], ["--tcp-hosts", "a"]],
)
def test_the_same_by_a_flag_of_its_own_refuses_to_start(gateway, flag) -> None:
    assert ended(gateway, *flag).returncode in (1, 2)


@pytest.mark.attack("HTTP-52")
def test_the_same_gateway_without_them_starts(gateway) -> None:
    with gateway:
        assert gateway.is_ready()


@pytest.mark.attack("HTTP-70")
def test_without_a_listen_host_only_this_machine_can_connect(place, tmp_path) -> None:
    gateway = Gateway(place.policy, place.state, output=tmp_path / "out")
    at = gateway.command.index("--listen-host")
    gateway.command = gateway.command[:at] + gateway.command[at + 2 :]
    with gateway:
        socket.create_connection(("127.0.0.1", gateway.port), timeout=30).close()
        with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, as the system has it
            socket.create_connection(("127.0.0.2", gateway.port), timeout=30)


@pytest.mark.attack("FAIL-13")
@pytest.mark.parametrize("again", ["itself", "a copy"])
def test_a_gateway_that_is_loaded_twice_refuses_to_start(gateway, tmp_path, again) -> None:
    copy = tmp_path / "gateway.py"
    copy.write_text(SCRIPT.read_text())
    done = ended(gateway, "-s", str(SCRIPT if again == "itself" else copy))
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.attack("FAIL-13")
@pytest.mark.parametrize("name", ["other.py", "first/gateway.py"], ids=["another", "one of its name"])
def test_a_gateway_that_is_not_the_first_script_refuses_to_start(gateway, tmp_path, name) -> None:
    script = tmp_path / name
    script.parent.mkdir(exist_ok=True)
    script.write_text("def request(flow):\n    pass\n")
    at = gateway.command.index("-s")
    gateway.command = (*gateway.command[:at], "-s", str(script), *gateway.command[at:])
    done = ended(gateway)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: scripts:" in done.stdout + done.stderr


@pytest.fixture
def later(tmp_path) -> Path:
    """A script of the operator's own, with an option of its own."""
    script = tmp_path / "later.py"
    script.write_text("def load(loader):\n    loader.add_option('later_on', bool, False, 'x')\n")
    return script


@pytest.mark.attack("FAIL-13")
def test_another_script_may_come_after_the_gateway_and_is_named_in_the_log(place, tmp_path, later) -> None:
    more = ("-s", str(later), "--set", "later_on=true")
    with Gateway(place.policy, place.state, output=tmp_path / "out", more=more) as gateway:
        assert gateway.is_ready()
    assert f"also loaded: {later}" in (tmp_path / "out").read_text()


@pytest.mark.attack("HTTP-52")
def test_an_option_that_no_script_declares_refuses_to_start_beside_another_script(gateway, later) -> None:
    done = ended(gateway, "-s", str(later), "--set", "later_off=true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: later_off: unknown option" in done.stdout + done.stderr


SPOILT = {
    "gone": lambda ca: (ca / "mitmproxy-ca.pem").unlink(),
    "all gone": lambda ca: [file.unlink() for file in ca.iterdir()],
    "empty": lambda ca: (ca / "mitmproxy-ca.pem").write_text(""),
    "readable by others": lambda ca: (ca / "mitmproxy-ca.pem").chmod(0o644),
    "another than clients were given": lambda ca: (ca / "ca.pem").write_text("x"),
}


@pytest.mark.attack("STOR-26")
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_without_the_authority_that_clients_trust_it_refuses_to_start_and_makes_no_other(
    place, tmp_path, spoil
) -> None:
    state = Path(shutil.copytree(place.state, tmp_path / "state"))
    spoil(state / "ca")
    before = sorted((state / "ca").iterdir())
    done = ended(Gateway(place.policy, state, output=tmp_path / "out"))
    assert done.returncode == 1, done.stdout
    assert f"error: {state / 'ca'}" in done.stderr
    assert sorted((state / "ca").iterdir()) == before
