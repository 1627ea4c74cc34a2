"""The pins in memory: in force at once, news until written, and what the policy makes of trouble."""

import threading
from dataclasses import replace

import pytest

from coatcheck.mcp.pins import Pin, define
from coatcheck.pins.books import Books
from coatcheck.policy.model import Server

SHOP = Server("shop", "https://shop.test/mcp", "https", "shop.test", 443, "/mcp")
OTHER = replace(SHOP, name="other")


def named(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def see(books, *tools, server=SHOP):
    return books.see(server, list(tools), exchange="x-1", caller="job")


@pytest.mark.parametrize(("mode", "stops"), [("warn", False), ("hold", True), ("deny", True)])
def test_a_changed_tool_is_hidden_and_refused_as_the_server_says(mode, stops):
    books, server = Books(), replace(SHOP, pins=mode)
    assert see(books, named("a"), named("b"), server=server) == frozenset()
    assert see(books, named("a", title="x"), named("b"), server=server) == ({"a"} if stops else set())
    assert books.trouble_with(server, "a") == ("tool-changed" if stops else None)
    assert books.trouble_with(server, "b") is None


@pytest.mark.parametrize("mode", ["warn", "hold", "deny"])
def test_look_alikes_are_hidden_whatever_the_server_says(mode):
    books, server = Books(), replace(SHOP, pins=mode)
    assert see(books, named("get"), named("GET"), named("b"), server=server) == {"get", "GET"}
    assert books.trouble_with(server, "get") == "tool-look-alike"


def test_a_look_alike_on_a_later_page_puts_both_in_trouble():
    books = Books()
    see(books, named("get"))
    assert see(books, named("g\u0435t")) == {"g\u0435t"}
    assert books.trouble_with(SHOP, "get") == "tool-look-alike"


def test_servers_have_pins_of_their_own():
    books = Books()
    see(books, named("a"))
    assert see(books, named("a", title="x"), server=OTHER) == frozenset()
    assert books.trouble_with(OTHER, "never listed") is None
    assert books.trouble_with(replace(SHOP, name="unknown"), "a") is None


def test_news_is_told_once_with_who_saw_it():
    books, woken = Books(), []
    books.on_news = lambda: woken.append(1)
    see(books, named("a"))
    see(books, named("a"))
    (news,) = books.take_news()
    assert (news.exchange, news.caller, news.sight.event, news.sight.pin.tool) == ("x-1", "job", "first-seen", "a")
    assert (books.take_news(), woken) == ([], [1])


def test_what_is_stored_is_taken_over_and_what_is_not_yet_stays():
    books = Books()
    see(books, named("a"))
    books.replace([Pin("shop", "b", define(named("b")), define(named("b", title="x")))])
    assert books.find("shop", "a") is not None
    assert books.trouble_with(SHOP, "b") == "tool-changed"
    books.take_news()
    books.replace([])
    assert books.find("shop", "a") is None


def test_a_question_is_noted_for_the_change_that_it_is_about_only():
    books = Books()
    see(books, named("a"))
    see(books, named("a", title="1"))
    (asked,) = books.changed()
    see(books, named("a", title="2"))
    books.ask(asked, "A1")
    assert books.find("shop", "a").approval is None
    (asked,) = books.changed()
    books.ask(asked, "A2")
    assert books.find("shop", "a").approval == "A2"


def test_of_lists_that_are_read_at_once_one_pins():
    books, gate = Books(), threading.Barrier(8)

    def read(title):
        gate.wait()
        see(books, named("a", title=title))

    threads = [threading.Thread(target=read, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [news.sight.event for news in books.take_news()]
    assert events == ["first-seen", *["changed"] * 7]
