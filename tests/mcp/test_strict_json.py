import contextlib
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import INVALID_REQUEST, PARSE_ERROR, Refusal
from coatcheck.mcp.strict_json import dump_json, parse_data, parse_json

ACCEPTED = {
    "an object": (b'{"a":1,"b":[true,null,"x"]}', {"a": 1, "b": [True, None, "x"]}),
    "white space around": (b' \r\n\t{"a":1}\n', {"a": 1}),
    "a scalar": (b'"x"', "x"),
    "an escaped name": (b'{"m\\u0065thod":1}', {"method": 1}),
    "a surrogate pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "an escaped backslash before a u": (b'"\\\\ud800"', "\\ud800"),
    "the longest integer": (b"9" * 4000, int("9" * 4000)),
    "a negative integer of that length": (b"-" + b"9" * 4000, -int("9" * 4000)),
    "a float": (b"0.1", 0.1),
    "a float with more zeros": (b"1.500", 1.5),
    "a float in powers of ten": (b"1E2", 100.0),
    "names that differ": (b'{"name":1,"names":2,"Other":3}', {"name": 1, "names": 2, "Other": 3}),
    "the same name in two objects": (b'{"a":{"x":1},"b":{"x":2}}', {"a": {"x": 1}, "b": {"x": 2}}),
    "names beyond ascii": ('{"é":1,"è":2}'.encode(), {"é": 1, "è": 2}),
    "brackets in strings": (b'{"a":"' + b"[{" * 100 + b'\\""}', {"a": "[{" * 100 + '"'}),
    "64 levels": (b"[" * 64 + b"]" * 64, None),
}

REFUSED = {
    "nothing": (b"", "malformed-json"),
    "white space": (b"  ", "malformed-json"),
    "two documents": (b"{}{}", "malformed-json"),
    "a line of json each": (b'{"a":1}\n{"a":2}', "malformed-json"),
    "a trailing comma": (b'{"a":1,}', "malformed-json"),
    "a comment": (b'{"a":1}//x', "malformed-json"),
    "single quotes": (b"{'a':1}", "malformed-json"),
    "a leading zero": (b"01", "malformed-json"),
    "a bare control character": (b'"a\nb"', "malformed-json"),
    "NaN": (b"[NaN]", "malformed-json"),
    "Infinity": (b"-Infinity", "malformed-json"),
    "an open object": (b'{"a":', "malformed-json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not-utf8"),
    "utf-16": ('{"a":1}'.encode("utf-16"), "not-utf8"),
    "utf-16 without a mark": ('{"a":1}'.encode("utf-16-le"), "not-utf8"),
    "utf-32": ('{"a":1}'.encode("utf-32-be"), "not-utf8"),
    "an overlong form": (b'"\xc0\xaf"', "not-utf8"),
    "a surrogate in bytes": (b'"\xed\xa0\x80"', "not-utf8"),
    "latin-1": (b'"\xe9"', "not-utf8"),
    "a member twice": (b'{"name":"greet","name":"drop"}', "duplicate-member"),
    "a member twice by escape": (b'{"method":1,"m\\u0065thod":2}', "duplicate-member"),
    "a member twice, deep inside": (b'{"a":[{"b":{"c":1,"c":1}}]}', "duplicate-member"),
    "a twin by case": (b'{"name":1,"Name":2}', "twin-member"),
    "a twin by long s": ('{"params":1,"param\u017f":2}'.encode(), "twin-member"),
    "a twin by Kelvin sign": ('{"token":1,"to\u212aen":2}'.encode(), "twin-member"),
    "a twin by full width": ('{"id":1,"\uff49\uff44":2}'.encode(), "twin-member"),
    "a twin by dotless i": ('{"id":1,"\u0131d":2}'.encode(), "twin-member"),
    "a twin by composition": ('{"\u00e9":1,"e\u0301":2}'.encode(), "twin-member"),
    "a NUL in a name": (b'{"name\\u0000":1}', "twin-member"),
    "half a surrogate pair": (b'"\\ud800"', "lone-surrogate"),
    "half a pair in a name": (b'{"\\uDFFF":1}', "lone-surrogate"),
    "5,000 digits": (b"[" + b"1" * 5000 + b"]", "inexact-number"),
    "4,001 digits": (b"1" * 4001, "inexact-number"),
    "a float too large": (b"1e400", "inexact-number"),
    "a float too small": (b"1e-400", "inexact-number"),
    "a float too precise": (b"0.10000000000000000001", "inexact-number"),
    "a whole float past 2^53": (b"9007199254740993.0", "inexact-number"),
    "65 levels": (b"[" * 65 + b"]" * 65, "too-deep"),
    "65 levels of both kinds": (b'[{"a":' * 33 + b"1" + b"}]" * 33, "too-deep"),
    "100,000 levels": (b"[" * 100_000, "too-deep"),
    "100,000 levels, closed": (b"[" * 100_000 + b"]" * 100_000, "too-deep"),
    "deep after an escaped quote": (b'["\\"",' + b"[" * 64 + b"]" * 65, "too-deep"),
}


@pytest.mark.parametrize(("data", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_json_that_every_reader_reads_alike_is_accepted(data, value):
    parsed = parse_json(data)
    assert value is None or parsed == value


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_json_that_readers_disagree_on_is_refused(data, reason):
    with pytest.raises(Refusal) as refused:
        parse_json(data)
    assert (refused.value.reason, refused.value.status) == (reason, 400)
    syntax = reason in {"malformed-json", "not-utf8"}
    assert refused.value.code == (PARSE_ERROR if syntax else INVALID_REQUEST)


@pytest.mark.parametrize(("data", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_many_objects_are_read_like_few(data, value):
    parsed = parse_json(b"[" + b'{"x":1},' * 9 + data + b" ] ", max_depth=65)
    assert parsed[:9] == [{"x": 1}] * 9
    assert value is None or parsed[9] == value


REFUSED_INSIDE = {
    name: (data, reason)
    for name, (data, reason) in REFUSED.items()
    if data[:1] in b'{[-0123456789"' and b"\0" not in data and reason != "too-deep"
}


@pytest.mark.parametrize(("data", "reason"), REFUSED_INSIDE.values(), ids=REFUSED_INSIDE)
def test_many_objects_are_refused_like_few(data, reason):
    with pytest.raises(Refusal) as refused:
        parse_json(b"[" + b'{"x":1},' * 9 + data + b"]")
    assert refused.value.reason == reason


def test_names_that_are_alike_in_two_objects_are_no_twins():
    assert parse_json(b"[" + b'{"name":1},{"Name":2},' * 9 + b"{}]")[:2] == [{"name": 1}, {"Name": 2}]


def test_a_refusal_does_not_repeat_the_body():
    with pytest.raises(Refusal) as refused:
        parse_json(b'{"hunter2":"hunter2","hunter2":1}')
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "around", [b"%b", b'[{},{},{},{},{},{},{},{},{},"2026-01-01",%b]'], ids=["alone", "among many"]
)
def test_minus_zero_stays_minus_zero_wherever_it_stands(around):
    assert b"-0.0" in dump_json(parse_json(around % b"-0"))


def test_minus_zero_stays_minus_zero():
    assert math.copysign(1, parse_json(b"-0")) == -1
    assert dump_json(parse_json(b"-0")) == b"-0.0"


@pytest.mark.parametrize(("levels", "is_accepted"), [(64, True), (65, False)])
def test_depth_is_counted_across_a_large_body(levels, is_accepted):
    filler = b'"' + b'[{ \\" ' * 1_000 + b'",'
    data = (b"[" + filler) * levels + b"1" + b"]" * levels
    if is_accepted:
        parse_json(data)
    else:
        with pytest.raises(Refusal, match="too-deep"):
            parse_json(data)


def test_a_limit_of_its_own_can_be_given():
    assert parse_json(b"[[1]]", max_depth=2) == [[1]]
    with pytest.raises(Refusal, match="too-deep"):
        parse_json(b"[[[1]]]", max_depth=2)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
names = st.text('abcdefgh"\\{[é', min_size=1, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100)
@given(values, st.booleans())
def test_what_is_written_reads_back_the_same(value, ascii_only):
    assert parse_json(dump_json(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only, indent=1).encode()) == value


ESCAPES = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
spaces = st.text(" \t\r\n", max_size=2)


@st.composite
def written(draw, value):
    """A JSON text of the value, as any writer may write it: white space, escapes, members in their order."""
    match value:
        case str():
            return '"' + "".join(draw(written_character(character)) for character in value) + '"'
        case list():
            items = ",".join(draw(spaces) + draw(written(item)) + draw(spaces) for item in value)
            return f"[{items or draw(spaces)}]"
        case dict():
            pairs = (
                f"{draw(spaces)}{draw(written(name))}{draw(spaces)}:{draw(spaces)}{draw(written(one))}"
                for name, one in value.items()
            )
            return "{" + (",".join(pairs) or draw(spaces)) + "}"
        case _:
            return json.dumps(value)


def written_character(character):
    code = ord(character)
    units = [code] if code < 0x10000 else [0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF)]
    escaped = "".join(f"\\u{unit:04x}" for unit in units)
    ways = [escaped, escaped.upper().replace("\\U", "\\u")]
    if character in ESCAPES:
        ways.append(ESCAPES[character])
    if code >= 0x20 and character not in '"\\':
        ways.append(character)
    return st.sampled_from(ways)


def exactly(value):
    """A value so that 1, 1.0, true and "1" all differ, and members keep their order."""
    match value:
        case dict():
            return [(name, exactly(one)) for name, one in value.items()]
        case list():
            return [exactly(one) for one in value]
        case _:
            return (type(value).__name__, repr(value))


@given(values.flatmap(lambda value: st.tuples(st.just(value), written(value))))
def test_the_canonical_form_is_one_for_every_way_of_writing_a_value_and_means_the_same(made):
    value, text = made
    canonical = dump_json(parse_json(text.encode()))
    assert canonical == dump_json(value)
    assert dump_json(parse_json(canonical)) == canonical
    assert exactly(json.loads(canonical)) == exactly(json.loads(text)) == exactly(parse_json(text.encode()))


@settings(max_examples=100)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_keeps_its_value_or_is_refused(literal):
    with contextlib.suppress(Refusal):
        assert Fraction(dump_json(parse_json(literal.encode())).decode()) == Fraction(literal)


@settings(max_examples=100)
@given(st.text('[]{}"\\a', max_size=200), st.integers(1, 8))
def test_nothing_but_a_refusal_ever_escapes(text, depth):
    with contextlib.suppress(Refusal):
        parse_json(text.encode(), max_depth=depth)


def test_forwarded_json_is_compact_utf8():
    assert dump_json({"a": [1, 2.5, "é"], "b": None}) == '{"a":[1,2.5,"é"],"b":null}'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json(float("nan"))


DATA = {
    "names that differ in case": (b'{"ID":1,"id":2}', {"ID": 1, "id": 2}),
    "names that differ in form": ('{"e\u0301":1,"\u00e9":2}'.encode(), {"e\u0301": 1, "\u00e9": 2}),
    "a number more precise than a double": (b"0.12345678901234567890", 0.12345678901234568),
    "a number too small": (b"[1e-400]", [0.0]),
    "a byte order mark": (b"\xef\xbb\xbf{}", {}),
    "half of a pair": (
        b'{"a":"x\\ud83d","\\uDE00":["\\ud83d\\ude00\\ud83d"]}',
        {"a": "x\ufffd", "\ufffd": ["\U0001f600\ufffd"]},
    ),
}


@pytest.mark.parametrize(("data", "value"), DATA.values(), ids=DATA)
def test_data_may_be_what_no_request_may(data, value):
    assert parse_data(data) == value
    with pytest.raises(Refusal):
        parse_json(data)


@pytest.mark.parametrize(
    "name", [name for name, (_, reason) in REFUSED.items() if reason not in ("twin-member", "lone-surrogate")]
)
def test_data_that_readers_disagree_on_is_refused_all_the_same(name):
    data, reason = REFUSED[name]
    if name == "a byte order mark":
        data = b"\xef\xbb\xbf" + data  # one may be there
    if name in ("a float too small", "a float too precise", "a whole float past 2^53"):
        assert isinstance(parse_data(data), float)
        return
    with pytest.raises(Refusal) as refused:
        parse_data(data)
    assert refused.value.reason == reason


def test_data_in_which_two_halves_become_one_name_is_refused():
    with pytest.raises(Refusal, match="duplicate-member"):
        parse_data(b'{"\\ud800":1,"\\ud801":2}')


def test_names_may_look_alike_in_data_and_nowhere_else():
    alike = {"ID": 1, "id": 2}
    inside = {"result": {"structuredContent": {"rows": [alike]}}, "id": 1}
    assert parse_data(json.dumps(inside).encode(), twins_below={"structuredContent"}) == inside
    for outside in (alike, {"result": alike}, {"result": {"structuredContent": alike, "tools": [alike]}}):
        with pytest.raises(Refusal, match="twin-member"):
            parse_data(json.dumps(outside).encode(), twins_below={"structuredContent"})


@given(values)
def test_data_is_read_as_any_reader_reads_it(value):
    written = json.dumps(value)
    assert parse_data(written.encode()) == json.loads(written)
