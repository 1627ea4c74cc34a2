"""Pins in the database: the first one written counts, a change is accepted by its digest, and nothing is lost."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine

from coatcheck.errors import StateError
from coatcheck.mcp.pins import Book, Definition, define, definitions_of
from coatcheck.pins.store import Note, PinStore
from coatcheck.state import StateDirectory

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def named(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


class Gateway:
    """A book and the store it is written to."""

    def __init__(self, engine) -> None:
        self.store = PinStore(engine)
        self.book = Book(self.store.load())

    def see(self, *tools, server="shop"):
        self.store.write(self.book.look(server, definitions_of(list(tools))), now=NOW)
        return self

    def stored(self):
        return {(pin.server, pin.tool): pin for pin in self.store.load()}


@pytest.fixture
def engine(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.create()
    engine = state.open_database()
    yield engine
    engine.dispose()


def test_pins_outlive_the_process(engine):
    Gateway(engine).see(named("a"), named("b"))
    again = Gateway(engine)
    again.see(named("a", title="x"), named("b"))
    assert Gateway(engine).book.trouble_with("a") == "tool-changed"
    assert Gateway(engine).book.trouble_with("b") is None


def test_of_two_gateways_the_first_that_writes_pins_and_the_other_sees_a_change(engine):
    one, two = Gateway(engine), Gateway(engine)
    one.see(named("a", title="1"))
    two.see(named("a", title="2"))
    pin = two.stored()["shop", "a"]
    assert (pin.pinned.digest, pin.seen.digest) == tuple(define(named("a", title=title)).digest for title in "12")


def test_gateways_that_write_at_once_agree_on_one_pin(engine):
    gateways = [Gateway(engine) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda pair: pair[1].see(named("a", title=str(pair[0]))), enumerate(gateways)))
    (pin,) = gateways[0].store.load()
    assert pin.seen is not None
    assert pin.seen != pin.pinned


def test_a_tool_that_is_as_pinned_again_is_stored_so(engine):
    gateway = Gateway(engine).see(named("a")).see(named("a", title="x")).see(named("a"))
    assert gateway.stored()["shop", "a"].seen is None


def test_a_change_keeps_its_question_when_another_gateway_sees_it_too(engine):
    one, two = Gateway(engine).see(named("a")), Gateway(engine)
    one.see(named("a", title="x"))
    one.store.ask("shop", "a", define(named("a", title="x")).digest, "A1")
    two.see(named("a", title="x"))
    assert one.stored()["shop", "a"].approval == "A1"
    two.see(named("a", title="y"))
    assert one.stored()["shop", "a"].approval is None


def test_a_question_about_another_change_is_not_noted(engine):
    gateway = Gateway(engine).see(named("a")).see(named("a", title="x"))
    gateway.store.ask("shop", "a", "0" * 64, "A1")
    assert gateway.stored()["shop", "a"].approval is None


def test_what_is_accepted_is_pinned_and_nothing_else_can_be(engine):
    gateway = Gateway(engine).see(named("a")).see(named("a", title="x"))
    changed = define(named("a", title="x"))
    assert gateway.store.accept("shop", "a", "0" * 64, now=NOW) is False
    assert gateway.store.accept("shop", "b", changed.digest, now=NOW) is False
    assert gateway.store.accept("shop", "a", changed.digest, now=NOW) is True
    assert gateway.store.accept("shop", "a", changed.digest, now=NOW) is False
    pin = gateway.stored()["shop", "a"]
    assert (pin.pinned.digest, pin.seen, pin.approval) == (changed.digest, None, None)
    assert gateway.store.definitions("shop", "a") == (named("a", title="x"), None)


def test_both_definitions_can_be_shown(engine):
    gateway = Gateway(engine).see(named("a", description="\u202e\x00\U0001f512")).see(named("a", title="x"))
    before, after = gateway.store.definitions("shop", "a")
    assert (before, after) == (named("a", description="\u202e\x00\U0001f512"), named("a", title="x"))
    assert gateway.store.definitions("shop", "unknown") == (None, None)


@pytest.mark.parametrize("name", ["\x00", "\u202etool", "'; drop table pins; --", "\U0001f512", "a\nb"], ids=repr)
def test_any_name_is_stored_and_found_again(engine, name):
    gateway = Gateway(engine).see(named(name))
    assert gateway.stored()["shop", name].pinned.digest == define(named(name)).digest


def test_a_forgotten_tool_is_seen_for_the_first_time_again(engine):
    gateway = Gateway(engine).see(named("a"))
    assert gateway.store.forget("shop", "a", by="root") is True
    assert gateway.store.forget("shop", "a", by="root") is False
    assert Gateway(engine).see(named("a", title="x")).stored()["shop", "a"].seen is None


def test_tools_can_be_pinned_before_anyone_lists_them(engine):
    store = PinStore(engine)
    tools = {name: define(named(name)) for name in "ab"}
    assert store.pin("shop", tools, now=NOW, by="root") == ["a", "b"]
    assert store.pin("shop", tools, now=NOW, by="root") == []
    assert Gateway(engine).see(named("a", title="x"), named("b")).stored()["shop", "a"].seen is not None
    assert store.pin("shop", tools, now=NOW, by="root") == ["a"]


def test_what_was_done_on_the_command_line_waits_for_a_journal(engine):
    gateway = Gateway(engine).see(named("a")).see(named("a", title="x"))
    digests = [define(named("a")).digest, define(named("a", title="x")).digest]
    gateway.store.accept("shop", "a", digests[1], now=NOW, by="root")
    gateway.store.forget("shop", "a", by="ann")
    gateway.store.pin("shop", {"a": Definition(digests[0], "{}")}, now=NOW, by="root")
    notes = gateway.store.notes()
    assert [note for _, note in notes] == [
        Note("accepted", "shop", "a", digests[1], "root"),
        Note("forgotten", "shop", "a", digests[1], "ann"),
        Note("pinned", "shop", "a", digests[0], "root"),
    ]
    gateway.store.drop_notes([number for number, _ in notes[:2]])
    assert [note.event for _, note in gateway.store.notes()] == ["pinned"]


def test_every_change_is_noticed(engine):
    gateway, seen = Gateway(engine), set()
    store = gateway.store
    for change in (
        lambda: gateway.see(named("a")),
        lambda: gateway.see(named("a", title="x")),
        lambda: store.ask("shop", "a", define(named("a", title="x")).digest, "A1"),
        lambda: store.accept("shop", "a", define(named("a", title="x")).digest, now=NOW),
        lambda: store.forget("shop", "a", by="root"),
        lambda: store.pin("shop", {"a": define(named("a"))}, now=NOW, by="root"),
    ):
        seen.add(store.generation())
        change()
        assert store.generation() not in seen


def test_a_database_that_fails_is_a_state_error_without_what_was_stored(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/gone/state.db")
    with pytest.raises(StateError, match="the database of tool pins failed: OperationalError"):
        PinStore(engine)
