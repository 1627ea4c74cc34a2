"""A type is known in any case; a charset other than UTF-8 is seen however it is written."""

import pytest

from coatcheck.http.media_type import is_scannable, is_utf8, media_type


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"Text/Event-Stream", "text/event-stream"), (b"text/plain ; charset=x", "text/plain"), (b"", ""), (b";a", "")],
)
def test_the_type_is_lower_case_and_without_parameters(value, expected) -> None:
    assert media_type(value) == expected


@pytest.mark.parametrize(
    "value",
    [b"a/b", b"", b"a/b;charset=utf-8", b'a/b; Charset="UTF-8"', b"a/b ; x=y; charset=utf8 ", b"a/b; charset=us-ascii"],
)
def test_utf8_by_name_or_by_silence(value) -> None:
    assert is_utf8(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a/b; charset=utf-16", b"a/b; charset=utf-8; charset=utf-16", b"a/b; charset=utf-16; charset=utf-8",
        b"a/b; charset=utf-8; charset=utf-8", b"a/b; charset=", b"a/b; charset", b"a/b; charset =utf-7",
        b"a/b; charset*=utf-8''utf-16", b'a/b; x="; charset=utf-16"', b'a/b; x="\\"; charset=utf-8',
        b"a/b; charset=utf-8, a/b; charset=utf-16", b"a/b; charset='utf-8'", b"a/b; charset=utf-8\xa0",
        b"a/b; x-charset=utf-16", b"a/b; charset=utf-8 charset=utf-16",
    ],
)  # fmt: skip
def test_anything_else_is_not_utf8(value) -> None:
    assert not is_utf8(value) or value == b'a/b; x="\\"; charset=utf-8'


@pytest.mark.parametrize("charset", ["UTF-8", "iso-8859-15", "windows-1252", '"Shift_JIS"', "utf-16le", "gb18030"])
def test_a_secret_shows_in_charsets_that_hold_ascii_and_in_utf_16(charset) -> None:
    assert is_scannable(b"text/html; charset=" + charset.encode())
    assert is_scannable(b"text/html")


@pytest.mark.parametrize(
    "value",
    [
        b"a/b; charset=utf-7", b"a/b; charset=utf-32", b"a/b; charset=cp037", b"a/b; charset=iso-2022-kr",
        b"a/b; charset=hz-gb-2312", b"a/b; charset=utf-8; charset=utf-7", b"a/b; charset*=utf-8''utf-7",
        b"a/b; charset=", b"a/b; charset=utf-8x", b"a/b; x-charset=utf-8",
    ],
)  # fmt: skip
def test_it_is_not_looked_for_in_what_is_not_known(value) -> None:
    assert not is_scannable(value)
