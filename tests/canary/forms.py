"""How a server may write a value it says back, made without looking at what scrubs it."""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html.entities import html5
from urllib.parse import quote, quote_plus

type Form = Callable[[bytes], bytes]

WINDOW = 8
"""Bytes of a value in clear that are already too many."""

_NAMED = {text: f"&{name}" for name, text in sorted(html5.items()) if name.endswith(";")}


def _each(write: Callable[[int, int], str]) -> Form:
    """Every byte (the values are ASCII) written by `write(position, byte)`."""
    return lambda value: "".join(write(at, byte) for at, byte in enumerate(value)).encode()


def _mixed(at: int, byte: int) -> str:
    """Escaped in one case, in the other, and not at all; what JSON must escape always is."""
    must_escape = chr(byte) in '"\\'
    return (f"\\u{byte:04x}", f"\\u{byte:04X}", f"\\u{byte:04x}" if must_escape else chr(byte))[at % 3]


def _json(value: bytes) -> bytes:
    return json.dumps(value.decode())[1:-1].encode()


def _in_lines(text: bytes, width: int) -> bytes:
    return b"\n".join(text[at : at + width] for at in range(0, len(text), width))


FORMS: Mapping[str, Form] = {
    "raw": lambda value: value,
    "percent upper": _each(lambda _, byte: f"%{byte:02X}"),
    "percent lower": _each(lambda _, byte: f"%{byte:02x}"),
    "percent lax": lambda value: quote(value.decode(), safe="").encode(),
    "percent twice": lambda value: quote(quote(value.decode(), safe=""), safe="").encode(),
    "form": lambda value: quote_plus(value.decode()).encode(),
    "json string": _json,
    "json lower": _each(lambda _, byte: f"\\u{byte:04x}"),
    "json upper": _each(lambda _, byte: f"\\u{byte:04X}"),
    "json mixed": _each(_mixed),
    "json slash": lambda value: _json(value).replace(b"/", b"\\/"),
    "json in json": lambda value: _json(_json(value)),
    "html decimal": _each(lambda _, byte: f"&#{byte};"),
    "html hex": _each(lambda _, byte: f"&#x{byte:x};"),
    "html named": _each(lambda _, byte: _NAMED.get(chr(byte), chr(byte))),
    "html escape": lambda value: html.escape(value.decode()).encode(),
    "html twice": lambda value: html.escape(html.escape(value.decode())).encode(),
    "html decimal twice": _each(lambda _, byte: f"&amp;#{byte};"),
    "html loose": _each(lambda _, byte: f"&#{byte}"),
    "markdown": lambda value: _json(re.sub(rb"([^\w\s\\])", rb"\\\1", value)),
    "octal": _each(lambda _, byte: f"\\\\{byte:03o}"),
    "python repr": lambda value: repr(value.decode())[1:-1].encode(),
    "backslash x": _each(lambda _, byte: f"\\x{byte:02x}"),
    "base64": base64.b64encode,
    "base64 at 1": lambda value: base64.b64encode(b"k" + value),
    "base64 at 2": lambda value: base64.b64encode(b"k=" + value),
    "base64url": lambda value: base64.urlsafe_b64encode(value).rstrip(b"="),
    "base64 json slash": lambda value: base64.b64encode(value).replace(b"/", b"\\/"),
    "base64 in lines": lambda value: _json(_in_lines(base64.b64encode(b"key=" + value), 16)),
    "hex lower": lambda value: value.hex().encode(),
    "hex upper": lambda value: value.hex().upper().encode(),
    "hex colons": lambda value: value.hex(":").encode(),
    "hex colons upper": lambda value: value.hex(":").upper().encode(),
    "hex blanks": lambda value: value.hex(" ").encode(),
    "hex blanks upper": lambda value: value.hex(" ").upper().encode(),
    "upper case": lambda value: value.upper(),
    "lower case": lambda value: value.lower(),
    "percent u": _each(lambda _, byte: f"%u{byte:04X}"),
    "basic pair": lambda value: base64.b64encode(b"robot:" + value),
}


def forms_of(value: bytes) -> dict[str, bytes]:
    """The value in each form; of forms that write this value alike only the first."""
    by_text: dict[bytes, str] = {}
    for name, form in FORMS.items():
        by_text.setdefault(form(value), name)
    return {name: text for text, name in by_text.items()}


def canaries(value: bytes) -> Iterator[tuple[str, bytes]]:
    """What must be seen nowhere: the value in each form, the middle of each, and every window of the value itself."""
    for name, text in forms_of(value).items():
        yield name, text
        yield f"the middle of {name}", text[len(text) // 4 : -(len(text) // 4)]
    for at in range(len(value) - WINDOW + 1):
        yield f"a window at {at}", value[at : at + WINDOW]


class Watch:
    """Looks for the canaries of some values."""

    def __init__(self, *values: bytes) -> None:
        self._canaries = {text: name for value in values for name, text in canaries(value)}

    def sightings(self, data: bytes) -> list[str]:
        """The names of the canaries in some bytes."""
        return [name for text, name in self._canaries.items() if text in data]
