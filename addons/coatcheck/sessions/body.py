"""A body as it is recorded: any bytes, whole where they are not too many.

Law: `Body.from_json(body.as_json()) == body`, whatever the bytes.
Law: what a body can grow to is bounded; of a longer one the length, the SHA-256 and the beginning stay.
"""

import base64
import codecs
import hashlib
from dataclasses import dataclass
from typing import Self

from coatcheck.mcp.call import Json

MAX_BODY = 1024 * 1024
"""Bytes of a body, or of one event's data, that are written whole."""

HEAD = 16 * 1024
"""Bytes that are kept of a longer one."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body as recorded. `sha256` (hex, of the whole) is set where `content` is only its beginning."""

    content: bytes
    length: int
    sha256: str | None = None

    @classmethod
    def of(cls, data: bytes) -> Self:
        """`data`, cut where it is longer than `MAX_BODY`."""
        if len(data) <= MAX_BODY:
            return cls(data, len(data))
        return cls(_head(data), len(data), hashlib.sha256(data).hexdigest())

    @classmethod
    def of_text(cls, text: str) -> Self:
        """`text` as UTF-8; half surrogate pairs are kept as they are."""
        return cls.of(text.encode("utf-8", "surrogatepass"))

    @property
    def is_cut(self) -> bool:
        """Whether the content is not all there was."""
        return self.sha256 is not None

    @property
    def text(self) -> str:
        """The content for people and parsers: what is not UTF-8 is replaced."""
        return self.content.decode("utf-8", "replace")

    def as_json(self) -> Json:
        """Text where it is UTF-8, else `{"base64": …}`; cut: `{"cut": true, "length", "sha256", "head"}`."""
        content: Json = _text_or_base64(self.content)
        if self.sha256 is None:
            return content
        return {"cut": True, "length": self.length, "sha256": self.sha256, "head": content}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """The body that `as_json` gave. Raises `ValueError` for anything else."""
        if not isinstance(value, dict) or "cut" not in value:
            content = _bytes(value)
            return cls(content, len(content))
        match value:
            case {"cut": True, "length": int(length), "sha256": str(digest)} if length >= 0:
                return cls(_bytes(value.get("head", "")), length, digest)
            case _:
                raise ValueError("not a cut body")


def _text_or_base64(data: bytes) -> Json:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _bytes(value: Json) -> bytes:
    match value:
        case str(text):
            return text.encode()
        case {"base64": str(text)}:
            return base64.b64decode(text, validate=True)
        case _:
            raise ValueError("not a body")


def _head(data: bytes) -> bytes:
    """The first `HEAD` bytes, less a character they would split."""
    head = data[:HEAD]
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head).encode()
    except UnicodeDecodeError:
        return head
