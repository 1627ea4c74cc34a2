import json
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.masker import Masker
from coatcheck.masking.plain import _ALIKE, may_be_odd, plain
from coatcheck.policy.model import MaskRule

EVERYTHING = Masker([MaskRule("pd", "shop", ("email", "credit-card", "iban"), (), "partial")], key=b"k")
AS_HASH = Masker([MaskRule("pd", "shop", ("email", "credit-card", "iban"), (), "hash")], key=b"k")

WRITTEN = {
    "percent": ("bob%40example.com", "b***@e***.com"),
    "percent, twice": ("bob%2540example%252Ecom", "b***@e***.com"),
    "a reference by number": ("bob&#64;example&#46;com", "b***@e***.com"),
    "a reference in hex": ("bob&#x40;example.com", "b***@e***.com"),
    "a reference by name": ("bob&commat;example.com", "b***@e***.com"),
    "a reference, twice": ("bob&amp;#064;example.com", "b***@e***.com"),
    "an escape that nobody read": ("bob\\u0040example.com", "b***@e***.com"),
    "an escape of an escape": ("bob\\\\u0040example\\x2ecom", "b***@e***.com"),
    "a full-width sign": ("bob\uff20example\uff0ecom", "b***@e***.com"),
    "full-width letters": ("\uff42\uff4f\uff42@example.com", "b***@e***.com"),
    "characters of no width": ("b\u200bob@exam\xadple.com", "b***@e***.com"),
    "no-break spaces": ("4111\xa01111\xa01111\xa01111", "****1111"),
    "thin spaces": ("4111\u20091111\u20091111\u20091111", "****1111"),
    "percent in a card": ("4111%201111%201111%201111", "****1111"),
    "named spaces": ("4111&nbsp;1111&nbsp;1111&nbsp;1111", "****1111"),
    "other dashes": ("4111\u20111111\u20111111\u20111111", "****1111"),
    "full-width digits": ("\uff14111111111111111", "****1111"),
    "arabic digits": ("\u0664" + "\u0661" * 15, "****1111"),
    "an iban with no-break spaces": ("de89\xa03704\xa00044\xa00532\xa00130\xa000", "****3000"),
    "what is an address both ways": ("amy%40bob@example.com", "a***@e***.com"),
}


@pytest.mark.parametrize("around", ["{}", "see {} there", "\xfc {} (\u2019)"])
@pytest.mark.parametrize(("text", "shown"), WRITTEN.values(), ids=WRITTEN)
def test_a_find_is_found_however_it_is_written(text, shown, around):
    text, shown = around.format(text), around.format(shown)
    assert EVERYTHING.mask_text(text, Counter()) == shown
    for value in ({"a": [text]}, {text: 1}, {"a": json.dumps({"b": text})}, {"a": f"{text}\nx"}):
        for written in (None, json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
            masked = json.dumps(EVERYTHING.mask_json(value, Counter(), written=written), ensure_ascii=False)
            assert text not in masked
            assert shown in masked


LEFT = {
    "a query": "/orders?page=2&period=2026&limit=20&q=50%20percent",
    "html": "Terms &amp; conditions &#8212; see &lt;a&gt;",
    "a path of windows": "c:\\users\\x40\\u0041",
    "a wrong check digit": "4111\xa01111\xa01111\xa01112",
    "quotes": "\u201c\u2019tis\u201d \u2013 4111",
    "no such character": "&#99999; %zz \\u00 &commat",
}


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_what_holds_no_find_is_left_as_it_is(text):
    value = {"a": text}
    assert EVERYTHING.mask_json(value, Counter()) is value


def test_one_address_has_one_hash_however_it_is_written():
    shown = {AS_HASH.mask_text(text, Counter()) for text in ("bob@x.de", "bob%40x.de", "bob&#64;x.de", "bob\uff20x.de")}
    assert len(shown) == 1


def test_every_look_alike_is_told_from_its_bytes():
    assert [character for character in _ALIKE if not may_be_odd(character.encode(), is_ascii=False)] == []


PIECES = st.lists(
    st.sampled_from(
        [
            "%",
            "25",
            "40",
            "&",
            "amp;",
            "#",
            "64;",
            "x40",
            "\\",
            "u",
            "0040",
            "commat;",
            "\u200b",
            "\uff20",
            "a",
            " ",
            "\xfc",
        ]
    ),
    max_size=9,
).map("".join)


@settings(max_examples=200)
@given(PIECES, PIECES, st.sampled_from('\n"'))
def test_line_feeds_and_quotes_are_edges_of_what_is_read(before, after, edge):
    assert plain(f"{before}{edge}{after}").text == f"{plain(before).text}{edge}{plain(after).text}"


@settings(max_examples=200)
@given(PIECES)
def test_what_is_not_plain_is_told_from_its_bytes_and_each_place_is_known(text):
    read = plain(text)
    assert may_be_odd(text.encode(), is_ascii=text.isascii()) or not read.odd
    places = [read.place(at) for at in range(len(read.text) + 1)]
    assert places == sorted(places)
    assert all(plain(text[start:end]).text == read.text[at] for at, (start, end) in enumerate(pairwise(places)))


@pytest.mark.parametrize("unit", ["%25", "%40", "&amp;", "&#0", "\\", "\\u0", "\u200b", "@", "a.a", "4", " ", "%"])
def test_time_grows_with_the_length_of_the_text(unit):
    def seconds(length):
        text = (unit * length)[:length]
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            plain(text)
            may_be_odd(text.encode(), is_ascii=False)
            best = min(best, time.thread_time() - began)
        return best

    # Eight times the text: a linear search takes about eight times as long, a quadratic one 64 times.
    assert seconds(100_000) < 24 * seconds(12_500) + 0.002
