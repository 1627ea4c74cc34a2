"""`coatcheck policy pin`, on a state of its own."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck.mcp.pins import Book, definitions_of
from coatcheck.pins.store import PinStore
from coatcheck.state import StateDirectory
from coatcheck_cli.policy import policy

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def named(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


@pytest.fixture
def store(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield PinStore(engine)
    engine.dispose()


@pytest.fixture
def seen(store):
    """`a` has changed, `b` has not, `c` has a twin."""
    book = Book()
    for tools in ([named("a"), named("b"), named("c"), named("C")], [named("a", description="\u202eevil")]):
        store.write(book.look("shop", definitions_of(tools)), now=NOW)
    return store


@pytest.fixture
def run(tmp_path):
    def run(*arguments, stdin=None):
        command = ["pin", *arguments, "--state", str(tmp_path / "state")]
        result = CliRunner().invoke(policy, command, input=stdin, catch_exceptions=True)
        if isinstance(result.exception, CoatcheckError):
            raise result.exception
        return result

    return run


def test_the_tools_are_listed_with_their_state(seen, run):
    rows = json.loads(run("--json").stdout)
    assert [(row["tool"], row["state"]) for row in rows] == [
        ("C", "look-alike"), ("a", "changed"), ("b", "pinned"), ("c", "look-alike"),
    ]  # fmt: skip
    assert "look-alike" in run("--server", "shop").stdout
    assert run("--server", "other").stdout == "no tools\n"


def test_a_difference_is_shown_safely(seen, run):
    assert '+  "description": "\\u202eevil",' in run("--server", "shop", "--show", "a").stdout


def test_a_change_is_accepted_and_a_twin_forgotten(seen, run):
    assert run("--server", "shop", "--accept", "a").stdout.startswith("accepted: a of shop, now ")
    assert run("--server", "shop", "--forget", "C").stdout == "forgotten: C of shop\n"
    assert {row["state"] for row in json.loads(run("--json").stdout)} == {"pinned"}
    assert [(note.event, note.tool) for _, note in seen.notes()] == [("accepted", "a"), ("forgotten", "C")]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--accept", "b"], "b: the tool is as it was pinned"),
        (["--show", "b"], "b: the tool is as it was pinned"),
        (["--accept", "A"], "A: no such tool is pinned for server 'shop'"),
        (["--forget", "x"], "x: no such tool is pinned for server 'shop'"),
    ],
)
def test_what_is_not_there_or_not_changed_is_an_error(seen, run, arguments, what):
    with pytest.raises(CoatcheckError) as caught:
        run("--server", "shop", *arguments)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    "arguments", [["--accept", "a"], ["--server", "shop", "--accept", "a", "--forget", "a"], ["--from", "-"]]
)
def test_misuse_is_exit_2(seen, run, arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tools: tools,
        lambda tools: {"tools": tools},
        lambda tools: {"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}},
    ],
    ids=["list", "result", "message"],
)
def test_tools_are_pinned_from_a_list(store, run, wrap):
    text = json.dumps(wrap([named("a"), named("b")]))
    assert run("--server", "shop", "--from", "-", stdin=text).stdout == "pinned: a of shop\npinned: b of shop\n"
    assert run("--server", "shop", "--from", "-", stdin=text).stdout == "all of them are pinned so already\n"


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"tools": {}}', '[{"name": "a"}, {"name": "a"}]', '[{"name": "a"}, 1]', '[{"a": 1, "a": 2}]'],
)
def test_what_is_no_list_of_tools_pins_nothing(store, run, text):
    with pytest.raises(CoatcheckError):
        run("--server", "shop", "--from", "-", stdin=text)
    assert store.load() == []
