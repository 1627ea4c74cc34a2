"""What a Content-Type says (RFC 9110 section 8.3), as far as the gateway must know.

Law: text is read as UTF-8 here; what names another charset, or names one twice, would be read otherwise elsewhere.
"""

_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


def media_type(value: bytes) -> str:
    """The type without its parameters, lower case; empty where there is none."""
    return value.decode("latin-1").partition(";")[0].strip().lower()


def is_utf8(value: bytes) -> bool:
    """Whether the charset is UTF-8 by name or by silence, in every way its parameters could be read."""
    parameters = value.decode("latin-1").lower().partition(";")[2]
    count = parameters.count("charset")
    if count == 0:
        return True
    pairs = [part.partition("=") for part in parameters.split(";")]
    named = [charset.strip(" \t").strip('"') for name, _, charset in pairs if name.strip(" \t") == "charset"]
    return count == 1 and len(named) == 1 and named[0] in _UTF8
