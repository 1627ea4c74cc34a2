import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.policy.read_values import read_json_object, read_moment
from coatcheck.policy.shape import Findings
from coatcheck.policy.source import read_source

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(-1e300, 1e300)
    | st.text("ab~é 1-", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(text, reader=read_json_object):
    findings = Findings()
    fields, problems = read_source(text.encode(), "x")
    assert not problems
    return reader(fields.fields["a"][1], findings, what="a"), findings.problems


@given(JSON)
def test_json_reads_as_itself(value):
    assert read(json.dumps({"a": {"b": value}})) == ({"b": value}, [])


@pytest.mark.parametrize(
    "text", ["010", "0o10", "0x1", "1_0", "+1", ".5", "1.", ".nan", "-.inf", "1e999", "99999999999999999999e400"]
)
def test_a_number_that_json_does_not_write_is_refused(text):
    assert read(f"a: {{b: {text}}}")[1]
    assert read("a: {b: -1.5e3}") == ({"b": -1500.0}, [])


@pytest.mark.parametrize("text", ["2026-11-24", "2026-11-24T12:00:00", "x", "12", "[1]", "99999-01-01T00:00:00Z"])
def test_a_moment_has_its_zone(text):
    assert read(f"a: {text}", read_moment)[1]
    assert not read("a: 2026-11-24T12:00:00+01:00", read_moment)[1]
