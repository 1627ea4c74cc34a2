"""JSON documents that stand in text: JSON lines, several documents in a row, one after a few words or in a code fence.

Law: what some client may read as JSON is a document, also where it is not read here; what stands around is text.
Law: time grows with the length of the text: what is read in vain is counted, and after too much of it the rest is one
document that is not read.
"""

import json
import re
from collections.abc import Iterator

from coatcheck.masking.strings import MAX_TEXT_JSON, Document, document_in

type Embedded = tuple[int, int, Document | None]
"""Where a document starts and ends in a text, and what it says; None where that depends on who reads it."""

_START = re.compile(
    r'(?:(?:\A|(?<=\n))\[[ \t\r\n]*)?\{[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:'
    r'|(?P<quoted>\{(?:[ \t]++|\\++[nrt])*+\\++"[^"\\]*+(?:\\++[^"\\]++)*+\\++"(?:[ \t]++|\\++[nrt])*+:)'
)
"""How a document begins, also in the quotes of a text that is no JSON: `body="{\\"name\\":`, as logs have it."""
_IN_VAIN = 2
"""How many times its length may be read of a text without finding a document."""
_AT_LEAST = 2_000
_READ = json.JSONDecoder(strict=False)  # as some read it: with line ends in strings
_CUT_OFF = re.compile(r'[^{}"]{0,80}\Z')
"""What may stand where a document was cut off: the beginning of a value, and a few words that say so."""


def may_embed(text: str) -> bool:
    """Whether an object, or an array of objects at the start of a line, may stand in `text`; a long one is not read."""
    return "{" in text and (len(text) > MAX_TEXT_JSON or _START.search(text) is not None)


def embedded_in(text: str) -> Iterator[Embedded]:
    """The documents in `text`, in order. Raises `TooCostly` where one holds more values than a body may have."""
    left = _IN_VAIN * len(text) + _AT_LEAST
    start = _START.search(text)
    while start:
        begin, after = start.start(), start.end()
        if start["quoted"]:
            line_end = text.find("\n", begin)
            after = line_end if line_end >= 0 else len(text)
            yield begin, after, None
        elif (end := _end(text, begin)) > 0:
            yield begin, end, document_in(text[begin:end])
            after = end
        else:
            left -= -end - begin
            if end == 0 or left < 0:
                yield begin, len(text), None
                break
        start = _START.search(text, after)


def _end(text: str, begin: int) -> int:
    """Where the document ends that begins here; where it is found to be none, as a negative number; 0: where that is
    not known, as it is too deep, or ends with the text before it is complete.
    """
    try:
        return _READ.raw_decode(text, begin)[1]
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated string") or _CUT_OFF.match(text, error.pos)
        return 0 if is_cut else -error.pos
    except (RecursionError, ValueError):
        return 0
