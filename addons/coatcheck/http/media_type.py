"""What a Content-Type says (RFC 9110 section 8.3), as far as the gateway must know.

Law: text is read as UTF-8 here; what names another charset, or names one twice, would be read otherwise elsewhere.
"""

import re

_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})

_ASCII = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d|koi8-[ru]|shift[_-]jis|euc-(jp|kr)|"
    r"gb2312|gbk|gb18030|big5"
)
_WIDE = frozenset({"utf-16", "utf-16le", "utf-16be"})


def media_type(value: bytes) -> str:
    """The type without its parameters, lower case; empty where there is none."""
    return value.decode("latin-1").partition(";")[0].strip().lower()


def is_utf8(value: bytes) -> bool:
    """Whether the charset is UTF-8 by name or by silence, in every way its parameters could be read."""
    named = _charsets(value)
    return not named or (len(named) == 1 and named[0] in _UTF8)


def is_scannable(value: bytes) -> bool:
    """Whether a secret would show in text of this type: its ASCII characters are those bytes, or UTF-16.

    In UTF-7, UTF-32, the ISO 2022 charsets or EBCDIC it would not, nor in what is not known.
    """
    named = _charsets(value)
    return not named or (len(named) == 1 and (named[0] in _WIDE or _ASCII.fullmatch(named[0]) is not None))


def _charsets(value: bytes) -> list[str]:
    """Every charset that is named, and an empty name where one could be read otherwise."""
    parameters = value.decode("latin-1").lower().partition(";")[2]
    pairs = [part.partition("=") for part in parameters.split(";")]
    named = [charset.strip(" \t").strip('"') for name, _, charset in pairs if name.strip(" \t") == "charset"]
    return named if len(named) == parameters.count("charset") else [*named, "", ""]
