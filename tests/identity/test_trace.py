"""A token is known again in every form that the vault knows a secret in; another token never is."""

import base64
import html
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.identity.trace import PART, TokenTrace
from story.issuer import Issuer

FORMS = {
    "as it is": lambda t: t,
    "its signature": lambda t: t.rpartition(".")[2],
    "base64": lambda t: base64.b64encode(t.encode()).decode(),
    "base64url": lambda t: base64.urlsafe_b64encode(t.encode()).decode().rstrip("="),
    "base64 after one": lambda t: base64.b64encode(f":{t}".encode()).decode(),
    "base64 after two": lambda t: base64.b64encode(f"ci{t}!".encode()).decode(),
    "basic credentials": lambda t: "Basic " + base64.b64encode(f"ci:{t}".encode()).decode(),
    "base64 in lines": lambda t: base64.encodebytes(t.encode()).decode(),
    "base64 in lines of 64": lambda t: "\n".join(
        base64.b64encode(t.encode()).decode()[at : at + 64] for at in range(0, len(t) * 2, 64)
    ),
    "base64 in lines in JSON": lambda t: json.dumps(base64.encodebytes(f"x{t}".encode()).decode()),
    "hex": lambda t: t.encode().hex(),
    "HEX": lambda t: t.encode().hex().upper(),
    "utf-16": lambda t: t.encode("utf-16-le").decode("latin-1"),
    "utf-16 the other way": lambda t: t.encode("utf-16-be").decode("latin-1"),
    "percent": lambda t: "".join(f"%{ord(c):02x}" for c in t),
    "percent, some": lambda t: "".join(f"%{ord(c):02X}" if at % 3 else c for at, c in enumerate(t)),
    "percent twice": lambda t: urllib.parse.quote("".join(f"%{ord(c):02X}" for c in t)),
    "JSON escapes": lambda t: "".join(f"\\u{ord(c):04x}" for c in t),
    "JSON in JSON": lambda t: json.dumps("".join(f"\\u{ord(c):04X}" for c in t)),
    "JSON, percent-encoded": lambda t: urllib.parse.quote("".join(f"\\u{ord(c):04x}" for c in t)),
    "octal": lambda t: "".join(f"\\{ord(c):03o}" for c in t),
    "a program's": lambda t: "".join(f"\\x{ord(c):02x}" for c in t),
    "entities": lambda t: "".join(f"&#{ord(c)};" for c in t),
    "entities in hex": lambda t: "".join(f"&#x{ord(c):04X};" for c in t),
    "entities, escaped": lambda t: html.escape("".join(f"&#{ord(c)};" for c in t)),
    "named entities": lambda t: t.replace("_", "&lowbar;").replace("-", "&hyphen;").replace(".", "&period;"),
    "Markdown": lambda t: t.replace("_", "\\_").replace("-", "\\-").replace(".", "\\."),
}


@pytest.fixture(scope="module")
def tokens():
    with Issuer() as issuer:
        yield [issuer.token(audience="https://gateway.shop.example", n=n) for n in range(20)]


@pytest.mark.parametrize("name", FORMS)
def test_a_token_is_known_again_in_every_form_and_no_other_is(tokens, name) -> None:
    for token, other in itertools.pairwise(tokens):
        trace = TokenTrace.of(token)
        for around in ("{}", '{{"a": ["{}"]}}', "<p>{}\\n&amp;%20</p>"):
            assert trace.is_in(around.format(FORMS[name](token)).encode("latin-1"))
            assert not trace.is_in(around.format(FORMS[name](other)).encode("latin-1"))


@given(st.data())
def test_whatever_characters_are_escaped_in_whatever_way(data) -> None:
    token = "eyJ.eyJ." + data.draw(st.text("AZaz09-_kq", min_size=86, max_size=86))
    ways = ["{0}", "%{1:02x}", "%25{1:02X}", "\\u{1:04x}", "\\\\u{1:04X}", "\\x{1:02x}", "&#{1};", "&#x{1:x};"]
    written = "".join(data.draw(st.sampled_from(ways)).format(c, ord(c)) for c in token)
    assert TokenTrace.of(token).is_in(written.encode())


@given(st.binary(), st.text("abc", min_size=86, max_size=86))
def test_any_bytes_can_be_looked_through(data, signature) -> None:
    assert not TokenTrace.of(f"e.e.{signature}").is_in(data)


@pytest.mark.parametrize("before", [0, PART - 200, PART, 2 * PART - 1300, 3 * PART - 90])
@pytest.mark.parametrize("form", ["percent twice", "entities, escaped", "JSON in JSON"])
def test_wherever_in_a_long_body_it_stands(tokens, before, form) -> None:
    data = b"%" * before + FORMS[form](tokens[0]).encode() + b"\\" * PART
    assert TokenTrace.of(tokens[0]).is_in(data)
    assert not TokenTrace.of(tokens[1]).is_in(data)


def test_a_trace_is_no_token_and_shows_nothing(tokens) -> None:
    trace = TokenTrace.of(tokens[0])
    assert sum(map(len, trace.pieces)) <= 32 < len(tokens[0].rpartition(".")[2]) / 2
    assert not any(piece.decode() in repr(trace) for piece in trace.pieces)


@pytest.mark.parametrize("token", ["", "a.b.c", "..", "x" * 15, "é" * 10])
def test_what_is_no_token_is_found_nowhere(token) -> None:
    assert not TokenTrace.of(token).is_in(token.encode() + b"a.b.c" + bytes(100))


@pytest.mark.parametrize("text", [b"\\", b"%25", b"&amp;", b"%", b"&#0", b"\\u00", b"&", b"%256"])
def test_the_time_is_linear_in_what_looks_like_escapes(text) -> None:
    """A quadratic search would not come back from this."""
    assert not TokenTrace.of("e.e." + "k" * 86).is_in(text * (2_000_000 // len(text)))
