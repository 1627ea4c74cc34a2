import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.sessions.body import Body
from coatcheck.sessions.lines import (
    CallLine,
    ClosedLine,
    EndLine,
    EventLine,
    Line,
    LineError,
    RequestLine,
    ResponseLine,
    SessionLine,
    encode,
    parse,
)

AT = datetime(2026, 11, 24, 9, 30, 0, 123456, tzinfo=UTC)

texts = st.text(st.characters(codec=None), max_size=12)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
numbers = st.integers(min_value=0, max_value=2**63)
headers = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
bodies = st.binary(max_size=30).map(Body.of)
maybe = st.none() | texts
calls = st.builds(CallLine, texts, maybe, st.none() | texts | st.integers())
lines = st.one_of(
    st.builds(
        SessionLine, texts, texts, texts, texts, texts, texts, moments, texts,
        st.dictionaries(texts, texts | st.booleans(), max_size=2),
    ),
    st.builds(
        RequestLine, numbers, moments, texts, texts, headers, bodies, st.lists(calls, max_size=2).map(tuple), texts,
        st.lists(texts, max_size=2).map(tuple), maybe, maybe,
    ),
    st.builds(ResponseLine, numbers, moments, numbers, headers, bodies),
    st.builds(EventLine, numbers, moments, bodies, maybe, maybe),
    st.builds(EndLine, numbers, moments, texts),
    st.builds(ClosedLine, moments, texts, numbers),
)  # fmt: skip


@given(lines)
@settings(max_examples=200)
def test_a_line_read_is_the_line_written(line: Line):
    assert parse(encode(line)) == line


@given(lines)
def test_a_line_is_one_line_of_ascii(line: Line):
    written = encode(line)
    assert written.isascii()
    assert written.endswith(b"\n")
    assert len(written.splitlines()) == 1
    assert len(written.decode().splitlines()) == 1


@given(
    st.binary(max_size=60) | st.recursive(st.none() | st.integers() | texts, st.lists).map(json.dumps).map(str.encode)
)
def test_other_bytes_raise_a_line_error_and_nothing_else(data: bytes):
    with pytest.raises(LineError):
        parse(data)


GOOD = json.loads(encode(RequestLine(1, AT, "POST", "https://x/", (("a", "b"),), Body.of(b"{}"), (), "allow", ("r",))))


def test_members_of_a_later_version_are_passed_over():
    assert parse(json.dumps(GOOD | {"later": [1]}).encode()) == parse(json.dumps(GOOD).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"}, {"kind": None}, {"n": "1"}, {"n": True}, {"n": -1}, {"n": 1.5},
        {"at": "2026-11-24T09:30:00"}, {"at": "soon"}, {"at": "9999-12-31T23:59:59-23:59"},
        {"headers": [["a"]]}, {"headers": "a"}, {"headers": [["a", 1]]}, {"body": 7}, {"approval": 4}, {"url": 3},
        {"calls": [7]}, {"calls": [{}]}, {"calls": [{"method": "m", "id": 1.5}]}, {"rules": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_member_of_another_type_is_named(change: dict[str, object]):
    with pytest.raises(LineError, match=f"'({next(iter(change))}|id|method)'"):
        parse(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("data", [b"[" * 100_000, b"1" * 10_000, b'{"kind": NaN}', b"\xff", b""], ids=len)
def test_hostile_json_is_refused(data: bytes):
    with pytest.raises(LineError):
        parse(data)
