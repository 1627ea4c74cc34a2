import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.policy.source import Fields, Items, Scalar, read_source


def problems(text):
    data = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in read_source(data, "p.yaml")[1]]


def scalar(text):
    fields, found = read_source(f"a: {text}\n".encode(), "p.yaml")
    assert not found
    return fields.fields["a"][1]


def test_a_mapping_is_read_with_the_position_of_every_key_and_value():
    fields, found = read_source(b"a: 1\nb:\n  - x\n  - {c: d}\n", "p.yaml")
    assert not found
    assert fields.fields["a"] == (Scalar("a", "text", "p.yaml:1:1"), Scalar("1", "integer", "p.yaml:1:4"))
    key, value = fields.fields["b"]
    assert key.at == "p.yaml:2:1"
    assert isinstance(value, Items)
    assert value.items[0] == Scalar("x", "text", "p.yaml:3:5")
    assert isinstance(value.items[1], Fields)
    assert value.items[1].at == "p.yaml:4:5"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no", "text"),
        ("off", "text"),
        ("yes", "text"),
        ("'true'", "text"),
        ("true", "boolean"),
        ("False", "boolean"),
        ("~", "null"),
        ("", "null"),
        ("12", "integer"),
        ("-3", "integer"),
        ("0", "integer"),
        ("010", "number"),
        ("1_000", "number"),
        ("0o10", "number"),
        ("0x1F", "number"),
        (".nan", "number"),
        ("-.inf", "number"),
        ("1e3", "number"),
        ("1.5", "number"),
        ("+5", "number"),
        ("12345678901234567890123", "number"),
        ("'12'", "text"),
        ("12:30", "text"),
        ("2027-06-30", "text"),
        ("1.2.3", "text"),
    ],
)
def test_a_plain_value_is_what_yaml_1_2_says_and_a_quoted_one_is_text(text, kind):
    assert scalar(text).kind == kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [1\n", "not YAML", id="invalid"),
        pytest.param("a: b: c\n", "p.yaml:1:5: not YAML", id="invalid with its place"),
        pytest.param("a:\n\tb: 1\n", "p.yaml:2:1: a tab", id="tab indentation"),
        pytest.param("a: 1\t# x\n", "p.yaml:1:5: a tab", id="tab anywhere"),
        pytest.param("a: 'x\0y'\n", "p.yaml:1:6: a control character (U+0000)", id="NUL"),
        pytest.param("a: 1 # \u202e\n", "a control character (U+202E)", id="bidirectional override"),
        pytest.param("a: 1\u2028b: 2\n", "a control character (U+2028)", id="line separator"),
        pytest.param(b"a: \xff\n", "p.yaml:1:1: not UTF-8 text", id="not UTF-8"),
        pytest.param("a: 1\n".encode("utf-16"), "not UTF-8 text", id="UTF-16"),
        pytest.param("a: 1\n---\nb: 2\n", "p.yaml:2:1: a second document", id="two documents"),
        pytest.param("a: 1\n...\nb: 2\n", "a second document", id="two documents by an end mark"),
        pytest.param("%YAML 1.1\n---\na: no\n", "a YAML directive", id="version directive"),
        pytest.param("%TAG ! tag:x,2000:\n---\na: 1\n", "a YAML directive", id="tag directive"),
        pytest.param("a: 1\na: 2\n", "p.yaml:2:1: duplicate key 'a'", id="duplicate key"),
        pytest.param("b: {a: 1, 'a': 2}\n", "p.yaml:1:11: duplicate key 'a'", id="duplicate key, quoted"),
        pytest.param("a: &x 1\n", "p.yaml:1:4: an anchor", id="anchor"),
        pytest.param("a: &x [*x]\n", "an anchor", id="recursive anchor"),
        pytest.param("a: *x\n", "p.yaml:1:4: an alias", id="alias"),
        pytest.param("<<: {a: 1}\n", "p.yaml:1:1: a merge key", id="merge"),
        pytest.param("a: !!python/object/apply:os.system [x]\n", "a tag", id="python tag"),
        pytest.param("a: !foo 1\n", "p.yaml:1:4: a tag", id="private tag"),
        pytest.param("a: !!binary aGk=\n", "a tag", id="binary"),
        pytest.param("a: !!set {x}\n", "a tag", id="set"),
        pytest.param("a: !!timestamp 2027-01-01\n", "a tag", id="timestamp"),
        pytest.param("a: ! x\n", "a tag", id="bare tag"),
        pytest.param("? [a]\n: 1\n", "a key that is a list or a mapping", id="list as key"),
        pytest.param("? {a: 1}\n: 1\n", "a key that is a list or a mapping", id="mapping as key"),
        pytest.param("1: a\n", "p.yaml:1:1: a key that is not a word: '1'", id="number as key"),
        pytest.param("true: a\n", "a key that is not a word", id="boolean as key"),
        pytest.param(": a\n", "a key that is not a word", id="empty key"),
        pytest.param("", "p.yaml:1:1: the file is empty", id="empty"),
        pytest.param("# only a comment\n", "the file is empty", id="comment only"),
        pytest.param("---\n", "the file is empty", id="empty document"),
        pytest.param("- a\n", "the file is not a mapping", id="list"),
        pytest.param("a\n", "the file is not a mapping", id="text"),
        pytest.param("a: " + "[" * 5_000, "nested deeper than 64", id="deep flow"),
        pytest.param(
            "a:\n" + "".join(" " * n + "- \n" for n in range(1, 200)) + " " * 200 + "- x", "", id="deep block"
        ),
        pytest.param("a: " + "x" * (1024 * 1024), "larger than 1 MB", id="large"),
    ],
)
def test_what_could_be_read_two_ways_is_refused_with_its_place(text, expected):
    found = problems(text)
    assert found
    assert any(expected in problem for problem in found)


def test_a_byte_order_mark_is_accepted():
    assert problems("\ufeffa: 1\n") == []


def test_every_duplicate_is_reported_at_once():
    assert len(problems("a: 1\nb: 2\na: 3\nb: {c: 1, c: 2}\n")) == 3


def test_a_deep_file_is_refused_quickly():
    start = time.process_time()
    problems("a: " + "[" * 100_000)
    problems("a: " + "{a: " * 50_000)
    assert time.process_time() - start < 1


@given(st.text(st.sampled_from("ab:-{}[]&*!|>'\"#%?,\n 1~<\t\0é\r"), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_mapping_or_problems_and_never_an_exception(text):
    fields, found = read_source(text.encode(), "p.yaml")
    assert isinstance(fields, Fields) or found


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_give_a_mapping_or_problems_and_never_an_exception(data):
    fields, found = read_source(data, "p.yaml")
    assert isinstance(fields, Fields) or found
