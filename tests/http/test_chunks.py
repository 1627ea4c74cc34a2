"""A chunked body is decoded as it comes in, strictly, in bounded memory."""

import pytest
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.http.chunks import MAX_LINE_BYTES, MAX_TRAILER_BYTES, ChunkedBody

GOOD = b"2\r\n{}\r\n0\r\n\r\n"


def decoded(*pieces: bytes, limit: int | None = None, with_trailers: bool = False) -> tuple[bytes, str]:
    """The data that was given, and how it ended: `whole`, `more`, or why it was refused."""
    body, out = ChunkedBody(limit=limit, with_trailers=with_trailers), b""
    try:
        for piece in (*pieces, b""):
            out += body.feed(piece)
    except Refusal as refusal:
        return out, refusal.reason
    return out, "whole" if body.is_whole else "more"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(GOOD, b"{}", id="one chunk"),
        pytest.param(b"0\r\n\r\n", b"", id="none"),
        pytest.param(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}", id="two chunks"),
        pytest.param(b"000000000000000A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="16 digits"),
        pytest.param(b"2;a=b\r\n{}\r\n0;c\r\n\r\n", b"{}", id="extensions"),
        pytest.param(b'2 ; a = "b c"\r\n{}\r\n0\r\n\r\n', b"{}", id="an extension with spaces"),
        pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="data that looks like an end"),
    ],
)
def test_a_well_formed_body_is_decoded(data, expected) -> None:
    assert decoded(data) == (expected, "whole")


@pytest.mark.parametrize(
    "data",
    [
        b"0x2\r\n{}\r\n0\r\n\r\n", b"+2\r\n{}\r\n0\r\n\r\n", b"-2\r\n", b" 2\r\n{}", b"2_0\r\n", b"zz\r\n", b"\r\n",
        b"2\n{}\r\n0\r\n\r\n", b"2\r{}", b"00000000000000002\r\n{}", b"12345678901234567", b";a\r\n", b"2;a\0b\r\n",
        b"2;a\rb\r\n", b"2;a\nb\r\n", b"2\r\n{}\n0\r\n\r\n", b"2\r\n{}x", b"2\r\n{}\rx", b"2\r\n{}0\r\n\r\n",
        b"\xb2\r\n", b"2\r\r\n{}", b"2" + b" " * MAX_LINE_BYTES, b"2;" + b"a" * MAX_LINE_BYTES,
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
def test_a_chunk_that_is_not_well_formed_is_refused_at_once(data, by_byte) -> None:
    pieces = [bytes([byte]) for byte in data] if by_byte else [data]
    out, reason = decoded(*pieces)
    assert reason == "bad-framing"
    assert out in (b"", b"{}")
    assert decoded(GOOD) == (b"{}", "whole")


def test_as_much_passes_as_is_permitted_and_no_more() -> None:
    assert decoded(GOOD, limit=2) == (b"{}", "whole")
    assert decoded(b"2\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", limit=2) == (b"{}", "body-too-large")
    assert decoded(b"ffffffffffffffff\r\n", limit=2) == (b"", "body-too-large")
    assert decoded(b"ffffffffffffffff\r\n") == (b"", "more")


@pytest.mark.parametrize("trailers", [b"X: y\r\n", b"X: y\r\nZ: z\r\n", b"Set-Cookie:\r\n"])
def test_trailers_are_dropped_where_they_are_permitted_and_refused_elsewhere(trailers) -> None:
    data = GOOD[:-2] + trailers + b"\r\n"
    assert decoded(data, with_trailers=True) == (b"{}", "whole")
    assert decoded(data) == (b"{}", "trailers-refused")


@pytest.mark.parametrize("trailers", [b"X\r\n", b" X: y\r\n", b"X: y\n", b"X : y\r\n", b"X: y\0\r\n", b"X: y\rz\r\n"])
def test_a_trailer_that_is_not_well_formed_is_refused(trailers) -> None:
    assert decoded(GOOD[:-2] + trailers + b"\r\n", with_trailers=True)[1] == "bad-framing"


def test_trailers_without_end_are_refused() -> None:
    line = b"X: %s\r\n" % (b"a" * 100)
    assert decoded(GOOD[:-2], *[line] * (MAX_TRAILER_BYTES // 100 + 1), with_trailers=True)[1] == "bad-framing"
    assert decoded(GOOD[:-2], b"X: " + b"a" * MAX_LINE_BYTES, with_trailers=True)[1] == "bad-framing"


def test_what_follows_the_end_is_kept_apart() -> None:
    body = ChunkedBody(limit=None, with_trailers=False)
    assert body.feed(GOOD + b"GET / HTTP/1.1") == b"{}"
    assert body.is_whole
    assert body.rest == b"GET / HTTP/1.1"


def test_a_fault_stays_one() -> None:
    body = ChunkedBody(limit=None, with_trailers=False)
    for piece in (b"zz\r\n", GOOD, b""):
        with pytest.raises(Refusal, match="bad-framing"):
            body.feed(piece)


# -- laws -------------------------------------------------------------------------------------------------------------

_piece = st.sampled_from([b"0", b"2", b"f", b"\r\n", b"\r", b"\n", b";a", b" ", b"{}", b"X: y", b"\0", b"ffff"])
_soup = st.one_of(
    st.lists(_piece, max_size=12).map(b"".join),
    st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(
        lambda chunks: b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    ),
)


@given(_soup, st.lists(st.integers(0, 60), max_size=6).map(sorted), st.booleans(), st.sampled_from([None, 3, 30]))
def test_what_is_decoded_does_not_depend_on_how_the_network_split_it(data, cuts, with_trailers, limit) -> None:
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    arguments = {"limit": limit, "with_trailers": with_trailers}
    assert decoded(*pieces, **arguments) == decoded(data, **arguments)
    assert decoded(*[bytes([byte]) for byte in data], **arguments) == decoded(data, **arguments)


@given(_soup)
def test_what_passes_is_what_h11_reads(data) -> None:
    """h11 is the more lenient: what it would take otherwise does not pass."""
    out, end = decoded(data, with_trailers=True)
    if end != "whole":
        return
    buffer, reader, read = ReceiveBuffer(), ChunkedReader(), b""
    buffer += data
    while hasattr(event := reader(buffer), "data"):
        read += bytes(event.data)
    assert read == out
    assert event is not None
