"""The pins of all servers as the gateway has them in memory.

Law: what is listed is pinned here before anyone sees it; what is new is kept as news until it has been written down.
Lists are read on the event loop and, where they are large, in threads.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock

from coatcheck.mcp.call import Json
from coatcheck.mcp.pins import Book, Pin, Sight, Trouble, definitions_of
from coatcheck.policy.model import Server


@dataclass(frozen=True, slots=True)
class News:
    """What was seen in the answer of an exchange, by whom."""

    exchange: str
    caller: str
    sight: Sight


class Books:
    """Thread-safe; nothing here waits for a disk."""

    def __init__(self, pins: Iterable[Pin] = ()) -> None:
        self._lock = Lock()
        self._books: dict[str, Book] = {}
        self._news: deque[News] = deque()
        self.on_news: Callable[[], None] = lambda: None
        """Called, in any thread, where there is something to write down."""
        self.replace(pins)

    def see(self, server: Server, tools: Json, *, exchange: str, caller: str) -> frozenset[str]:
        """Takes over what a server lists, before it is filtered for anyone; the names that are to be hidden."""
        listed = definitions_of(tools)
        with self._lock:
            book = self._books.setdefault(server.name, Book())
            sights = book.look(server.name, listed)
            self._news.extend(News(exchange, caller, sight) for sight in sights)
            hidden = frozenset(tool for tool in listed if _stops(server, book.trouble_with(tool)))
        if sights:
            self.on_news()
        return hidden

    def trouble_with(self, server: Server, tool: str) -> Trouble | None:
        """Why a call of the tool is to be refused; None where it is not."""
        book = self._books.get(server.name)
        if book is None:
            return None
        trouble = book.trouble_with(tool)
        return trouble if _stops(server, trouble) else None

    def find(self, server: str, tool: str) -> Pin | None:
        """The pin of exactly this tool."""
        book = self._books.get(server)
        return None if book is None else book.pins.get(tool)

    def changed(self) -> list[Pin]:
        """The pins whose tools are something else now."""
        with self._lock:
            return [pin for book in self._books.values() for pin in book.pins.values() if pin.seen is not None]

    def take_news(self) -> list[News]:
        """What is to be written down, once."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
        return news

    def ask(self, pin: Pin, approval: str | None) -> None:
        """Notes the question about a change, where it is still that change."""
        with self._lock:
            now = self.find(pin.server, pin.tool)
            if now is not None and now.seen == pin.seen:
                self._books[pin.server].put(replace(now, approval=approval))

    def replace(self, pins: Iterable[Pin]) -> None:
        """Takes the pins as they are stored, and on top of them what is not stored yet."""
        books: dict[str, list[Pin]] = {}
        for pin in pins:
            books.setdefault(pin.server, []).append(pin)
        with self._lock:
            self._books = {server: Book(found) for server, found in books.items()}
            for news in self._news:
                self._books.setdefault(news.sight.pin.server, Book()).put(news.sight.pin)


def _stops(server: Server, trouble: Trouble | None) -> bool:
    """Whether the policy lets a tool in this trouble be neither seen nor called."""
    return trouble is not None and (trouble != "tool-changed" or server.pins != "warn")
