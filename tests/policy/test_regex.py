import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.policy.regex import MAX_STEPS, microseconds, steps


@pytest.mark.parametrize(
    ("expression", "least", "most"),
    [
        ("abc", 3, 3),
        ("a{5}", 5, 6),
        ("a{2,5}", 5, 6),
        ("a{5,}", 5, 6),
        ("(ab){10}", 20, 33),
        ("((a{9}){9})", 81, 200),
        ("[(){9}]{3}", 3, 4),
        ("[]a]{3}", 3, 4),
        ("[[:alpha:](]{3}", 3, 4),
        (r"\({3}", 3, 4),
        (r"\{9}", 1, 4),
        ("(?:a|b)(?i)c(?P<n>d)(?<m>e)", 5, 14),
        (r"\pL", 100, 300),
        (r"[\p{Greek}\PN]", 200, 600),
        ("", 0, 0),
    ],
)
def test_an_expression_is_as_long_as_with_its_repetitions_written_out(expression, least, most):
    assert least <= steps(expression) <= most


@pytest.mark.parametrize(
    "expression",
    ["a{1001}", "(a{99}){99}", "a{900}b{900}", "((((a{9}){9}){9}){9})", "(", ")a", "(a))", r"\Q(\E", r"\pL{9}"],
)
def test_what_is_too_long_or_cannot_be_counted_is_refused(expression):
    with pytest.raises(ValueError, match=r"steps|bracket|for conditions"):
        steps(expression)


PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", r"\d", "[^x(]"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.integers(0, 6)).map(lambda made: f"(?:{made[0]}){{{made[1]}}}"),
        inner.map(lambda made: f"(?:{made})*"),
    ),
    max_leaves=6,
)


def written_out(expression):
    """How many characters an expression of `PARTS` consumes at most if each star is taken once."""
    parsed = re._parser.parse(expression)  # Python's own parser, which counts widths by itself

    def width(items):
        total = 0
        for kind, value in items:
            match str(kind):
                case "MAX_REPEAT":
                    total += max(1 if value[1] > 100 else int(value[1]), 1) * width(value[2])
                case "SUBPATTERN":
                    total += width(value[3])
                case "BRANCH":
                    total += sum(width(one) for one in value[1])
                case _:
                    total += 1
        return total

    return width(parsed)


@given(PARTS)
def test_it_is_never_taken_for_shorter_than_it_is(expression):
    try:
        number = steps(expression)
    except ValueError:
        assert written_out(expression) * 4 > MAX_STEPS
        return
    assert number >= written_out(expression)


@given(st.integers(0, MAX_STEPS), st.integers(0, 65_536), st.integers(0, 100), st.integers(0, 100))
def test_more_steps_or_more_text_never_take_less(number, size, more_steps, more_text):
    assert microseconds(number + more_steps, size + more_text) >= microseconds(number, size)
