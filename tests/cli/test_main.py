"""The command: errors are told one way, misuse is click's, and a module is imported only when its command is used."""

import importlib
import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from coatcheck import __version__
from coatcheck_cli import run as run_module
from coatcheck_cli.main import COMMANDS, cli, main
from coatcheck_cli.options import printable, show


@pytest.fixture
def told(monkeypatch, capsys):
    """Runs the console script in this process: exit code, standard output, standard error."""

    def told(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["coatcheck", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_help_for_it_and_all_it_holds(name) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    found = [(command, [name])]
    for each, path in found:
        if isinstance(each, click.Group):
            found += [(child, [*path, word]) for word, child in each.commands.items()]
        result = CliRunner().invoke(cli, [*path, "--help"])
        assert result.exit_code == 0, path
        assert result.output.startswith(f"Usage: cli {' '.join(path)}")
        assert each.help, path


def test_the_version_is_the_packages(told) -> None:
    code, out, _ = told("--version")
    assert (code, out) == (0, f"coatcheck, version {__version__}\n")


def test_help_lists_every_command(told) -> None:
    code, out, _ = told("-h")
    assert code == 0
    for name in COMMANDS:
        assert f"  {name} " in out


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("init", "--nonsense"), ("run",), ("status", "--control"), ("policy", "nonsense")],
    ids=" ".join,
)
def test_misuse_is_2(told, arguments, monkeypatch) -> None:
    monkeypatch.delenv("COATCHECK_POLICY", raising=False)
    code, out, err = told(*arguments)
    assert code == 2
    assert "Error: " in err
    assert out == ""


def test_an_operators_error_is_error_and_hint_and_1(told, tmp_path) -> None:
    code, out, err = told("vault", "list", "--state", str(tmp_path / "none"))
    assert (code, out) == (1, "")
    first, second = err.splitlines()
    assert first.startswith(f"error: {tmp_path / 'none'}: no state directory")
    assert second == f"hint: make it with: coatcheck init --state {tmp_path / 'none'}"
    assert "Traceback" not in err


@pytest.mark.parametrize("argument", ["8080", "host:0", ":1", "host:x"])
@pytest.mark.parametrize("option", ["--listen", "--web"])
def test_a_bad_address_names_its_option(told, tmp_path, option, argument) -> None:
    code, _, err = told("run", "--policy", str(tmp_path), option, argument)
    assert code == 1
    assert err.startswith(f"error: {option}: ")


def test_a_command_imports_no_other_commands_module() -> None:
    script = "import sys, coatcheck_cli.main; print([m for m in sys.modules if m.startswith('coatcheck_cli.')])"
    script += "; print('mitmproxy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['coatcheck_cli.main']", "False"]


# -- run --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def executed(monkeypatch):
    """What `coatcheck run` would become."""
    found: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, arguments: found.append(arguments))

    def executed(*arguments: str) -> list[str]:
        result = CliRunner().invoke(cli, ["run", *arguments])
        assert result.exception is None, result.output
        return found[-1]

    return executed


def test_run_becomes_mitmdump_with_the_gateway_as_its_script(executed, tmp_path) -> None:
    arguments = executed("--policy", str(tmp_path), "--state", str(tmp_path / "s"), "--listen", "127.0.0.1:1234")
    assert arguments[:3] == ["mitmdump", "-s", str(run_module.gateway_script())]
    assert run_module.gateway_script().is_file()
    assert arguments[3:7] == ["--listen-host", "127.0.0.1", "--listen-port", "1234"]
    assert f"coatcheck_policy={tmp_path}" in arguments
    assert f"coatcheck_state={tmp_path / 's'}" in arguments


def test_run_passes_every_gateway_url_on(executed, tmp_path) -> None:
    urls = ["shop=127.0.0.1:9001", "books=127.0.0.1:9002"]
    arguments = executed("--policy", str(tmp_path), "--reverse", urls[0], "--reverse", urls[1])
    assert "coatcheck_reverse=" + ",".join(urls) in arguments


def test_run_says_how_many_calls_mitmweb_shows_where_told(executed, tmp_path) -> None:
    assert "coatcheck_web_flows=0" in executed("--policy", str(tmp_path), "--web-flows", "0")
    assert not [word for word in executed("--policy", str(tmp_path)) if "web_flows" in word]


def test_run_puts_no_password_on_a_command_line(executed, tmp_path) -> None:
    """A command line is readable by every user of the machine."""
    password = tmp_path / "password"
    password.write_text("console-canary\n")
    more = ["--web", "127.0.0.1:1", "--web-password-file", str(password)]
    assert "console-canary" not in " ".join(executed("--policy", str(tmp_path), *more))


def test_run_with_a_password_file_that_is_not_there_is_an_operators_error(told, tmp_path) -> None:
    missing = tmp_path / "none"
    code, _, err = told("run", "--policy", str(tmp_path), "--web", "127.0.0.1:1", "--web-password-file", str(missing))
    assert code in (1, 2)
    assert str(missing) in err


# -- printing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain ü", "plain ü", id="plain"),
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="escape"),
        pytest.param("a\nb\r", "a\\nb\\r", id="line ends"),
        pytest.param("a\u202eb", "a\\u202eb", id="right to left"),
        pytest.param("\u200b", "\\u200b", id="invisible"),
        pytest.param("\x9b31m", "\\x9b31m", id="C1 control"),
    ],
)
def test_what_comes_from_outside_is_safe_on_a_terminal(text, shown) -> None:
    assert printable(text) == shown


def test_rows_are_a_table_or_whole_as_json(capsys) -> None:
    rows = [{"id": "1", "what": "a\x1bb", "more": 7}, {"id": "2", "what": None}]
    show(rows, ["id", "what"], as_json=False, empty="nothing")
    table = capsys.readouterr().out
    assert "a\\x1bb" in table
    assert "None" not in table
    show(rows, ["id", "what"], as_json=True, empty="nothing")
    assert json.loads(capsys.readouterr().out) == rows
    upsetting = [{"id": "\x9b31m\x7f\u202e\u2028\ud800 𝄞 ü\n"}]
    show(upsetting, ["id"], as_json=True, empty="nothing")
    printed = capsys.readouterr().out
    assert json.loads(printed) == upsetting
    assert printed.replace("\n", "").isprintable()
    assert "𝄞 ü" in printed
    show([], ["id"], as_json=False, empty="nothing here")
    assert capsys.readouterr().out == "nothing here\n"
    show([], ["id"], as_json=True, empty="nothing here")
    assert json.loads(capsys.readouterr().out) == []
