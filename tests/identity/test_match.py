import hashlib
import time
from datetime import UTC, date, datetime, timedelta
from fnmatch import translate
from re import fullmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import UNAUTHENTICATED, Refusal
from coatcheck.identity.caller import Verified
from coatcheck.identity.match import (
    _claim_matches,
    can_both_match,
    explain_match,
    match_identity,
    match_reviewers,
    read_claim,
)
from coatcheck.policy.model import Identity, IssuerSpec, Reviewer

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ISSUERS = {
    "github": IssuerSpec("github", "https://token.actions.githubusercontent.com", ("RS256",)),
    "corp": IssuerSpec("corp", "https://idp.acme.dev", ("ES256",), groups_claim="realm_access.roles"),
    "flat": IssuerSpec("flat", "https://flat.acme.dev", ("ES256",), groups_claim="groups"),
}
GITHUB = {"repository_id": "74627617", "ref": "refs/heads/main", "run_id": "9", "attempt": 1, "protected": True}


def verified(issuer="github", **claims):
    return Verified(issuer, "sub", claims or GITHUB, "id", NOW + timedelta(minutes=5))


def identity(name="shop-ci", issuer="github", claims=None, **more):
    return Identity(name, issuer, {"repository_id": "74627617"} if claims is None else claims, **more)


def match(token, *identities, now=NOW):
    return match_identity({each.name: each for each in identities}, ISSUERS, token, now=now)


def refusal(token, *identities, now=NOW) -> str:
    with pytest.raises(Refusal) as refused:
        match(token, *identities, now=now)
    assert (refused.value.status, refused.value.code) == (403, UNAUTHENTICATED)
    return refused.value.reason


def test_a_token_is_the_identity_whose_claims_it_has():
    caller = match(verified(), identity(groups=frozenset({"ci"})), identity("other", claims={"repository_id": "1"}))
    assert (caller.name, caller.issuer, caller.subject, caller.token_id) == ("shop-ci", "github", "sub", "id")
    assert (caller.groups, caller.claims) == ({"ci"}, GITHUB)


NAMED = [("ref",), ("job", "stage"), ("kubernetes.io", "namespace"), ("missing",), ("job", "missing"), ("ref", "x")]


def test_a_caller_is_told_by_the_claims_that_the_policy_names_and_by_no_others():
    token = verified("corp", ref="main", job={"stage": "w", "secret": "s"}, email="a@acme.dev", sub="x")
    token.claims["kubernetes.io"] = {"namespace": "shop"}
    token.claims["realm_access"] = {"roles": ["ci"], "more": 1}
    bot = Identity("bot", "corp", {"ref": "main"})
    caller = match_identity({"bot": bot}, ISSUERS, token, now=NOW, named=NAMED)
    assert caller.named == {
        "ref": "main",
        "realm_access.roles": ["ci"],
        "job.stage": "w",
        "kubernetes.io.namespace": "shop",
    }
    assert match_identity({"bot": bot}, ISSUERS, verified("corp", ref="main"), now=NOW).named == {"ref": "main"}


@pytest.mark.parametrize(("length", "is_kept"), [(1000, True), (2000, False)])
def test_a_long_claim_is_told_by_its_digest(length, is_kept):
    text = "x" * length
    caller = match_identity({"bot": identity()}, ISSUERS, verified(**GITHUB, note=text), now=NOW, named=[("note",)])
    digest = hashlib.sha256(f'"{text}"'.encode()).hexdigest()
    assert caller.named["note"] == (text if is_kept else {"sha256": digest})


def test_the_same_claims_from_another_issuer_are_another_token():
    assert refusal(verified("corp", **GITHUB), identity()) == "unknown-identity"


@pytest.mark.parametrize(
    ("pattern", "value", "good"),
    [
        pytest.param("a", "a", True, id="a string"),
        pytest.param("a", "A", False, id="in another case"),
        pytest.param("a", "a ", False, id="with a space"),
        pytest.param("a", "é", False, id="another string"),
        pytest.param("5", 5, False, id="a string is not a number"),
        pytest.param(5, "5", False, id="a number is not a string"),
        pytest.param(5, 5, True, id="a number"),
        pytest.param(5, 5.0, False, id="a number is not a fraction"),
        pytest.param(1, True, False, id="one is not true"),
        pytest.param(True, 1, False, id="true is not one"),
        pytest.param(True, "true", False, id="true is not a word"),
        pytest.param("true", True, False, id="a word is not true"),
        pytest.param(True, True, True, id="true"),
        pytest.param(False, None, False, id="false is not null"),
        pytest.param("a", None, False, id="null is nothing"),
        pytest.param("*", None, False, id="null is not anything"),
        pytest.param("*", 5, False, id="a pattern is for strings"),
        pytest.param("*", "", True, id="anything, nothing too"),
        pytest.param("refs/heads/*", "refs/heads/a/b", True, id="a prefix"),
        pytest.param("refs/heads/*", "refs/heads", False, id="less than a prefix"),
        pytest.param("*/main", "refs/heads/main", True, id="a suffix"),
        pytest.param("a*a", "a", False, id="a letter is not two"),
        pytest.param("a*b*c", "a-b-c", True, id="a middle"),
        pytest.param("a*b*c", "a-c-b", False, id="a middle out of order"),
        pytest.param("a?c", "abc", False, id="a question mark is itself"),
        pytest.param("[ab]", "a", False, id="brackets are themselves"),
        pytest.param(".*", "abc", False, id="no regular expression"),
        pytest.param(("x", "a"), "a", True, id="one of several"),
        pytest.param(("x", "a*"), "abc", True, id="one of several patterns"),
        pytest.param(("x", "y"), "a", False, id="none of several"),
        pytest.param((), "a", False, id="none at all"),
        pytest.param("a", ["b", "a"], True, id="an element of a list"),
        pytest.param("a", ["b", "ab"], False, id="no element of a list"),
        pytest.param("a", [["a"]], False, id="an element of an element"),
        pytest.param("a", [], False, id="an empty list"),
        pytest.param("a", {"a": 1}, False, id="an object"),
        pytest.param("b", "abc", False, id="a letter of a word"),
    ],
)
def test_a_claim_matches_its_pattern_with_its_type(pattern, value, good):
    token = verified(claim=value)
    declared = identity(claims={"claim": pattern})
    if good:
        assert match(token, declared).name == "shop-ci"
    else:
        assert refusal(token, declared) == "unknown-identity"


def test_every_claim_must_match():
    both = {"repository_id": "74627617", "ref": "refs/heads/main"}
    assert match(verified(), identity(claims=both))
    assert refusal(verified(), identity(claims=both | {"ref": "refs/heads/dev"})) == "unknown-identity"
    assert refusal(verified(), identity(claims=both | {"environment": "*"})) == "unknown-identity"


def test_an_identity_without_claims_is_nobody():
    assert refusal(verified(), identity(claims={})) == "unknown-identity"


def test_two_identities_that_match_are_an_error():
    broad = identity("broad", claims={"ref": "refs/*"})
    assert refusal(verified(), identity(), broad) == "ambiguous-identity"
    assert match(verified(), identity()).name == "shop-ci"
    assert match(verified(), broad).name == "broad"


@pytest.mark.parametrize("off", [{"disabled": True}, {"expires": date(2026, 11, 23)}], ids=["disabled", "expired"])
def test_switching_an_identity_off_does_not_make_its_tokens_anothers(off):
    broad = identity("broad", claims={"ref": "refs/*"})
    assert refusal(verified(), identity(**off), broad) == "ambiguous-identity"
    assert refusal(verified(), identity(**off)) in {"identity-disabled", "identity-expired"}


@pytest.mark.parametrize(("day", "good"), [(date(2026, 11, 23), False), (date(2026, 11, 24), True)])
def test_an_identity_is_good_through_the_day_it_expires(day, good):
    late = datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)
    if good:
        assert match(verified(), identity(expires=day), now=late)
        assert refusal(verified(), identity(expires=day), now=late + timedelta(seconds=1)) == "identity-expired"
    else:
        assert refusal(verified(), identity(expires=day), now=late) == "identity-expired"


def test_a_refusal_says_nothing_about_the_policy_or_the_token():
    with pytest.raises(Refusal) as refused:
        match(verified(), identity("secret-name", claims={"ref": "refs/tags/*"}))
    assert not any(word in str(refused.value) for word in ("secret-name", "refs", "74627617"))


@pytest.mark.parametrize(
    ("claims", "name", "value"),
    [
        pytest.param({"a": {"b": {"c": 1}}}, "a.b.c", 1, id="a path"),
        pytest.param({"a.b": 1, "a": {"b": 2}}, "a.b", 1, id="the very name first"),
        pytest.param({"kubernetes.io": {"pod": {"name": "p"}}}, "kubernetes.io.pod.name", "p", id="a dot in a name"),
        pytest.param(
            {"https://sts.amazonaws.com/": {"org_id": "o"}}, "https://sts.amazonaws.com/.org_id", "o", id="URL"
        ),
        pytest.param({"a": {"b.c": 1}, "a.b": {"c": 1}}, "a.b.c", None, id="two readings"),
        pytest.param({"a": [{"b": 1}]}, "a.b", None, id="not through a list"),
        pytest.param({"a": "b"}, "a.b", None, id="not through a string"),
        pytest.param({"a": {"": 1}}, "a.", 1, id="an empty name"),
        pytest.param({}, "a", None, id="nothing"),
        pytest.param({}, "." * 5000, None, id="many dots"),
    ],
)
def test_a_dotted_name_reaches_into_objects_where_it_can_mean_one_thing_only(claims, name, value):
    assert read_claim(claims, name) == value


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        pytest.param({"realm_access": {"roles": ["sre", "dev"]}}, {"own", "sre", "dev"}, id="a list"),
        pytest.param({"realm_access.roles": ["sre"]}, {"own", "sre"}, id="the very name"),
        pytest.param({"realm_access": {"roles": "admin"}}, {"own"}, id="a string"),
        pytest.param({"realm_access": {"roles": {"admin": True}}}, {"own"}, id="an object"),
        pytest.param({"realm_access": {"roles": ["sre", 5]}}, {"own"}, id="not all strings"),
        pytest.param({"realm_access": {"roles": [["admin"]]}}, {"own"}, id="nested"),
        pytest.param({"realm_access": ["roles"]}, {"own"}, id="no such path"),
        pytest.param({"groups": ["admin"]}, {"own"}, id="another claim"),
    ],
)
def test_groups_come_from_the_identity_and_from_a_list_where_the_issuer_keeps_them(claims, groups):
    declared = identity(issuer="corp", claims={"azp": "bot"}, groups=frozenset({"own"}))
    assert match(verified("corp", azp="bot", **claims), declared).groups == groups


def test_a_string_where_the_issuer_keeps_a_list_of_groups_matches_nothing():
    declared = identity(issuer="flat", claims={"groups": "admin"})
    assert match(verified("flat", groups=["dev", "admin"]), declared)
    assert refusal(verified("flat", groups="admin"), declared) == "unknown-identity"


def test_a_person_is_every_reviewer_whose_claims_they_have():
    reviewers = {
        "sre": Reviewer("sre", "corp", {"groups": "sre"}),
        "lead": Reviewer("lead", "corp", {"email": "lead@acme.dev", "groups": ("sre", "lead")}),
        "elsewhere": Reviewer("elsewhere", "github", {"groups": "sre"}),
        "nobody": Reviewer("nobody", "corp", {}),
        "console": Reviewer("console", mitmweb="a person"),
        "local": Reviewer("local", local=("root",)),
    }
    lead = verified("corp", groups=["sre"], email="lead@acme.dev")
    assert match_reviewers(reviewers, lead) == {"sre", "lead"}
    assert match_reviewers(reviewers, verified("corp", groups=["dev"])) == frozenset()


def test_an_explanation_names_claims_and_kinds_and_never_values():
    declared = [
        identity("a-match"),
        identity("b-off", disabled=True),
        identity("c-number", claims={"repository_id": 74627617}),
        identity("d-ref", claims={"ref": "refs/tags/*"}),
        identity("e-missing", claims={"environment": "prod"}),
        identity("f-issuer", issuer="corp"),
        identity("g-empty", claims={}),
    ]
    explained = explain_match({each.name: each for each in declared}, ISSUERS, verified(), now=NOW)
    assert explained == [
        ("a-match", True, "issuer and repository_id match"),
        ("b-off", True, "issuer and repository_id match (disabled)"),
        ("c-number", False, "claim repository_id is a string, the policy has a number"),
        ("d-ref", False, "claim ref has another value"),
        ("e-missing", False, "the token has no claim environment"),
        ("f-issuer", False, "its issuer is corp, the token's is github"),
        ("g-empty", False, "it names no claims"),
    ]


@settings(max_examples=150)
@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_a_glob_means_what_it_means_to_a_shell(pattern, text):
    wanted = fullmatch(translate(pattern), text) is not None
    found = match_reviewers({"r": Reviewer("r", "corp", {"c": pattern})}, verified("corp", c=text))
    assert bool(found) == wanted


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from("abc"), st.booleans() | st.integers(0, 2) | st.sampled_from("012"), min_size=1))
def test_a_token_that_matches_has_every_claim_with_its_type(claims):
    token = verified(a="1", b=1, c=True)
    wanted = all(
        type(token.claims[name]) is type(value) and token.claims[name] == value for name, value in claims.items()
    )
    assert explain_match({"x": identity("x", claims=claims)}, ISSUERS, token, now=NOW)[0][1] == wanted


def test_no_claim_takes_long_to_match():
    text = "a" * 16_000
    began = time.perf_counter()
    for pattern in ("*a" * 50 + "b", "a*" * 50 + "b", "*" * 1000, "a" * 16_000 + "*"):
        match_reviewers({"r": Reviewer("r", "corp", {"c": pattern})}, verified("corp", c=text))
    assert time.perf_counter() - began < 0.5


@st.composite
def values_with_two_patterns(draw):
    """A claim's value, and two patterns that it matches: itself, globs cut out of it, lists of such."""
    value = draw(st.text("ab", max_size=4) | st.booleans() | st.integers(0, 1))

    def pattern():
        if not isinstance(value, str) or draw(st.booleans()):
            return draw(st.sampled_from([value, (value, "else"), ("else", value)]))
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(value))] * 2)))
        return draw(st.sampled_from([value[:start] + "*" + value[end:], value[:start] + "*" + value[start:end] + "*"]))

    return value, pattern(), pattern()


@settings(max_examples=200)
@given(values_with_two_patterns(), values_with_two_patterns())
def test_claims_that_some_token_has_both_of_can_both_match(first, second):
    (p, *p_patterns), (q, *q_patterns) = first, second
    one, other = ({"p": p_pattern, "q": q_pattern} for p_pattern, q_pattern in zip(p_patterns, q_patterns, strict=True))
    for claims in (one, other):
        assert all(_claim_matches({"p": p, "q": q}, name, pattern) for name, pattern in claims.items())
    assert can_both_match(one, other)
    assert can_both_match(other, one)
    assert can_both_match(one, {"r": "x"})


@pytest.mark.parametrize(
    ("one", "other", "can"),
    [
        ({"a": "x"}, {"b": "y"}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": "x", "b": "1"}, {"a": "x"}, True),
        ({"a": ("x", "y")}, {"a": ("y", "z")}, True),
        ({"a": "x*"}, {"a": "xy"}, True),
        ({"a": "x*"}, {"a": "y*"}, False),
        ({"a": "*x"}, {"a": "*y"}, False),
        ({"a": "x*"}, {"a": "*y"}, True),
        ({"a": 5}, {"a": "5"}, False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_two_identities_are_told_apart_by_a_claim_named_in_both(one, other, can):
    assert can_both_match(one, other) is can
