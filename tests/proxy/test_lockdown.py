"""Options that must hold."""

import types

import pytest
from mitmproxy import exceptions, options
from mitmproxy.addons.script import Script
from mitmproxy.utils import human

from coatcheck.errors import CoatcheckError
from coatcheck.http.headers import MAX_BODY_BYTES
from coatcheck.proxy import lockdown


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--set", "rawtcp=true"], "rawtcp"),
        (["--set=rawtcp"], "rawtcp"),
        (["--rawtcp"], "rawtcp"),
        (["--no-http2"], "http2"),
        (["--ignore-hosts", "x"], "ignore_hosts"),
    ],
)
def test_a_name_in_the_command_line_counts_as_given(arguments: list[str], name: str) -> None:
    assert name in lockdown.given_names(arguments)


@pytest.mark.parametrize(
    "text",
    [
        "rawtcp: true\n# http2: x\nmode:\n  - a: b\n",
        "{rawtcp: true, mode: [a]}",
        "'rawtcp': true\n\"mode\" : [a]\n",
        "---\n  rawtcp: true\n  mode: [a]\n",
    ],
    ids=["block", "flow", "quoted", "indented"],
)
def test_a_name_in_a_config_file_counts_as_given_however_it_is_written(text: str) -> None:
    assert lockdown.given_names([], ["", text]) == {"rawtcp", "mode"}


def test_no_config_file_gives_nothing() -> None:
    assert lockdown.given_names([], []) == lockdown.given_names([], ["", "# nothing\n"]) == set()


def script(*addons: object) -> Script:
    """A loaded script, as mitmproxy keeps it."""
    made = Script.__new__(Script)
    made.ns = types.ModuleType("script")
    made.ns.addons = list(addons)
    return made


def test_the_gateway_is_what_the_first_script_loads_first() -> None:
    gateway, other = object(), object()
    lockdown.check_scripts(gateway, [script(gateway)])
    lockdown.check_scripts(gateway, [script(gateway, other), script(other)])
    unloaded = Script.__new__(Script)
    unloaded.ns = None
    for scripts in ([], [script()], [script(other), script(gateway)], [script(other, gateway)], [unloaded]):
        with pytest.raises(CoatcheckError):
            lockdown.check_scripts(gateway, scripts)


def test_an_option_that_nobody_declared_is_an_error_and_one_of_mitmwebs_is_not() -> None:
    opts = options.Options()
    opts.update_defer(web_port=8081)
    lockdown.check_unknown(opts)
    opts.set("emudhra=true", "emudhra_old", defer=True)
    with pytest.raises(CoatcheckError) as caught:
        lockdown.check_unknown(opts)
    assert [problem.where for problem in caught.value.problems] == ["emudhra", "emudhra_old"]


def test_defaults_may_start() -> None:
    lockdown.check_given(options.Options())


def test_every_problem_is_named_at_once() -> None:
    opts = options.Options(ssl_insecure=True, tcp_hosts=["x"])
    with pytest.raises(CoatcheckError) as caught:
        lockdown.check_given(opts, {"rawtcp"})
    assert [problem.where for problem in caught.value.problems] == ["rawtcp", "ssl_insecure", "tcp_hosts"]


def test_a_change_while_running_is_vetoed_and_rolled_back() -> None:
    opts = options.Options()
    locked = lockdown.snapshot(opts)
    opts.changed.connect(veto := lambda updated: lockdown.veto(opts, updated, locked))
    with pytest.raises(exceptions.OptionsError):
        opts.update(rawtcp=False)
    assert opts.rawtcp is True
    opts.update(content_view_lines_cutoff=5)
    assert opts.content_view_lines_cutoff == 5
    del veto


def test_mitmproxy_is_held_to_the_same_size_of_a_body() -> None:
    assert human.parse_size(lockdown.FORCED["body_size_limit"]) == MAX_BODY_BYTES
