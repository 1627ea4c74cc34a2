import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.journal.chain import GENESIS, BadLine, Link, read_head, read_link, seal, timestamp
from coatcheck.journal.encoding import encode_fields

AT = "2026-11-24T10:15:00.123Z"
PREV = hashlib.sha256(b"before").hexdigest()


def sealed(seq: int = 7, kind: str = "request", prev: str = PREV, **fields) -> bytes:
    return seal(seq=seq, at=AT, kind=kind, body=encode_fields(fields), prev=prev)[0].removesuffix(b"\n")


@given(st.integers(1, 10**17), st.dictionaries(st.text(), st.text() | st.integers(), max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_sealed_reads_back_in_the_fixed_order(seq, fields):
    line, digest = seal(seq=seq, at=AT, kind="outcome", body=encode_fields(fields), prev=PREV)
    assert line.endswith(b"\n")
    assert read_link(line[:-1]) == Link(seq, AT, "outcome", PREV, digest)
    keys = list(json.loads(line))
    assert keys[:3] == ["seq", "at", "kind"]
    assert keys[-2:] == ["prev", "hash"]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_byte_can_change_unseen(data):
    line = sealed(caller="shop-ci", server="github")
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[place]))
    with pytest.raises(BadLine):
        read_link(line[:place] + bytes([byte]) + line[place + 1 :])


def test_the_hash_is_that_of_prev_and_the_line_without_its_hash():
    record = json.loads(sealed(text="a"))
    stated = record.pop("hash")
    canonical = json.dumps(record, separators=(",", ":"))
    assert stated == hashlib.sha256((record["prev"] + canonical).encode()).hexdigest()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param(b"", "not JSON", id="an empty line"),
        pytest.param(b"hello", "not JSON", id="text"),
        pytest.param(b"\xff\xfe", "not JSON", id="bytes"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep nesting"),
        pytest.param(b'{"a":1}', "not a journal record", id="another object"),
        pytest.param(sealed(text="x").replace(b'"text":"x"', b'"text":"y"'), "hash does not match", id="an edit"),
        pytest.param(sealed() + b" ", "not a journal record", id="a space behind"),
        pytest.param(sealed(seq=7).replace(b'"seq":7', b'"seq":07'), "not JSON", id="a number written otherwise"),
    ],
)
def test_a_line_that_is_not_a_whole_record_is_told_why(line, what):
    with pytest.raises(BadLine, match=f"^{what}$"):
        read_link(line)


def test_a_record_without_fields_is_a_record():
    line, _ = seal(seq=1, at=AT, kind="stopped", body="", prev=GENESIS)
    assert read_link(line[:-1]).prev == GENESIS


@pytest.mark.parametrize("kind", ['a"b', "Request", "a\nb", "", "x" * 65, "ü"])
def test_an_ill_formed_kind_cannot_break_the_line(kind):
    head = read_head(sealed(kind=kind))
    assert head is not None
    assert head.kind == "unnamed"


def test_a_timestamp_is_utc_in_milliseconds_whatever_the_zone():
    moment = datetime(2026, 11, 24, 10, 15, 0, 123_987, UTC)
    assert timestamp(moment) == AT
    assert timestamp(moment.astimezone(timezone(timedelta(hours=-5)))) == AT
