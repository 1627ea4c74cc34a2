import pytest


@pytest.mark.parametrize(
    ("old", "new", "where", "what", "hint"),
    [
        pytest.param("rules:", "rule:", "p.yaml:33:1", "unknown key 'rule'", "did you mean 'rules'?", id="top key"),
        pytest.param("    tools: [merge", "    tool: [merge", "p.yaml:42:5", "unknown key 'tool'", "'tools'", id="key"),
        pytest.param("    effect: allow", "    alow: x", "p.yaml:38:5", "unknown key 'alow'", "", id="alow"),
        pytest.param("    effect: allow\n", "", "p.yaml:34:5", "missing key 'effect'", "", id="no effect"),
        pytest.param(
            "effect: allow", "effect: Allow", "p.yaml:38:13", "cannot be 'Allow'", "'allow'", id="effect case"
        ),
        pytest.param("effect: allow", "effect: permit", "p.yaml:38:13", "'permit'", "known: allow,", id="effect"),
        pytest.param("coatcheck: 1", "coatcheck: 2", "p.yaml:1:12", "out of range: 2", "", id="version"),
        pytest.param("coatcheck: 1\n", "", "p.yaml:1:1", "missing key 'coatcheck'", "", id="no version"),
        pytest.param("coatcheck: 1", "coatcheck: '1'", "p.yaml:1:12", "plain whole number", "", id="version as text"),
        pytest.param("tunnel: true", "tunnel: yes", "p.yaml:27:57", "true or false", "unquoted", id="yes"),
        pytest.param("tunnel: true", "tunnel: 'true'", "p.yaml:27:57", "true or false", "", id="quoted boolean"),
        pytest.param("quorum: 2", "quorum: 010", "p.yaml:46:13", "plain whole number", "", id="leading zero"),
        pytest.param("quorum: 2", "quorum: 1_0", "p.yaml:46:13", "plain whole number", "", id="underscore"),
        pytest.param("quorum: 2", "quorum: 1e0", "p.yaml:46:13", "plain whole number", "", id="exponent"),
        pytest.param("quorum: 2", "quorum: .inf", "p.yaml:46:13", "plain whole number", "", id="infinity"),
        pytest.param("quorum: 2", "quorum: 0", "p.yaml:46:13", "out of range: 0", "from 1", id="zero quorum"),
        pytest.param("expires: 15m", "expires: 15", "p.yaml:47:14", "a time such as", "", id="no unit"),
        pytest.param("expires: 15m", "expires: 0s", "p.yaml:47:14", "out of range", "", id="no time"),
        pytest.param("expires: 15m", "expires: 1.5h", "p.yaml:47:14", "a time such as", "", id="fraction"),
        pytest.param("hold: 30s", "hold: 11m", "p.yaml:4:9", "out of range: 11m", "to 10m", id="long hold"),
        pytest.param("hold: 30s", "max_in_flight: 0", "p.yaml:4:18", "out of range", "", id="in flight"),
        pytest.param("hold: 30s", "name: x", "p.yaml:4:3", "unknown key 'name'", "", id="gateway key"),
        pytest.param("expires: 2027-06-30", "expires: 2027-6-30", "p.yaml:18:14", "a date", "", id="short date"),
        pytest.param("expires: 2027-06-30", "expires: 2027-02-30", "p.yaml:18:14", "a date", "", id="no such day"),
        pytest.param("groups: [ci]", "groups: ci", "p.yaml:16:13", "a list, not text", "write [ci]", id="no list"),
        pytest.param("groups: [ci]", "groups: []", "p.yaml:16:13", "an empty list", "", id="empty list"),
        pytest.param("groups: [ci]", "groups: [ci, ci]", "p.yaml:16:18", "given twice", "", id="twice"),
        pytest.param(
            "owner: platform@example.com", "owner: 5", "p.yaml:17:12", "text, not a number", "quote", id="type"
        ),
        pytest.param("owner: platform@example.com", "owner:", "p.yaml:17:5", "text, not nothing", "", id="null"),
        pytest.param("owner: platform@example.com", "owner: ''", "p.yaml:17:12", "owner is empty", "", id="blank"),
        pytest.param("owner: platform@example.com", "owner: ${OWNER}", "p.yaml:17:12", "'${'", "write the", id="env"),
    ],
)
def test_a_mistake_in_form_is_named_with_its_place(draft, old, new, where, what, hint):
    found = draft.faults(draft.edited(old, new))
    assert any(where == at and what in said and hint in helped for at, said, helped in found), found


@pytest.mark.parametrize("word", ["yes", "on", "y", "Yes", "ON", "1", "'true'", "t"])
def test_only_the_booleans_of_yaml_1_2_are_booleans(draft, word):
    found = draft.faults(draft.edited("tunnel: true", f"tunnel: {word}"))
    assert [what.partition(",")[0] for _, what, _ in found] == ["tunnel is true or false"]
    for spelt in ("True", "TRUE"):
        assert draft.load(draft.edited("tunnel: true", f"tunnel: {spelt}")).servers["packages"].tunnel


@pytest.mark.parametrize("word", ["no", "off", "NO", "n"])
def test_a_word_that_yaml_1_1_takes_for_a_boolean_is_a_word(draft, word):
    policy = draft.load(draft.edited("ref: refs/heads/main", f"ref: refs/heads/main, country: {word}"))
    assert policy.identities["shop-ci"].claims["country"] == word


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("who: [group:ci]", "who: &who [group:ci]"),
        ("who: [shop-ci]", "who: *who"),
        ("    tools: [merge", "    <<: {effect: allow}\n    tools: [merge"),
        ("effect: allow", "effect: !!str allow"),
        ("coatcheck: 1", "%YAML 1.2\n---\ncoatcheck: 1"),
    ],
    ids=["anchor", "alias", "merge", "tag", "directive"],
)
def test_a_policy_says_everything_once_and_in_full(draft, old, new):
    assert draft.faults(draft.edited(old, new))
