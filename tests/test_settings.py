"""What the operator set is read one way: an option before the environment before the default, and no unknown names."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import CoatcheckError
from coatcheck.settings import OPTIONS, Reverse, Settings, check_names, parse_address, read_settings

NOTHING: dict[str, str] = {}


def read(given: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> Settings:
    return read_settings({"policy": "/etc/policy"} | (given or {}), environ or {})


@pytest.mark.parametrize(
    ("given", "environ", "control"),
    [
        pytest.param({"control": "10.0.0.1:1"}, {"COATCHECK_CONTROL": "10.0.0.2:2"}, ("10.0.0.1", 1), id="option"),
        pytest.param({"control": ""}, {"COATCHECK_CONTROL": "10.0.0.2:2"}, ("10.0.0.2", 2), id="environment"),
        pytest.param({}, {"COATCHECK_CONTROL": ""}, ("127.0.0.1", 8082), id="default"),
    ],
)
def test_an_option_wins_over_the_environment_and_that_over_the_default(given, environ, control) -> None:
    assert read(given, environ).control == control


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_also_an_environment_variable(option) -> None:
    assert option.key == f"coatcheck_{option.name}"
    assert option.variable == f"COATCHECK_{option.name.upper()}"
    values = {"control": "10.9.8.7:6", "reverse": "shop=10.9.8.7:6", "policy_sha256": "5" * 64, "observe": "true"}
    values["web_flows"] = "5"
    value = values.get(option.name, "/somewhere/else")
    by_option = read_settings({"policy": "/p", option.name: value}, NOTHING)
    by_variable = read_settings({} if option.name == "policy" else {"policy": "/p"}, {option.variable: value})
    assert by_option == by_variable != read_settings({"policy": "/p"}, NOTHING)


@pytest.mark.parametrize("word", ["1", "True", "yes", "on", "0", "true ", "no"])
def test_a_word_that_is_not_true_or_false_switches_nothing(word) -> None:
    with pytest.raises(CoatcheckError, match="coatcheck_observe"):
        read_settings({"policy": "/p", "observe": word}, NOTHING)
    assert read_settings({"policy": "/p", "observe": "false"}, {"COATCHECK_OBSERVE": "true"}).observe is False
    assert read_settings({"policy": "/p"}, NOTHING).observe is False


@pytest.mark.parametrize("count", ["-1", "many", "1e3", "1000000", "\u0661"])
def test_how_many_calls_mitmweb_shows_is_a_number(count) -> None:
    assert read_settings({"policy": "/p", "web_flows": "0"}, NOTHING).web_flows == 0
    with pytest.raises(CoatcheckError, match="coatcheck_web_flows"):
        read_settings({"policy": "/p", "web_flows": count}, NOTHING)


def test_a_missing_policy_says_how_to_give_one() -> None:
    with pytest.raises(CoatcheckError) as caught:
        read_settings(NOTHING, NOTHING)
    (problem,) = caught.value.problems
    assert problem.where == "coatcheck_policy"
    assert "COATCHECK_POLICY" in (problem.hint or "")


def test_paths_are_absolute_and_know_the_home_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = read_settings({"policy": "policies", "state": "~/state"}, NOTHING)
    assert settings.policy == tmp_path / "policies"
    assert settings.state.root == tmp_path / "state"


@pytest.mark.parametrize("name", [option.key for option in OPTIONS])
def test_a_known_option_passes(name) -> None:
    check_names([name])


def test_every_unknown_option_is_named_at_once() -> None:
    with pytest.raises(CoatcheckError) as caught:
        check_names(["emudhra_old", "coatcheck_policy", "emudhra"])
    assert [problem.where for problem in caught.value.problems] == ["emudhra", "emudhra_old"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("coatcheck_polcy", "did you mean 'coatcheck_policy'?", id="mistyped"),
        pytest.param("coatcheckpolicy", "did you mean 'coatcheck_policy'?", id="without the underscore"),
        pytest.param("coatcheck_revers", "did you mean 'coatcheck_reverse'?", id="cut"),
        pytest.param("coatcheck" + "z" * 30, "coatcheck_policy, coatcheck_state", id="like nothing"),
    ],
)
def test_an_unknown_option_is_an_error_with_a_suggestion(name, hint) -> None:
    with pytest.raises(CoatcheckError) as caught:
        check_names([name])
    assert caught.value.problems[0].where == name
    assert hint in (caught.value.problems[0].hint or "")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8082", ("127.0.0.1", 8082)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_host_and_port(text, address) -> None:
    assert parse_address(text, where="coatcheck_control") == address


@pytest.mark.parametrize(
    "text",
    ["", "8082", ":8082", "host", "host:", "host:0", "host:65536", "host:-1", "host:80x", "host: 80", "[]:80"],
)
def test_a_bad_address_is_an_error_that_names_the_option(text) -> None:
    with pytest.raises(CoatcheckError) as caught:
        parse_address(text, where="coatcheck_control")
    assert caught.value.problems[0].where == "coatcheck_control"


def test_a_port_of_any_length_is_an_operators_error() -> None:
    with pytest.raises(CoatcheckError):
        parse_address("host:" + "9" * 5000, where="coatcheck_control")


def test_gateway_urls_are_a_list() -> None:
    settings = read({"reverse": "shop=127.0.0.1:9001, books=[::1]:9002 ,"})
    assert settings.reverse == (Reverse("shop", "127.0.0.1", 9001), Reverse("books", "::1", 9002))
    assert read().reverse == ()


@pytest.mark.parametrize("spec", ["shop", "=127.0.0.1:1", "shop=", "shop=9001", "127.0.0.1:9001", "shop=a:1,b"])
def test_a_bad_gateway_url_is_an_error(spec) -> None:
    with pytest.raises(CoatcheckError) as caught:
        read({"reverse": spec})
    assert caught.value.problems[0].where == "coatcheck_reverse"


@pytest.mark.parametrize("second", ["127.0.0.1:9001", "127.0.0.2:9001"], ids=["same address", "same port"])
def test_two_gateway_urls_never_share_what_tells_them_apart(second) -> None:
    """The server behind a gateway URL is found by its port alone."""
    with pytest.raises(CoatcheckError):
        read({"reverse": f"shop=127.0.0.1:9001,books={second}"})


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_an_operators_error(text: str) -> None:
    with suppress(CoatcheckError):
        host, port = parse_address(text, where="x")
        assert host
        assert 0 < port < 65536


def test_settings_do_not_look_at_the_real_environment(monkeypatch) -> None:
    monkeypatch.setenv("COATCHECK_CONTROL", "10.0.0.3:3")
    assert read().control == ("127.0.0.1", 8082)
    assert isinstance(read().policy, Path)
