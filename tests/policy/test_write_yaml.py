import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.policy.load import load_policy, read_sections
from coatcheck.policy.source import Scalar, read_source
from coatcheck.policy.suggest import Asks, Suggested, Suggestion
from coatcheck.policy.write_yaml import comment, quoted, suggested_policy, suggested_rules


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_quoted_text_reads_back_as_itself(text):
    fields, problems = read_source(f"a: {quoted(text)}\nb: [{quoted(text)}]\n".encode(), "x")
    assert not problems
    value = fields.fields["a"][1]
    assert isinstance(value, Scalar)
    assert (value.text, value.kind) == (text, "text")
    assert fields.fields["b"][1].items[0].text == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_comment_is_one_line_whatever_is_in_it(text):
    assert read_source(f"{comment(text)}\na: 1\n".encode(), "x")[1] == []


@pytest.mark.parametrize(
    "word", ["true", "No", "null", "1", "1.5", "2027-06-30", "", "~", "a: b", "- a", "*a", "#a", "a #b"]
)
def test_what_could_be_taken_for_something_else_is_quoted(word):
    assert quoted(word).startswith('"')
    assert quoted("shop-ci") == "shop-ci"


RULES = (
    Suggested("a", "shop-ci", "github", "allow", "tools", ("get_*", 'q"'), notes=("wider: \u202ex",)),
    Suggested(
        "b",
        "shop-ci",
        "github",
        "approve",
        "tools",
        ("merge",),
        'args.x == "é"',
        Asks(("sre", "desk"), 2, message="Ask."),
    ),
)


def test_a_suggestion_is_a_whole_policy_with_only_what_it_needs(draft):
    policy = draft.load()
    sections, _ = read_sections(draft.folder / "p.yaml")
    text = suggested_policy(Suggestion(RULES, (), 1), policy, sections)
    assert text.isascii()
    made = draft.load(text)
    assert set(made.servers) == {"github"}
    assert set(made.reviewers) == {"sre", "desk"}
    assert set(made.issuers) == {"github", "corp"}
    assert made.identities == policy.identities
    assert made.servers["github"] == policy.servers["github"]
    assert made.issuers["corp"] == policy.issuers["corp"]
    assert (made.hold, made.audience, made.masks) == (policy.hold, policy.audience, ())
    allow, approve = made.rules
    assert (allow.tools, allow.who, allow.effect) == (("get_*", 'q"'), ("shop-ci",), "allow")
    assert (approve.reviewers, approve.quorum, approve.message) == (("sre", "desk"), 2, "Ask.")
    assert approve.when.source == 'args.x == "é"'


def test_masks_of_its_servers_stay(draft):
    policy = draft.load()
    rule = Suggested("a", "shop-ci", "warehouse", "allow", "tools", ("query",))
    text = suggested_policy(Suggestion((rule,), (), 1), policy, read_sections(draft.folder / "p.yaml")[0])
    made = draft.load(text)
    assert made.masks == policy.masks
    assert made.servers == {"warehouse": policy.servers["warehouse"]}


def test_variables_stay_variables(draft):
    text = draft.edited("url: https://api.githubcopilot.com/mcp/", "url: ${GITHUB}")
    environment = {"GITHUB": "https://github.test/mcp/"}
    policy = draft.load(text, environment=environment)
    made = suggested_policy(Suggestion(RULES, (), 1), policy, read_sections(draft.folder / "p.yaml")[0])
    assert "${GITHUB}" in made
    assert "github.test" not in made


def test_the_rules_alone_are_a_file_of_a_policy(draft):
    (draft.folder / "a.yaml").write_text(draft.text[: draft.text.index("rules:")])
    (draft.folder / "b.yaml").write_text(suggested_rules(Suggestion(RULES, (), 1)))
    assert [rule.id for rule in load_policy(draft.folder).rules] == ["a", "b"]
