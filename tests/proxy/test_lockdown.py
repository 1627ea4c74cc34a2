"""Options that must hold."""

import pytest
from mitmproxy import exceptions, options

from coatcheck.errors import CoatcheckError
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
    assert name in lockdown.given_names(arguments, "")


def test_a_name_in_the_config_file_counts_as_given() -> None:
    assert lockdown.given_names([], "rawtcp: true\n# http2: x\nmode:\n  - a: b\n") == {"rawtcp", "mode"}


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
