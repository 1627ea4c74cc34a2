"""XML as tokens may use it (XML 1.0, Namespaces in XML 1.0), read strictly into plain values.

Law: no document type, entity, processing instruction, comment or CDATA section is read past, so nothing is fetched,
nothing is expanded, and no text can be read as shorter than it is.
Law: size, depth and number of parts are bounded before anything else looks at a document.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

MAX_BYTES = 40 * 1024
"""In base64 it still fits a request to the control port."""

MAX_DEPTH = 32
MAX_PARTS = 4096
"""Elements, attributes and namespace declarations together."""

_BETWEEN = "\x1f"
"""Stands between namespace and local name; no XML document can hold it."""
_WHITE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Element:
    """One element. Names are `{namespace}local`; `text` is all text directly in it, in order."""

    name: str
    attributes: Mapping[str, str]
    children: tuple["Element", ...]
    text: str

    def iter(self) -> Iterator["Element"]:
        """This element and all below it, in document order."""
        yield self
        for child in self.children:
            yield from child.iter()

    def all(self, name: str) -> tuple["Element", ...]:
        """The direct children of that name."""
        return tuple(child for child in self.children if child.name == name)

    @property
    def is_container(self) -> bool:
        """Whether it holds elements only: any text in it is white space."""
        return not self.text.strip(_WHITE)


def read_xml(data: bytes) -> Element:
    """The root of a document in UTF-8. Raises `ValueError`, whose text never quotes the input."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    if not data.startswith(b"<"):
        raise ValueError("not XML from its first byte")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if b"\0" in data:
        raise ValueError("not UTF-8")
    return _Builder().read(data)


@dataclass(slots=True)
class _Open:
    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _Builder:
    """Handlers of one expat parser. What they raise ends the parsing at once."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._root: Element | None = None
        self._parts = 0
        self._parser = parser = expat.ParserCreate("UTF-8", _BETWEEN)
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _Refuser("a document type")
        parser.EntityDeclHandler = _Refuser("an entity")
        parser.ExternalEntityRefHandler = _Refuser("an entity")
        parser.SkippedEntityHandler = _Refuser("an entity")
        parser.ProcessingInstructionHandler = _Refuser("a processing instruction")
        parser.CommentHandler = _Refuser("a comment")
        parser.StartCdataSectionHandler = _Refuser("a CDATA section")
        parser.StartNamespaceDeclHandler = self._declare
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def read(self, data: bytes) -> Element:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ValueError(f"not XML, at line {error.lineno}, column {error.offset}") from None
        if self._root is None:
            raise ValueError("not XML")
        return self._root

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "utf-8").lower() != "utf-8":
            raise ValueError("not XML 1.0 in UTF-8")

    def _declare(self, _prefix: str | None, _uri: str | None) -> None:
        self._count(1)

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise ValueError("made of too many parts")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count(1 + len(attributes))
        if len(self._open) >= MAX_DEPTH:
            raise ValueError("nested too deeply")
        self._open.append(_Open(_clark(name), {_clark(key): value for key, value in attributes.items()}))

    def _end(self, _name: str) -> None:
        done = self._open.pop()
        element = Element(done.name, done.attributes, tuple(done.children), "".join(done.text))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element

    def _characters(self, text: str) -> None:
        self._open[-1].text.append(text)


@dataclass(frozen=True, slots=True)
class _Refuser:
    what: str

    def __call__(self, *_details: object) -> NoReturn:
        raise ValueError(f"a document with {self.what}")


def _clark(name: str) -> str:
    namespace, between, local = name.partition(_BETWEEN)
    return f"{{{namespace}}}{local}" if between else name
