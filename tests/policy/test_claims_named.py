"""What the policy names of a caller's claims is told from its conditions alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.policy.conditions import compile_condition


def named(source: str) -> set[str]:
    return {" > ".join(path) for path in compile_condition(source).claims}


@pytest.mark.parametrize(
    ("source", "claims"),
    [
        ('caller.claims.ref == "main"', {"ref"}),
        ('caller.claims["ref"] == "main"', {"ref"}),
        ("caller.claims['ref'] == 'main'", {"ref"}),
        ("caller.claims[r'ref'] == 'main'", {"ref"}),
        (r"""caller.claims["r\x65f"] == 'main'""", {"ref"}),
        ("caller . claims // as a comment says: caller.claims.no\n . ref == 'main'", {"ref"}),
        ('caller.claims.realm_access.roles.exists(r, r == "x")', {"realm_access > roles"}),
        ('caller.claims["kubernetes.io"].namespace == "shop"', {"kubernetes.io > namespace"}),
        ('caller.claims.kubernetes["name.space"] == "shop"', {"kubernetes > name.space"}),
        ('caller.claims.ref.startsWith("refs/") || caller.claims.env == "x"', {"ref", "env"}),
        ("has(caller.claims.ref)", {"ref"}),
        ('"ref" in caller.claims', {"ref"}),
        ('caller.claims.roles[0] == "x"', {"roles"}),
        ("args.x == caller.claims.a + caller.claims.b", {"a", "b"}),
        ("caller.claims[caller.claims.which] == 'x'", {"which"}),
        ("caller.claims[args.which] == 'x'", set()),
        ('caller.claims.exists(name, name == "ref")', set()),
        ("size(caller.claims) == 3", set()),
        ('args.text == "caller.claims.ref"', set()),
        ("args.text == 'x' // caller.claims.ref", set()),
        ("args.caller.claims.ref == 'main'", set()),
        ('"ref" in args && caller.name == "x"', set()),
    ],
)
def test_a_condition_names_the_claims_that_it_looks_at(source, claims) -> None:
    assert named(source) == claims


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_any_name_is_found_in_brackets_and_none_in_a_string(name) -> None:
    literal = '"' + "".join(f"\\U{ord(c):08x}" for c in name) + '"'
    assert named(f"caller.claims[{literal}] == {literal}") == {name}
    assert named(f'args.a == "caller.claims[" && args.b == {literal}') == set()
